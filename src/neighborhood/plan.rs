//! From question, limits and tiles to dispatches. Pure: needs no device.
//!
//! A call is cut into slices of batches and key heads, so that every binding fits, and a slice into dispatches of
//! bounded work. A workgroup is a box of queries of one dilation class of one head.

use std::ops::Range;

use super::kernel::{element_range, forward_step};
use super::problem::NeighborhoodProblem;
use super::simulate::{candidate_tiles, simulate};
use super::tiles::{NeighborhoodTiles, Packing};
use super::window::Axis;
use crate::error::PlanError;
use crate::gpu::limits::GpuLimits;
use crate::gpu::recording::Plan;
use crate::operator::Operator;
use crate::tensor::TensorDesc;

/// Work of one dispatch, in floating-point operations: about a second on a slow GPU, whose watchdog would end more.
const DISPATCH_FLOPS: f64 = 1e11;

/// Batches and key heads that are computed together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Slice {
    pub batch: Range<u32>,
    pub kv_heads: Range<u32>,
}

/// Everything that a slice's kernels depend on.
pub(super) struct Context<'a> {
    pub problem: &'a NeighborhoodProblem,
    pub limits: &'a GpuLimits,
    pub tiles: NeighborhoodTiles,
    pub packing: Packing,
    pub axes: [Axis; 3],
    pub slice: Slice,
}

impl Operator for NeighborhoodProblem {
    type Tiles = NeighborhoodTiles;

    fn candidates(&self, limits: &GpuLimits) -> Result<Vec<NeighborhoodTiles>, PlanError> {
        let candidates = candidate_tiles(self, limits);
        if candidates.is_empty() {
            return Err(PlanError::Limit {
                what: format!("neighborhood attention with value_dim {}", self.extents.value_dim),
                limit: "bytes of workgroup memory",
                needed: 16 << 10,
                available: u64::from(limits.workgroup_bytes),
            });
        }
        Ok(candidates)
    }

    fn plan(&self, limits: &GpuLimits, tiles: &NeighborhoodTiles) -> Result<Plan, PlanError> {
        let e = &self.extents;
        tiles.check(e.head_dim, e.value_dim, limits)?;
        let axes = self.axes3();
        let packing = tiles.packing(&axes).ok_or_else(|| PlanError::Unsupported {
            what: format!("a window of {:?} keys", self.spec.window),
            reason: format!("coordinates of a block's keys outgrow one word with {tiles}"),
        })?;
        let mut steps = Vec::new();
        for slice in slices(self, limits)? {
            let context = Context { problem: self, limits, tiles: *tiles, packing, axes, slice };
            let workgroups = context.workgroups();
            let most = context.workgroups_a_dispatch();
            for first in (0..workgroups).step_by(most as usize) {
                let count = (workgroups - first).min(most);
                steps.push(forward_step(&context, first as u32, count as u32)?);
            }
        }
        Ok(Plan { steps, scratch: Vec::new() })
    }

    fn tensors(&self) -> Vec<(&str, TensorDesc)> {
        self.tensors.iter().map(|(name, desc)| (name.as_str(), desc.clone())).collect()
    }

    fn outputs(&self) -> Vec<&'static str> {
        ["out", "lse"].into_iter().filter(|name| self.tensors.contains_key(*name)).collect()
    }
}

impl Context<'_> {
    pub fn q_heads(&self) -> u32 {
        self.slice.kv_heads.len() as u32 * self.problem.extents.group_size()
    }

    /// Boxes of queries along each axis, for the longest class.
    pub fn boxes(&self) -> [u32; 3] {
        std::array::from_fn(|i| self.axes[i].boxes(self.tiles.query_box.0[i]))
    }

    /// Dilation classes.
    pub fn classes(&self) -> u32 {
        self.axes.iter().map(|axis| axis.dilation).product()
    }

    pub fn workgroups(&self) -> u64 {
        let boxes = self.boxes().map(u64::from).iter().product::<u64>();
        let heads = self.slice.batch.len() as u64 * u64::from(self.q_heads());
        boxes * u64::from(self.classes()) * heads
    }

    fn workgroups_a_dispatch(&self) -> u64 {
        if self.limits.is_cpu {
            return u64::from(u32::MAX); // no watchdog looks after a processor
        }
        let e = &self.problem.extents;
        let visits = simulate(self.problem, &self.tiles).visits_a_block;
        let dims = f64::from(e.head_dim + e.value_dim);
        let tile = f64::from(self.tiles.fused.tile_q()) * f64::from(self.tiles.fused.tile_kv());
        ((DISPATCH_FLOPS / (2.0 * tile * visits.max(1.0) * dims)) as u64).max(1)
    }
}

/// The fewest slices whose bindings all fit.
fn slices(problem: &NeighborhoodProblem, limits: &GpuLimits) -> Result<Vec<Slice>, PlanError> {
    let e = &problem.extents;
    let (mut batches, mut heads) = (e.batch, e.kv_heads);
    loop {
        // The last slice is never larger than the first, and strides only make later ones start elsewhere.
        let first = Slice { batch: 0..batches, kv_heads: 0..heads };
        match largest_binding(problem, limits, &first) {
            (_, bytes) if bytes <= limits.storage_binding_bytes => break,
            (what, needed) if batches <= 1 && heads == 1 => {
                return Err(PlanError::Limit {
                    what: format!("{what} of a single batch and head"),
                    limit: "bytes of one binding (max_storage_buffer_binding_size)",
                    needed,
                    available: limits.storage_binding_bytes,
                });
            }
            _ if batches > 1 => batches = batches.div_ceil(2),
            _ => heads = heads.div_ceil(2),
        }
    }
    let cut = |extent: u32, step: u32| {
        (0..extent)
            .step_by(step.max(1) as usize)
            .map(move |first| first..(first + step).min(extent))
    };
    Ok(cut(e.batch, batches)
        .flat_map(|batch| {
            cut(e.kv_heads, heads).map(move |kv_heads| Slice { batch: batch.clone(), kv_heads })
        })
        .collect())
}

/// The largest binding of a slice, with its name.
fn largest_binding(
    problem: &NeighborhoodProblem,
    limits: &GpuLimits,
    slice: &Slice,
) -> (String, u64) {
    let tensors = problem.tensors.iter().map(|(name, desc)| {
        let (first, end) = element_range(problem, name, slice);
        let slack = u64::from(limits.storage_alignment); // bindings start at multiples of it
        let bytes = end.saturating_sub(first).saturating_mul(desc.dtype.bytes());
        (name.clone(), bytes.saturating_add(slack))
    });
    tensors.max_by_key(|(_, bytes)| *bytes).unwrap_or_default()
}
