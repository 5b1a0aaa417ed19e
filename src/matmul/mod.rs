//! The tile core of every matmul, host side: `result[row, column] = finish(Σ_d a[row, d] · w[column, d])`.

mod kernel;
mod tiles;

pub(crate) use kernel::{Matmul, Operand, Workgroups};
pub use tiles::MatmulTiles;
