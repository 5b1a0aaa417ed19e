//! Matmuls: `out[row, column] = Σ_d x[row, d] · w[column, d] + bias[column]`, dense as an operator of its own, and the
//! tile core that every matmul of the other operators runs on.
//!
//! Shapes: `x [rows, inner]`, `w [columns, inner]`, `bias [columns]` (f32 or the spec's dtype), `out [rows, columns]`; any
//! stride for rows. w may be numbers or blocks of q8_0, q4_0 or mxfp4 ([`WeightFormat`](crate::tensor::WeightFormat)),
//! dequantised as they are read; sums are f32 and rounded once. Weights in blocks can be multiplied in integers, with x
//! rounded to [`ActivationFormat`](crate::tensor::ActivationFormat): an approximation that is asked for.

// The problem half.
mod operands;
mod problem;
#[cfg(feature = "reference")]
mod reference;
mod spec;
pub(crate) mod weights;
// The kernel half.
mod dense;
mod kernel;
mod operator;
mod plan;
mod tiles;

pub(crate) use kernel::{ByteRows, Matmul, Operand, Rows, Workgroups, add_column_bias, dense_rows};
pub use operands::Operands;
pub use problem::{MatmulExtents, MatmulProblem};
#[cfg(feature = "reference")]
pub use reference::{plain, reference};
pub use spec::MatmulSpec;
pub use tiles::MatmulTiles;
