//! The frame of every fused attention: a domain says which rows and keys there are and which see which; the frame plans the
//! launches and assembles the kernels, which compute, weigh and sum.

#[cfg(feature = "reference")]
pub(crate) mod arithmetic;
mod assemble;
pub(crate) mod classify;
pub(crate) mod domain;
pub(crate) mod forward;
pub(crate) mod merge;
mod modifiers;
pub(crate) mod outputs;
pub(crate) mod plan;
mod score;
mod tiles;

pub use score::{Normaliser, ScoreModifier};
pub(crate) use tiles::MOST_SPLITS;
pub use tiles::{FusedShape, FusedTiles};

/// Largest head_dim and value_dim that the kernels take.
pub const MAX_HEAD_DIM: u32 = 576;
