//! What an attention tells the frame of its rows and keys: how many, where they lie, which see which.

use crate::error::PlanError;
use crate::fused::classify::Classified;
use crate::fused::{FusedShape, FusedTiles, Normaliser, ScoreModifier};
use crate::gpu::limits::GpuLimits;
use crate::kernel::extra::ExtraInputs;
use crate::kernel::slices::{Cut, Ranges, Slice};
use crate::kernel::source::KernelSource;
use crate::snippet::{Asked, Snippet};
use crate::tensor::TensorDescs;

/// The tensor of gates, by its name in the contract. It counts by being there.
pub(crate) const HEAD_GATE: &str = "head_gate";

/// What is computed, whatever rows and keys are.
#[derive(Clone, Copy)]
pub(crate) struct Call<'a> {
    pub limits: &'a GpuLimits,
    pub tensors: &'a TensorDescs,
    pub shape: FusedShape,
    pub tiles: FusedTiles,
    pub kv_heads: u32,
    /// Query heads that share a key head.
    pub group_size: u32,
    pub softmax_scale: f32,
    pub score: &'a [ScoreModifier],
    pub normaliser: &'a Normaliser,
}

impl Call<'_> {
    /// Whether it has a tensor of this name; an output is there when it is asked for.
    pub fn has(&self, name: &str) -> bool {
        self.tensors.contains_key(name)
    }

    pub fn q_heads(&self) -> u32 {
        self.kv_heads * self.group_size
    }

    /// Weights stand alone: there is no denominator and no lse.
    pub fn is_sigmoid(&self) -> bool {
        matches!(self.normaliser, Normaliser::Sigmoid { .. })
    }

    /// A modifier may give minus infinity, which masks.
    pub fn score_may_mask(&self) -> bool {
        let may = |m: &ScoreModifier| matches!(m, ScoreModifier::Bias(_) | ScoreModifier::Wgsl(_));
        self.score.iter().any(may)
    }

    /// Where nothing but `out` is wanted, rows whose gates are all 0 need not be computed.
    pub fn gate_skips(&self) -> bool {
        self.has(HEAD_GATE) && !self.has("lse")
    }
}

/// One sweep of rows over keys.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Pass {
    /// The keys that it binds; others count as dropped.
    pub keys: Ranges,
    /// The keys are the shared prefix; every query sees all of them, so that batches are packed into rows too.
    pub prefix: bool,
    /// Query heads packed into rows.
    pub group_rows: u32,
    /// Tiles are classified on the device.
    pub by_map: bool,
    /// Number of the first partial result it writes.
    pub part_first: u32,
}

/// The share of a pass that a kernel's workgroups do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Work {
    /// Rows times keys: the first workgroup, and how many.
    Forward { first: u32, count: u32 },
    /// The map of tiles: tiles of rows that it tells apart.
    Map { row_tiles: u32 },
}

impl Work {
    /// The first workgroup, and how many.
    pub const fn range(self) -> (u32, u32) {
        match self {
            Self::Forward { first, count } => (first, count),
            Self::Map { row_tiles } => (0, row_tiles),
        }
    }
}

/// What a slice's kernels depend on.
pub(crate) struct Part<'a> {
    pub call: &'a Call<'a>,
    pub slice: Slice,
    /// Partial results that a row has in all.
    pub parts: u32,
    /// They go to scratch and are merged, instead of straight to the outputs.
    pub merges: bool,
    pub extra: &'a ExtraInputs<'a>,
}

impl Part<'_> {
    pub fn batches(&self) -> u32 {
        self.slice.batch.len() as u32
    }

    pub fn q_heads(&self) -> u32 {
        self.slice.q_heads(self.call.group_size).len() as u32
    }

    /// Queries that a batch of the slice has.
    pub fn queries(&self) -> u32 {
        self.slice.queries.iter().map(|range| range.len() as u32).product()
    }

    /// The first query head of the slice.
    pub fn head_first(&self) -> u32 {
        self.slice.q_heads(self.call.group_size).start
    }
}

/// How the text of a score or a mask names a query and a key.
pub(crate) struct Words {
    /// The WGSL type of a query.
    pub query_type: &'static str,
    /// The query and the key as the caller's functions take them, of a query `q` and a key `kv`.
    pub q: String,
    pub kv: String,
    /// Whether a key has a place at all: the caller's functions and tables are asked of no other.
    pub has_place: Option<&'static str>,
}

/// Rows, keys, and which see which. A domain says it in numbers for the plan and as text for the kernels.
pub(crate) trait Domain {
    /// The operator, as errors name it.
    const NAME: &'static str;

    /// The extents of a call.
    fn extents(&self) -> Cut;

    /// What keys are cut at multiples of, along each of their axes.
    fn key_units(&self) -> [u32; 3] {
        [1; 3]
    }

    /// A slice as large as any of a cut.
    fn widest(&self, cut: &Cut) -> Slice;

    /// A slice with the keys that its queries may see.
    fn with_keys(&self, slice: Slice) -> Slice {
        slice
    }

    /// What a caller can do where a tensor's part of the smallest slice is more than a binding holds.
    fn way_out(&self, name: &str) -> String;

    /// The sweeps that a slice makes, in order; each binds no more keys than the cut has.
    fn passes(&self, slice: &Slice, cut: &Cut) -> Vec<Pass>;

    /// Tiles of rows that a slice has.
    fn row_tiles(&self, part: &Part<'_>, pass: &Pass) -> u64;

    /// Tiles of rows that the map of tiles tells apart.
    fn map_row_tiles(&self, part: &Part<'_>, pass: &Pass) -> u64;

    /// Words of the map that a tile of rows has: a bit a tile of keys.
    fn map_words(&self) -> u64;

    /// Keys that a tile of rows visits, about.
    fn keys_visited(&self, part: &Part<'_>, pass: &Pass) -> f64;

    /// How the map of tiles is made.
    fn classified(&self) -> Classified;

    /// First and one past the last element of a tensor that a slice touches.
    fn element_range(&self, name: &str, slice: &Slice) -> (u64, u64);

    /// The tensors of queries, keys and values that a pass reads.
    fn core(&self, pass: &Pass) -> [&'static str; 3];

    /// The variables that they are bound as.
    fn core_names(&self) -> [&'static str; 3] {
        ["q", "k", "v"]
    }

    /// Binds a tensor by rows as `name`, and writes where they begin: `ROLE_row(batch, head, place)`.
    fn bind_rows(&self, source: &mut KernelSource, part: &Part<'_>, rows: Rows<'_>);

    /// Stands in for rows that a kernel neither reads nor writes.
    fn no_rows(&self, source: &mut KernelSource, name: &str);

    /// Binds what a pass reads beside its core: keys that lie apart.
    fn other_keys(&self, source: &mut KernelSource, part: &Part<'_>, asked: (u32, u32)) {
        let _ = (source, part, asked);
    }

    /// Writes what a query's place is: the type `Place`, `place_number(place)` among the slice's of a batch, and
    /// `place_of(number)`.
    fn places(&self, source: &mut KernelSource, part: &Part<'_>);

    /// Writes the rows and keys of a workgroup: the functions that the bodies call.
    fn write(&self, source: &mut KernelSource, part: &Part<'_>, pass: &Pass, work: Work);

    /// Writes `mask_keeps` and what the domain asks of the mask; says whether it must run checked.
    fn mask(
        &self,
        source: &mut KernelSource,
        part: &Part<'_>,
        pass: &Pass,
    ) -> Result<bool, PlanError>;

    /// How text names queries and keys.
    fn words(&self) -> Words;

    /// A score modifier's function.
    fn score_snippet<'s>(&self, snippet: &'s Snippet) -> Asked<'s>;

    /// Makes an extra input readable: `extraN_get(i)`, and `params.extraN_*` for its indices.
    fn bind_extra(&self, source: &mut KernelSource, part: &Part<'_>, name: &str);

    /// The index of the element of a table over queries and keys for `b, h, q, kv`.
    fn table_index(&self, name: &str) -> String;

    /// How far a query and a key lie apart, for ALiBi; a domain without a distance refuses ALiBi where problems are made.
    fn distance(&self, pass: &Pass) -> String {
        let _ = pass;
        "0.0".to_owned()
    }
}

/// A tensor to bind by its rows.
#[derive(Clone, Copy)]
pub(crate) struct Rows<'a> {
    /// The name of the variable.
    pub name: &'a str,
    /// What its functions and params are called by.
    pub role: &'a str,
    pub tensor: &'a str,
    /// WGSL's type of its elements.
    pub element: &'static str,
    pub writes: bool,
}
