//! The extents of a neighborhood, its axes aside.

/// The extents beside the axes'.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct NeighborhoodExtents {
    /// Number of sequences, images or videos.
    pub batch: u32,
    /// Heads of q and out.
    pub q_heads: u32,
    /// Heads of k and v.
    pub kv_heads: u32,
    /// Elements of a query and of a key.
    pub head_dim: u32,
    /// Elements of a value.
    pub value_dim: u32,
    /// Extra tokens, which every query sees.
    pub extra: u32,
}

impl NeighborhoodExtents {
    /// Query heads that share a key head.
    pub const fn group_size(&self) -> u32 {
        self.q_heads / self.kv_heads
    }
}
