//! The kernel half of matmuls: operands as they are bound and read, and the launches that multiply them.

mod activations;
mod body;
mod constants;
mod launch;
mod operand;
mod rows;
mod weights;

pub(crate) use activations::ByteRows;
pub(super) use launch::split_rows;
pub(crate) use launch::{Matmul, Workgroups, add_column_bias, dense_rows};
pub(crate) use operand::Operand;
pub(crate) use rows::Rows;
