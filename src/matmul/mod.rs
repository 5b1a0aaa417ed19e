//! The tile core of every matmul, host side: `result[row, column] = finish(Σ_d a[row, d] · w[column, d])`.

mod kernel;
mod operand;
mod tiles;
pub(crate) mod weights;

pub(crate) use kernel::{Matmul, Workgroups};
pub(crate) use operand::Operand;
pub use tiles::MatmulTiles;
