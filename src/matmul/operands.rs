//! What a matmul multiplies, as far as tile sets depend on it.

use crate::tensor::{ActivationFormat, Dtype, WeightFormat};

/// What a matmul multiplies, which some tile sets are for alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Operands {
    /// Numbers that f32 holds.
    Floats,
    /// Both operands are f16.
    Halves,
    /// Rows rounded to signed bytes with weights in blocks.
    Bytes,
}

impl Operands {
    /// What rows of a type, rounded or not, are with weights of a format.
    pub(crate) fn of(
        dtype: Dtype,
        weights: WeightFormat,
        activations: Option<ActivationFormat>,
    ) -> Self {
        match (activations, dtype, weights) {
            (Some(ActivationFormat::Mxint8), ..) => Self::Bytes,
            (None, Dtype::F16, WeightFormat::F16) => Self::Halves,
            _ => Self::Floats,
        }
    }
}
