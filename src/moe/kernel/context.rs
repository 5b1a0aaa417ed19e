//! What all kernels of a plan share: where scratch lies, what binds to what.

use std::ops::Range;

use super::cuts::Cuts;
use super::scratch::{LEAST_BOUND, Scratch};
use super::sections::{BLOCK_PAIRS, Sections};
use crate::error::PlanError;
use crate::gpu::limits::GpuLimits;
use crate::gpu::recording::{Bound, Slot};
use crate::kernel::access::bound_range;
use crate::kernel::packed::Packed;
use crate::matmul::MatmulTiles;
use crate::moe::problem::{MoeProblem, is_expert_weights};
use crate::moe::routing::Router;

/// Tensors whose first axis are tokens.
pub(super) const BY_TOKEN: [&str; 8] =
    ["x", "router_logits", "logit_mask", "token_top_k", "topk_ids", "topk_weights", "gates", "out"];

/// Everything that the kernels depend on.
#[derive(Clone)]
pub(super) struct Context<'a> {
    pub problem: &'a MoeProblem,
    pub limits: &'a GpuLimits,
    pub tiles: MatmulTiles,
    pub sections: Sections,
    pub cuts: Cuts,
    pub packed: Packed,
    pub scratch: [u64; Scratch::ALL.len()],
    /// Tokens that a launch is about: all, or those of a part.
    pub span: Range<u32>,
}

impl Context<'_> {
    /// The same for every part of the tokens.
    pub fn spans(&self) -> impl Iterator<Item = Self> {
        let tokens = self.problem.extents.tokens;
        let step = self.cuts.span_tokens;
        (0..tokens).step_by(step as usize).map(move |first| Self {
            span: first..first.saturating_add(step).min(tokens),
            ..self.clone()
        })
    }

    /// The same with pairs as they were before the capacity dropped some.
    pub fn of_candidates(&self) -> Self {
        let mut candidates = self.clone();
        candidates.sections.experts = candidates.sections.ids;
        candidates
    }

    /// Whether the tokens are computed in several parts.
    pub fn is_cut(&self) -> bool {
        self.cuts.span_tokens < self.problem.extents.tokens
    }

    /// Pairs of token and expert.
    pub fn pairs(&self) -> u32 {
        self.problem.extents.routed() * self.problem.extents.top_k
    }

    /// Those of the tokens here; a soft router's slots have no token.
    pub fn pair_range(&self) -> Range<u32> {
        let e = &self.problem.extents;
        match e.slots {
            0 => self.span.start * e.top_k..self.span.end * e.top_k,
            _ => 0..self.pairs(),
        }
    }

    /// Whether no token goes anywhere.
    pub fn is_empty(&self) -> bool {
        self.pairs() == 0 || self.problem.extents.tokens == 0
    }

    /// Workgroups that count the pairs here.
    pub fn blocks(&self) -> u32 {
        (self.pair_range().len() as u32).div_ceil(BLOCK_PAIRS)
    }

    /// Whether the capacity finds an expert's pairs in a list: where they are more than a workgroup sees at once.
    pub fn lists_candidates(&self) -> bool {
        lists_candidates(self.problem)
    }

    /// Elements between rows of the router's logits.
    pub fn logits_stride(&self) -> u32 {
        let columns = self.problem.extents.router_columns();
        let given = self.problem.tensors.get("router_logits");
        given.map_or(columns, |desc| desc.layout.strides()[0] as u32)
    }

    /// The router's logits, and where those of token 0 would lie: scratch has those of a part alone.
    pub fn logits(&self) -> Result<(Bound, u32), PlanError> {
        if self.problem.has("router_logits") {
            return self.tensor("router_logits");
        }
        let before = self.span.start.wrapping_mul(self.logits_stride());
        Ok((self.scratch(Scratch::Logits)?, before.wrapping_neg()))
    }

    /// A scratch buffer as a binding.
    pub fn scratch(&self, which: Scratch) -> Result<Bound, PlanError> {
        let size = self.scratch[which as usize].max(LEAST_BOUND);
        self.fits(&format!("scratch for {} ({})", which.name(), which.way_out()), size)?;
        Ok(Bound { slot: Slot::Scratch(which as usize), offset: 0, size })
    }

    /// A tensor as a binding, of what has a row a token those here, and where its element 0 would lie.
    pub fn tensor(&self, name: &str) -> Result<(Bound, u32), PlanError> {
        let layout = &self.problem.tensors[name].layout;
        if self.span.len() < self.problem.extents.tokens as usize && BY_TOKEN.contains(&name) {
            return self.bind(name, layout.range_of(self.span.clone()));
        }
        self.bind(name, layout.offset()..layout.end().unwrap_or(u64::MAX))
    }

    /// Some rows of a matrix, and where its element 0 would lie.
    pub fn rows(&self, name: &str, rows: &Range<u32>) -> Result<(Bound, u32), PlanError> {
        self.bind(name, row_range(self.problem, name, rows))
    }

    /// The part of a tensor `[experts here, …]` that is of some of them, of each expert some rows, and where expert 0 of all
    /// would lie.
    pub fn expert_tensor(
        &self,
        name: &str,
        experts: &Range<u32>,
        rows: &Range<u32>,
    ) -> Result<(Bound, u32), PlanError> {
        let layout = &self.problem.tensors[name].layout;
        let start = self.problem.extents.expert_start;
        let range = layout.range_of(experts.start - start..experts.end - start);
        let (stride, all) = (layout.strides()[1], layout.shape()[1]);
        let before = u64::from(rows.start) * stride;
        let behind = all.saturating_sub(rows.end.into()) * stride;
        let (bound, first) = self.bind(name, range.start + before..range.end - behind)?;
        Ok((bound, first.wrapping_sub((u64::from(start) * layout.strides()[0]) as u32)))
    }

    /// A range of a tensor's elements, and where its element 0 would lie.
    fn bind(&self, name: &str, range: Range<u64>) -> Result<(Bound, u32), PlanError> {
        let desc = &self.problem.tensors[name];
        let alignment = self.limits.storage_alignment;
        let (bound, origin) = bound_range(name, desc.dtype, range.start, range.end, alignment);
        self.fits(name, bound.size)?;
        self.lies_in_a_buffer(name, bound.offset.saturating_add(bound.size))?;
        Ok((bound, origin.wrapping_add(desc.layout.offset() as u32)))
    }

    /// A tensor's buffer is no larger than the device takes.
    fn lies_in_a_buffer(&self, name: &str, needed: u64) -> Result<(), PlanError> {
        let available = self.limits.buffer_bytes;
        if needed <= available {
            return Ok(());
        }
        let way_out = if BY_TOKEN.contains(&name) {
            "fewer tokens a call make it smaller"
        } else if is_expert_weights(name) && !name.starts_with("shared_") {
            "fewer experts a call make it smaller: expert_range"
        } else {
            "a device with larger buffers takes it"
        };
        Err(PlanError::Limit {
            what: format!("{name} ({way_out})"),
            limit: "bytes of one buffer (max_buffer_size)",
            needed,
            available,
        })
    }

    /// A binding is no larger than the device takes.
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

/// As [`Context::lists_candidates`].
pub(super) fn lists_candidates(problem: &MoeProblem) -> bool {
    let e = &problem.extents;
    let pairs = u64::from(e.routed()) * u64::from(e.top_k);
    let chooses = !matches!(problem.spec.router, Router::ExpertChoice { .. });
    chooses && problem.capacity().is_some() && pairs > u64::from(BLOCK_PAIRS)
}

/// Elements of some rows of a matrix; of phi, whose experts' slots follow each other, slots are rows.
pub(super) fn row_range(problem: &MoeProblem, name: &str, rows: &Range<u32>) -> Range<u64> {
    let layout = &problem.tensors[name].layout;
    if name != "phi" {
        return layout.range_of(rows.clone());
    }
    let last = layout.shape().len() - 1;
    let (shape, strides) = (layout.shape(), layout.strides());
    let stride = if shape[1] > 1 { strides[1] } else { strides[0] };
    let at = |row: u32| layout.offset() + u64::from(row) * stride;
    at(rows.start)..at(rows.end - 1) + shape[last]
}
