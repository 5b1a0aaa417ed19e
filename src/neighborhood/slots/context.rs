//! What the two kernels share: the slice, and the lanes of its work.

use super::problem::Slots;
use crate::gpu::limits::GpuLimits;
use crate::kernel::slices::Slice;
use crate::neighborhood::bind::Rows;

/// Lanes of a workgroup.
pub(super) const WORKGROUP_SIZE: u32 = 64;

/// Everything that a slice's kernel depends on.
pub(super) struct Context<'a> {
    pub slots: &'a Slots,
    pub limits: &'a GpuLimits,
    pub slice: Slice,
    /// Lanes of work that a row has.
    pub lanes_a_row: u32,
}

impl Context<'_> {
    /// The slice's tensors.
    pub fn rows(&self) -> Rows<'_> {
        rows(self.slots, self.limits, &self.slice)
    }

    /// Query heads of the slice.
    pub fn q_heads(&self) -> u32 {
        self.slice.q_heads(self.slots.group_size()).len() as u32
    }

    /// Queries that a batch of the slice has.
    pub fn tokens(&self) -> u32 {
        self.slice.queries.iter().map(|range| range.len() as u32).product()
    }

    /// Lanes of work. They are no more than elements that one binding has, or four.
    pub fn items(&self) -> u64 {
        let rows = self.slice.batch.len() as u64 * u64::from(self.tokens());
        rows * u64::from(self.q_heads()) * u64::from(self.lanes_a_row)
    }
}

/// The tensors of a slice.
pub(super) fn rows<'a>(slots: &'a Slots, limits: &GpuLimits, slice: &'a Slice) -> Rows<'a> {
    Rows {
        tensors: &slots.tensors,
        rank: slots.axes.len(),
        group_size: slots.group_size(),
        slice,
        alignment: limits.storage_alignment,
    }
}
