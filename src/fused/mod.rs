//! The tile core of every fused attention: what a kernel is made of, and which tiles it may have.

pub(crate) mod arithmetic;
pub(crate) mod classify;
pub(crate) mod forward;
pub(crate) mod matrix;
pub(crate) mod merge;
pub(crate) mod sides;
pub(crate) mod slices;
pub(crate) mod source;
mod tiles;
mod unroll;

pub(crate) use tiles::MOST_SPLITS;
pub use tiles::{FusedShape, FusedTiles};

/// Largest head_dim and value_dim that the kernels take.
pub const MAX_HEAD_DIM: u32 = 576;
