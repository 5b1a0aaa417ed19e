//! The tile core of every fused attention: what a kernel is made of, and which tiles it may have.

pub(crate) mod forward;
pub(crate) mod merge;
pub(crate) mod source;
mod tiles;

pub use tiles::FusedTiles;
