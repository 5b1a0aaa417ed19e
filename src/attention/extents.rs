//! The extents of an attention, and the axes of tensors by what they run over.

/// Largest extent of every axis but the dims, and largest distance of `q_offset` from 0: positions and their sums with
/// mask counts stay within i32.
pub const MAX_SEQ_LEN: u32 = 1 << 29;

/// The extents of an attention.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct AttentionExtents {
    /// Batches of q: sequences, or 1 that holds all packed ones.
    pub batch: u32,
    /// Number of sequences.
    pub sequences: u32,
    /// Heads of q and out.
    pub q_heads: u32,
    /// Heads of k and v.
    pub kv_heads: u32,
    /// Queries a batch.
    pub seq_len_q: u32,
    /// Keys a batch, at most.
    pub seq_len_kv: u32,
    /// Elements of a query and of a key.
    pub head_dim: u32,
    /// Elements of a value.
    pub value_dim: u32,
    /// Keys of the shared prefix; 0 without one.
    pub prefix_len: u32,
    /// How keys lie in pages; zeros where they do not.
    pub pages: PageExtents,
}

/// The extents of keys in pages.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct PageExtents {
    /// Pages that there are.
    pub count: u32,
    /// Keys a page.
    pub size: u32,
    /// Pages that the table holds for a sequence.
    pub of_sequence: u32,
}

impl AttentionExtents {
    /// Query heads that share a key head.
    pub const fn group_size(&self) -> u32 {
        self.q_heads / self.kv_heads
    }
}

/// What an axis of a tensor runs over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Axis {
    Batch,
    Sequences,
    QHeads,
    KvHeads,
    Queries,
    Keys,
    HeadDim,
    ValueDim,
    Prefix,
    Pages,
    PageSize,
    PagesOfSequence,
    /// A number for each sequence, and one for the end of the last.
    SequenceEnds,
    /// Blocks of so many queries.
    QueryBlocks(u32),
    /// Blocks of so many keys.
    KeyBlocks(u32),
}

impl Axis {
    /// Its extent.
    pub fn extent(self, e: &AttentionExtents) -> u64 {
        let blocks = |extent: u32, block: u32| extent.div_ceil(block.max(1));
        let extent = match self {
            Self::Batch => e.batch,
            Self::Sequences => e.sequences,
            Self::QHeads => e.q_heads,
            Self::KvHeads => e.kv_heads,
            Self::Queries => e.seq_len_q,
            Self::Keys => e.seq_len_kv,
            Self::HeadDim => e.head_dim,
            Self::ValueDim => e.value_dim,
            Self::Prefix => e.prefix_len,
            Self::Pages => e.pages.count,
            Self::PageSize => e.pages.size,
            Self::PagesOfSequence => e.pages.of_sequence,
            Self::SequenceEnds => e.sequences + 1,
            Self::QueryBlocks(block) => blocks(e.seq_len_q, block),
            Self::KeyBlocks(block) => blocks(e.seq_len_kv, block),
        };
        u64::from(extent)
    }

    /// Its name in the contract.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Batch | Self::Sequences => "batch",
            Self::QHeads => "q_heads",
            Self::KvHeads => "kv_heads",
            Self::Queries => "seq_len_q",
            Self::Keys => "seq_len_kv",
            Self::HeadDim => "head_dim",
            Self::ValueDim => "value_dim",
            Self::Prefix => "prefix_len",
            Self::Pages => "pages",
            Self::PageSize => "page_size",
            Self::PagesOfSequence => "max_pages",
            Self::SequenceEnds => "batch + 1",
            Self::QueryBlocks(_) => "query blocks",
            Self::KeyBlocks(_) => "key blocks",
        }
    }
}
