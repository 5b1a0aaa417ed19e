//! What all kernels of a plan share: where scratch lies, what binds to what.

use std::ops::Range;

use super::cuts::Cuts;
use super::scratch::{LEAST_BOUND, Scratch};
use super::sections::{BLOCK_PAIRS, Sections};
use crate::error::PlanError;
use crate::gpu::limits::GpuLimits;
use crate::gpu::recording::{Bound, Slot};
use crate::kernel::access::bound_range;
use crate::matmul::MatmulTiles;
use crate::moe::problem::MoeProblem;

/// Everything that the kernels depend on.
pub(super) struct Context<'a> {
    pub problem: &'a MoeProblem,
    pub limits: &'a GpuLimits,
    pub tiles: MatmulTiles,
    pub sections: Sections,
    pub cuts: Cuts,
    pub scratch: [u64; Scratch::ALL.len()],
}

impl Context<'_> {
    /// Pairs of token and expert.
    pub fn pairs(&self) -> u32 {
        self.problem.extents.routed() * self.problem.extents.top_k
    }

    /// Whether no token goes anywhere.
    pub fn is_empty(&self) -> bool {
        self.pairs() == 0 || self.problem.extents.tokens == 0
    }

    /// Workgroups that count them.
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
