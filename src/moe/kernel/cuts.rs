//! Cutting a call: tokens into parts, so that what has a row for each of them fits bindings; the experts' matmuls by experts,
//! and single experts' by columns, so that their weights do; and by tiles, so that a dispatch ends before a watchdog does. How
//! many tiles there are only the device knows: there are dispatches for the most, and those beyond the last tile have no
//! workgroups.

use std::ops::Range;

use super::fitting::{bound_columns, bound_experts, span_tokens};
use crate::error::PlanError;
use crate::gpu::limits::GpuLimits;
use crate::gpu::recording::check_step_count;
use crate::kernel::slices::workgroups_a_dispatch;
use crate::matmul::MatmulTiles;
use crate::moe::problem::MoeProblem;

/// Steps of a part of the tokens beside the experts' matmuls, at least.
const PART_STEPS: u64 = 4;

/// How a call is cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Cuts {
    /// Tokens that are computed together.
    pub span_tokens: u32,
    /// Experts whose weights are bound at once.
    pub slice_experts: u32,
    /// Dispatches of a slice.
    pub windows: u32,
    /// Row tiles of a dispatch.
    pub window_tiles: u32,
    /// Parts that the experts are cut into.
    pub slices: u32,
    /// Columns of the first matmuls whose weights are bound at once, and of the second one.
    pub part_columns: [u32; 2],
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
    /// Columns whose weights are bound.
    pub columns: Range<u32>,
}

impl Cuts {
    /// The fewest that the device takes.
    pub fn of(
        problem: &MoeProblem,
        limits: &GpuLimits,
        tiles: MatmulTiles,
    ) -> Result<Self, PlanError> {
        let span_tokens = span_tokens(problem, limits)?;
        let local = problem.extents.local_experts();
        let slices = local.div_ceil(bound_experts(problem, limits)?);
        let slice_experts = local.div_ceil(slices);
        let rows = problem.most_rows_of(span_tokens);
        let most = problem.most_tiles(tiles.tile_rows(), slice_experts.into(), span_tokens);
        let flops = problem.row_flops() * (rows.min(tiles.tile_rows().into())) as f64;
        let window_tiles = workgroups_a_dispatch(|| flops, limits).min(most.max(1));
        let windows = most.div_ceil(window_tiles).max(1);
        let gated = problem.spec.activation.is_gated();
        let cuts = Self {
            span_tokens,
            slice_experts,
            windows: u32::try_from(windows).unwrap_or(u32::MAX),
            window_tiles: window_tiles as u32,
            slices: local.div_ceil(slice_experts),
            part_columns: [
                bound_columns(
                    problem,
                    limits,
                    &["w_gate", "w_up"],
                    tiles.part_columns(1 + u32::from(gated)),
                )?,
                bound_columns(problem, limits, &["w_down"], tiles.part_columns(1))?,
            ],
        };
        let spans = u64::from(problem.extents.tokens.div_ceil(span_tokens));
        let parts = cuts.parts(problem).map(u64::from).iter().sum::<u64>();
        let matmuls = u64::from(cuts.slices).saturating_mul(windows).saturating_mul(parts);
        // A part of the tokens takes at least as many other steps.
        let steps = matmuls.saturating_add(PART_STEPS).saturating_mul(spans.max(1));
        if spans > 1 {
            check_step_count("parts of the tokens that fit bindings", steps)?;
        }
        check_step_count("the experts' matmuls", matmuls)?;
        Ok(cuts)
    }

    /// Dispatches of each matmul and part of its columns.
    pub const fn count(&self) -> u32 {
        self.slices * self.windows
    }

    /// Parts of the columns of the first matmuls, and of the second one.
    pub fn parts(&self, problem: &MoeProblem) -> [u32; 2] {
        let e = &problem.extents;
        [e.expert_dim.div_ceil(self.part_columns[0]), e.model_dim.div_ceil(self.part_columns[1])]
    }

    /// Every dispatch of the first matmuls (0), or of the second one (1).
    pub fn all(self, problem: &MoeProblem, matmul: usize) -> impl Iterator<Item = Cut> {
        let e = &problem.extents;
        let (start, end) = (e.expert_start, e.expert_end);
        let (columns, step) = ([e.expert_dim, e.model_dim][matmul], self.part_columns[matmul]);
        let parts = self.parts(problem)[matmul];
        (0..self.count() * parts).map(move |index| {
            let (dispatch, part) = (index / parts, index % parts);
            let first = start + dispatch / self.windows * self.slice_experts;
            let column = part * step;
            Cut {
                index,
                experts: first..(first + self.slice_experts).min(end),
                window_first: dispatch % self.windows * self.window_tiles,
                columns: column..column.saturating_add(step).min(columns),
            }
        })
    }
}
