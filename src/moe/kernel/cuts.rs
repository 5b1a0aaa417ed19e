//! Cutting the experts' matmuls: by experts, so that their weights fit bindings, and by tiles, so that a dispatch ends
//! before a watchdog does. How many tiles there are only the device knows: there are dispatches for the most, and
//! those beyond the last tile have no workgroups.

use std::ops::Range;

use crate::error::PlanError;
use crate::gpu::limits::GpuLimits;
use crate::gpu::recording::check_step_count;
use crate::kernel::slices::workgroups_a_dispatch;
use crate::matmul::MatmulTiles;
use crate::moe::problem::MoeProblem;

/// How the experts' matmuls are cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Cuts {
    /// Experts whose weights are bound at once.
    pub slice_experts: u32,
    /// Dispatches of a slice.
    pub windows: u32,
    /// Row tiles of a dispatch.
    pub window_tiles: u32,
    /// Parts that the experts are cut into.
    pub slices: u32,
}

/// A dispatch of the experts' matmuls.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Cut {
    /// Which dispatch.
    pub index: u32,
    /// Experts whose weights are bound.
    pub experts: Range<u32>,
    /// The first of their tiles that it computes.
    pub window_first: u32,
}

impl Cuts {
    /// The fewest that the device takes.
    pub fn of(
        problem: &MoeProblem,
        limits: &GpuLimits,
        tiles: MatmulTiles,
    ) -> Result<Self, PlanError> {
        let local = problem.extents.local_experts();
        let slices = local.div_ceil(bound_experts(problem, limits)?);
        let slice_experts = local.div_ceil(slices);
        let rows = problem.most_rows();
        let most = problem.most_tiles(tiles.tile_rows(), slice_experts.into());
        let flops = problem.row_flops() * (rows.min(tiles.tile_rows().into())) as f64;
        let window_tiles = workgroups_a_dispatch(|| flops, limits).min(most.max(1));
        let windows = most.div_ceil(window_tiles).max(1);
        // Two matmuls an expert.
        let count = windows.saturating_mul(2 * u64::from(local.div_ceil(slice_experts)));
        check_step_count("the experts' matmuls", count)?;
        Ok(Self {
            slice_experts,
            windows: windows as u32,
            window_tiles: window_tiles as u32,
            slices: local.div_ceil(slice_experts),
        })
    }

    /// Dispatches of each matmul.
    pub const fn count(&self) -> u32 {
        self.slices * self.windows
    }

    /// Every dispatch.
    pub fn all(self, problem: &MoeProblem) -> impl Iterator<Item = Cut> {
        let (start, end) = (problem.extents.expert_start, problem.extents.expert_end);
        (0..self.count()).map(move |index| {
            let first = start + index / self.windows * self.slice_experts;
            Cut {
                index,
                experts: first..(first + self.slice_experts).min(end),
                window_first: index % self.windows * self.window_tiles,
            }
        })
    }
}

/// Experts whose weights fit a binding together.
fn bound_experts(problem: &MoeProblem, limits: &GpuLimits) -> Result<u32, PlanError> {
    let local = problem.extents.local_experts();
    let available = limits.storage_binding_bytes;
    let mut fit = local;
    for name in ["w_gate", "w_up", "w_down", "b_gate", "b_up", "b_down"] {
        let Some(desc) = problem.tensors.get(name) else { continue };
        let bytes = |elements: u64| elements.saturating_mul(desc.dtype.bytes());
        let stride = bytes(desc.layout.strides()[0]);
        let whole = bytes(desc.layout.end().unwrap_or(u64::MAX) - desc.layout.offset());
        let one = whole - stride * u64::from(local - 1);
        // A binding starts at a multiple of the alignment, so that up to one more of it is bound.
        let needed = one + u64::from(limits.storage_alignment);
        if whole + u64::from(limits.storage_alignment) <= available {
            continue;
        }
        if needed > available {
            return Err(PlanError::Limit {
                what: format!("{name} of a single expert"),
                limit: "bytes of one binding (max_storage_buffer_binding_size)",
                needed,
                available,
            });
        }
        fit = fit.min((1 + (available - needed) / stride.max(1)).min(u64::from(local)) as u32);
    }
    Ok(fit)
}
