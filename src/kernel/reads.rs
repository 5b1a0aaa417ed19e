//! How a kernel reads numbers that lie as such or in blocks.

/// How a kernel reads weights.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reads {
    /// `NAME_load4(offset, d)`: elements d to d + 3 of a row, zero from `params.inner` on.
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
