//! How rows are stored, and how a kernel reads them.

use super::access::Access;
use crate::tensor::{BlockFormat, Dtype};

/// How the numbers of rows are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Storage {
    /// As elements of a type.
    Numbers { dtype: Dtype, access: Access },
    /// In blocks, each with its scale in front; `wide`: the binding is whole vectors of four words.
    Blocks { format: BlockFormat, wide: bool },
    /// In blocks of mxfp4 whose scales are a tensor of their own, `NAME_scales`.
    BlocksBesideScales,
}

/// How a kernel reads rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reads {
    /// `NAME_load4(offset, d)`: elements d to d + 3 of a row, zero from `dim` on, which is a constant of the kernel;
    /// `asked` is how far the kernel asks, so that rows which divide evenly are read without a test.
    Rows { dim: u32, asked: u32 },
    /// The same, zero from `params.inner` on.
    Vectors,
    /// The same, and `NAME_half4(offset, d)` as halves.
    Halves,
    /// `NAME_take(offset, d)`: words of a row of blocks; `NAME_run(taken)`: so many vectors that lie in them, where
    /// the format says so, half of them 16 dims beyond the others.
    Runs { vectors: u32 },
    /// `NAME_take(offset, d)`: words of a block; `NAME_block(taken)`: the block as signed bytes.
    Blocks,
    /// `NAME_raw(offset, unit)`: so many vectors of a row as they are stored, from element `4 · vectors · unit` on;
    /// `NAME_vector(raw, v)`: what one of them holds, in blocks before offset and scale.
    Units { vectors: u32 },
}

impl Reads {
    /// The dims of a row, as WGSL.
    pub(super) fn dims(self) -> String {
        match self {
            Self::Rows { dim, .. } => format!("{dim}u"),
            _ => "params.inner".to_owned(),
        }
    }
}
