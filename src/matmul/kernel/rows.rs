//! The rows that weights are multiplied with.

use super::activations::ByteRows;
use super::operand::Operand;
use crate::kernel::reads::Reads;
use crate::kernel::source::KernelSource;
use crate::matmul::operands::Operands;
use crate::tensor::WeightFormat;

/// What weights are multiplied with.
pub(crate) enum Rows {
    Numbers(Operand),
    Bytes(ByteRows),
}

impl Rows {
    /// What they and the weights are.
    pub fn operands(&self, weights: &[Operand]) -> Operands {
        match self {
            Self::Bytes(_) => Operands::Bytes,
            Self::Numbers(a) if a.halves && weights.iter().all(|w| w.halves) => Operands::Halves,
            Self::Numbers(_) => Operands::Floats,
        }
    }

    /// Whether they are wider than the f16 that they are multiplied as.
    pub fn are_wide(&self) -> bool {
        !matches!(self, Self::Numbers(a) if a.format == WeightFormat::F16)
    }

    /// Binds them as `a`, with their reader.
    pub fn bind(&self, source: &mut KernelSource, reads: Reads) {
        match self {
            Self::Numbers(a) => a.bind(source, "a", reads),
            Self::Bytes(a) => a.bind(source, reads),
        }
    }
}
