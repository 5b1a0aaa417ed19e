//! What all kernels of a plan share: where scratch lies, what binds to what.

use std::ops::Range;

use super::cuts::Cuts;
use super::problem::{MoeExtents, MoeProblem};
use super::spec::MoeOutput;
use crate::error::PlanError;
use crate::fused::source::bound_range;
use crate::gpu::limits::GpuLimits;
use crate::gpu::recording::{self, Bound, Slot};
use crate::matmul::{ByteRows, MatmulTiles};

/// Pairs of token and expert that a workgroup counts and places.
pub(super) const BLOCK_PAIRS: u32 = 256;

/// Scratch buffers of a plan, by what they hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(usize)]
pub(super) enum Scratch {
    /// Words in [`Sections`].
    Routing,
    /// f32 `[pairs]`.
    Weights,
    /// f32 `[tokens, router columns]`.
    Logits,
    /// f32 `[rows, expert_dim or shared_dim]`.
    Hidden,
    /// f32 `[rows, model_dim]`.
    Given,
    /// f32 `[tokens, model_dim]`: what the shared expert gave.
    Shared,
    /// f32 `[tokens]`: the shared expert's gate before its sigmoid.
    SharedGate,
    /// f32 `[experts · slots, model_dim]`: inputs of a soft router's slots.
    Slots,
    /// Tokens or slots as bytes, where they are rounded.
    Rounded,
    /// Hidden rows as bytes.
    RoundedHidden,
    /// f32 pairs: maximum and inverse sum of slots, then of tokens; for losses of tokens, then a term an expert.
    Stats,
}

const SCRATCH_COUNT: usize = 11;

/// Bytes of scratch that a kernel binds at least: what stands in for an empty tensor may not be both read and written.
const LEAST_BOUND: u64 = 16;

/// The buffers of these sizes with names for people.
pub(super) fn scratch_buffers(bytes: [u64; SCRATCH_COUNT]) -> Vec<recording::Scratch> {
    let names = [
        "routing",
        "weights",
        "router logits",
        "hidden rows",
        "given rows",
        "shared expert",
        "shared gate",
        "slots",
        "rounded tokens",
        "rounded hidden rows",
        "statistics",
    ];
    let named = names.into_iter().zip(bytes);
    let sized = |bytes: u64| if bytes == 0 { 0 } else { bytes.max(LEAST_BOUND) };
    named.map(|(name, bytes)| recording::Scratch { name, bytes: sized(bytes) }).collect()
}

/// Where the parts of the routing buffer begin, in words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Sections {
    /// `[dispatches, 4]`: workgroups of the experts' first matmuls.
    pub up_grid: u32,
    /// `[dispatches, 4]`: of the second ones.
    pub down_grid: u32,
    /// `[choices]`: rows; of a null expert its pairs.
    pub counts: u32,
    /// `[experts + 1]`: first rows.
    pub offsets: u32,
    /// `[experts + 1]`: first tiles.
    pub tile_first: u32,
    /// `[selectors · sequences]`: pairs dropped.
    pub drops: u32,
    /// `[pairs]`: the chosen expert.
    pub ids: u32,
    /// `[pairs]`: the same where the capacity has room; without a capacity the same words.
    pub experts: u32,
    /// `[pairs]`: a pair's row.
    pub pair_rows: u32,
    /// `[rows]`: a row's pair.
    pub row_pairs: u32,
    /// `[choices, blocks]`: counts, then pairs in the blocks before.
    pub table: u32,
    /// `[tiles, 3]`: expert, first row, end of rows.
    pub tiles: u32,
    /// Words in all.
    pub words: u64,
}

/// Everything that the kernels depend on.
pub(super) struct Context<'a> {
    pub problem: &'a MoeProblem,
    pub limits: &'a GpuLimits,
    pub tiles: MatmulTiles,
    pub sections: Sections,
    pub cuts: Cuts,
    pub scratch: [u64; SCRATCH_COUNT],
}

impl Sections {
    pub fn of(problem: &MoeProblem, cuts: Cuts, tiles: MatmulTiles) -> Result<Self, PlanError> {
        let MoeExtents { experts, top_k, .. } = problem.extents;
        let [experts, choices] = [experts, problem.extents.choices()].map(u64::from);
        let pairs = u64::from(problem.extents.routed()) * u64::from(top_k);
        let rows = problem.most_rows();
        let local = u64::from(problem.extents.local_experts());
        let most_tiles = problem.most_tiles(tiles.tile_rows(), local);
        let capacity = problem.capacity();
        let mut words = 0;
        let mut section = |length: u64| {
            let first = words;
            words += length;
            first as u32
        };
        let up_grid = section(4 * u64::from(cuts.count()));
        let down_grid = section(4 * u64::from(cuts.count()));
        let counts = section(choices);
        let offsets = section(experts + 1);
        let tile_first = section(experts + 1);
        let drops = section(capacity.map_or(0, |c| u64::from(c.sequences) * choices));
        let ids = section(pairs);
        let all = Self {
            up_grid,
            down_grid,
            counts,
            offsets,
            tile_first,
            drops,
            ids,
            experts: if capacity.is_some() { section(pairs) } else { ids },
            pair_rows: section(pairs),
            row_pairs: section(rows),
            table: section(choices * pairs.div_ceil(u64::from(BLOCK_PAIRS))),
            tiles: section(3 * most_tiles),
            words: 0,
        };
        if words > u64::from(u32::MAX) {
            return Err(PlanError::Limit {
                what: "the routing of all tokens".to_owned(),
                limit: "words that kernels can address",
                needed: words,
                available: u64::from(u32::MAX),
            });
        }
        Ok(Self { words, ..all })
    }
}

pub(super) fn scratch_bytes(problem: &MoeProblem, sections: &Sections) -> [u64; SCRATCH_COUNT] {
    let e = &problem.extents;
    let [tokens, routed, top_k] = [e.tokens, e.routed(), e.top_k].map(u64::from);
    let columns = u64::from(e.router_columns());
    let model = u64::from(padded(e.model_dim));
    let rows = problem.most_rows();
    let has = |has: bool, elements: u64| if has { (elements * 4).max(LEAST_BOUND) } else { 0 };
    let shared = e.shared_dim > 0;
    let soft = e.slots > 0;
    let computes = problem.wants(MoeOutput::Out);
    let hidden = (rows * u64::from(padded(e.expert_dim))).max(if shared {
        tokens * u64::from(padded(e.shared_dim))
    } else {
        0
    });
    let mut bytes = [0; SCRATCH_COUNT];
    bytes[Scratch::Routing as usize] = sections.words * 4;
    bytes[Scratch::Weights as usize] = routed * top_k * 4;
    let own_logits = !problem.has("router_logits");
    bytes[Scratch::Logits as usize] = has(own_logits, tokens * columns);
    bytes[Scratch::Hidden as usize] = has(computes, hidden);
    bytes[Scratch::Given as usize] = has(computes, rows * model);
    bytes[Scratch::Shared as usize] = has(computes && shared, tokens * model);
    bytes[Scratch::SharedGate as usize] = has(problem.has("shared_gate_w"), tokens);
    bytes[Scratch::Slots as usize] = has(soft && computes, rows * model);
    let rounded = |rows: u64, dim| match problem.spec.quantise_activations {
        Some(_) if computes => ByteRows::size(rows, dim).max(LEAST_BOUND),
        _ => 0,
    };
    // The shared expert takes the tokens too, and is done with its hidden rows before the others begin.
    let inputs = rounded(if soft { rows } else { tokens }, e.model_dim);
    bytes[Scratch::Rounded as usize] =
        if soft && shared { inputs.max(rounded(tokens, e.model_dim)) } else { inputs };
    bytes[Scratch::RoundedHidden as usize] =
        rounded(rows, e.expert_dim).max(if shared { rounded(tokens, e.shared_dim) } else { 0 });
    bytes[Scratch::Stats as usize] = has(soft || problem.wants_losses(), 2 * (columns + tokens));
    bytes
}

/// Row lengths of scratch matrices: whole vectors of four.
pub(super) const fn padded(dim: u32) -> u32 {
    dim.next_multiple_of(4)
}

impl Context<'_> {
    pub fn pairs(&self) -> u32 {
        self.problem.extents.routed() * self.problem.extents.top_k
    }

    /// Whether no token goes anywhere.
    pub fn is_empty(&self) -> bool {
        self.pairs() == 0 || self.problem.extents.tokens == 0
    }

    pub fn blocks(&self) -> u32 {
        self.pairs().div_ceil(BLOCK_PAIRS)
    }

    /// Elements between rows of the router's logits.
    pub fn logits_stride(&self) -> u32 {
        let columns = self.problem.extents.router_columns();
        let given = self.problem.tensors.get("router_logits");
        given.map_or(columns, |desc| desc.layout.strides()[0] as u32)
    }

    /// A scratch buffer as a binding.
    pub fn scratch(&self, which: Scratch) -> Result<Bound, PlanError> {
        let size = self.scratch[which as usize].max(LEAST_BOUND);
        self.fits(&format!("scratch for {which:?}"), size)?;
        Ok(Bound { slot: Slot::Scratch(which as usize), offset: 0, size })
    }

    /// A whole tensor as a binding, and where its element 0 lies.
    pub fn tensor(&self, name: &str) -> Result<(Bound, u32), PlanError> {
        let desc = &self.problem.tensors[name];
        let layout = &desc.layout;
        let end = layout.end().unwrap_or(u64::MAX);
        let (bound, origin) =
            bound_range(name, desc.dtype, layout.offset(), end, self.limits.storage_alignment);
        self.fits(name, bound.size)?;
        Ok((bound, origin.wrapping_add(layout.offset() as u32)))
    }

    /// The part of a tensor `[experts here, …]` that is of some of them, and where expert 0 of all would lie.
    pub fn expert_tensor(
        &self,
        name: &str,
        experts: &Range<u32>,
    ) -> Result<(Bound, u32), PlanError> {
        let desc = &self.problem.tensors[name];
        let layout = &desc.layout;
        let [start, local] =
            [self.problem.extents.expert_start, self.problem.extents.local_experts()];
        let stride = layout.strides()[0];
        let at = |expert: u32| layout.offset() + u64::from(expert - start) * stride;
        let behind = layout.end().unwrap_or(u64::MAX) - at(start + local - 1);
        let (first, end) = (at(experts.start), at(experts.end - 1) + behind);
        let (bound, origin) =
            bound_range(name, desc.dtype, first, end, self.limits.storage_alignment);
        self.fits(name, bound.size)?;
        let before = (u64::from(start) * stride) as u32;
        Ok((bound, origin.wrapping_add(layout.offset() as u32).wrapping_sub(before)))
    }

    fn fits(&self, what: &str, needed: u64) -> Result<(), PlanError> {
        let available = self.limits.storage_binding_bytes;
        if needed <= available {
            return Ok(());
        }
        Err(PlanError::Limit {
            what: what.to_owned(),
            limit: "bytes of one binding (max_storage_buffer_binding_size)",
            needed,
            available,
        })
    }
}
