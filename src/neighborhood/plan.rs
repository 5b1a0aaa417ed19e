//! From question, limits and tiles to dispatches. Pure: needs no device.
//!
//! A call is cut into slices of batches and key heads, so that every binding fits, and a slice into dispatches of
//! bounded work. A workgroup is a box of queries of one dilation class of one head.

use super::bind::Rows;
use super::kernel::forward_step;
use super::problem::NeighborhoodProblem;
use super::simulate::{Simulation, candidate_tiles, simulate};
use super::snippets;
use super::tiles::{NeighborhoodTiles, Packing};
use super::window::Axis;
use crate::error::{PlanError, SpecError};
use crate::fused::FusedShape;
use crate::fused::sides::Sides;
use crate::fused::slices::{Slice, slices, workgroups_a_dispatch};
use crate::gpu::limits::GpuLimits;
use crate::gpu::recording::{Plan, Scratch};
use crate::operator::{Operator, rounded};
use crate::tensor::TensorDesc;

/// Everything that a slice's kernels depend on.
pub(super) struct Context<'a> {
    pub problem: &'a NeighborhoodProblem,
    pub limits: &'a GpuLimits,
    pub tiles: NeighborhoodTiles,
    pub packing: Packing,
    pub axes: [Axis; 3],
    /// Every row sees every key of every tile.
    pub every_tile_is_full: bool,
    pub slice: Slice,
    pub sides: Sides<'a>,
}

impl NeighborhoodProblem {
    /// What tiles are chosen for.
    pub(crate) fn fused_shape(&self) -> FusedShape {
        let e = &self.extents;
        FusedShape { head_dim: e.head_dim, value_dim: e.value_dim, dtype: self.spec.dtype }
    }
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
        tiles.check(self.fused_shape(), limits)?;
        let axes = self.axes3();
        let packing = tiles.packing(&axes).ok_or_else(|| PlanError::Unsupported {
            what: format!("a window of {:?} keys", self.spec.window),
            reason: format!("coordinates of a block's keys outgrow one word with {tiles}"),
        })?;
        let every_tile_is_full = self.every_tile_is_full(tiles);
        let mut steps = sides(self, limits).pack_steps()?;
        for slice in
            slices(e.batch, e.kv_heads, limits, |slice| largest_binding(self, limits, slice))?
        {
            let sides = sides(self, limits);
            let context = Context {
                problem: self,
                limits,
                tiles: *tiles,
                packing,
                axes,
                every_tile_is_full,
                slice,
                sides,
            };
            let workgroups = context.workgroups();
            let most = context.workgroups_a_dispatch();
            for first in (0..workgroups).step_by(most as usize) {
                let count = (workgroups - first).min(most);
                steps.push(forward_step(&context, first as u32, count as u32)?);
            }
        }
        let bytes = sides(self, limits).scratch_bytes();
        Ok(Plan { steps, scratch: vec![Scratch { name: "packed aux tensors", bytes }] })
    }

    fn tensors(&self) -> Vec<(&str, TensorDesc)> {
        self.tensors.iter().map(|(name, desc)| (name.as_str(), desc.clone())).collect()
    }

    fn outputs(&self) -> Vec<&'static str> {
        ["out", "lse"].into_iter().filter(|name| self.tensors.contains_key(*name)).collect()
    }

    fn bucket(&self) -> Self {
        // What cannot be rounded stands for itself.
        self.rounded().unwrap_or_else(|_| self.clone())
    }
}

impl NeighborhoodProblem {
    /// Nothing is masked, and no block has fewer tiles than another: where windows and boxes divide.
    fn every_tile_is_full(&self, tiles: &NeighborhoodTiles) -> bool {
        let Simulation { blocks, tiles_visited, tiles_full, .. } = simulate(self, tiles);
        let whole = blocks * tiles.most_key_boxes(&self.axes3()).volume();
        let masked = self.spec.mask.is_some() || self.extents.extra > 0;
        !masked && tiles_full == tiles_visited && tiles_visited == whole
    }

    /// The same question with batch, axes and extra tokens rounded, without gaps.
    fn rounded(&self) -> Result<Self, SpecError> {
        let mut spec = self.spec.clone();
        spec.batch = spec.batch.map(rounded);
        spec.spatial = spec.spatial.map(|axes| axes.into_iter().map(rounded).collect());
        let mut tensors = spec.assumed_tensors()?;
        let outputs = self.outputs();
        for (name, desc) in &self.tensors {
            // What is left are extra tokens and the caller's aux tensors.
            if !tensors.contains_key(name) && !outputs.contains(&name.as_str()) {
                let mut shape = desc.shape().to_vec();
                if name.starts_with("extra_") {
                    shape[..2].iter_mut().for_each(|extent| *extent = extent.next_power_of_two());
                }
                tensors.insert(name.clone(), TensorDesc::contiguous(desc.dtype, &shape));
            }
        }
        Self::new(&spec, &tensors)
    }
}

impl Context<'_> {
    pub fn q_heads(&self) -> u32 {
        self.slice.kv_heads.len() as u32 * self.problem.extents.group_size()
    }

    /// The tensors of its slice.
    pub fn rows(&self) -> Rows<'_> {
        rows(self.problem, self.limits, &self.slice)
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
        let e = &self.problem.extents;
        let flops = || {
            let visits = simulate(self.problem, &self.tiles).visits_a_block;
            let dims = f64::from(e.head_dim + e.value_dim);
            let fused = &self.tiles.fused;
            let tile = f64::from(fused.tile_q()) * f64::from(fused.tile_kv());
            2.0 * tile * visits.max(1.0) * dims
        };
        workgroups_a_dispatch(flops, self.limits)
    }
}

/// How aux tensors are bound beside the rows that a question has.
fn sides<'a>(problem: &'a NeighborhoodProblem, limits: &'a GpuLimits) -> Sides<'a> {
    let names = snippets::aux_names(&problem.spec);
    let core = problem.tensors.len() - names.len();
    Sides::new(&problem.tensors, names, core as u32, 0, limits)
}

/// The largest binding of a slice, with its name.
fn largest_binding(
    problem: &NeighborhoodProblem,
    limits: &GpuLimits,
    slice: &Slice,
) -> (String, u64) {
    let packed = ("packed aux tensors".to_owned(), sides(problem, limits).scratch_bytes());
    let largest = rows(problem, limits, slice).largest_binding();
    if packed.1 > largest.1 { packed } else { largest }
}

fn rows<'a>(problem: &'a NeighborhoodProblem, limits: &GpuLimits, slice: &'a Slice) -> Rows<'a> {
    Rows {
        tensors: &problem.tensors,
        rank: problem.axes.len(),
        group_size: problem.extents.group_size(),
        slice,
        alignment: limits.storage_alignment,
    }
}
