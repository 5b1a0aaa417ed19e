//! From question, limits and tiles to dispatches. Pure: needs no device.
//!
//! A call is cut into slices of batches and key heads, so that every binding fits, and a slice into a classification of
//! its tiles, where the caller masks, and dispatches of bounded work. A workgroup is a box of queries of one dilation
//! class of one head.

use super::bind::Rows;
use super::kernel::{classify_step, forward_step};
use super::problem::NeighborhoodProblem;
use super::simulate::{candidate_tiles, every_key_is_seen, simulate};
use super::snippets;
use super::tiles::{NeighborhoodTiles, Packing};
use super::window::Axis;
use crate::error::{PlanError, SpecError};
use crate::fused::FusedShape;
use crate::fused::sides::Sides;
use crate::fused::slices::{Slice, dispatches, slices, workgroups_a_dispatch};
use crate::gpu::limits::GpuLimits;
use crate::gpu::recording::{Bound, Plan, Scratch, Slot, check_step_count};
use crate::operator::{Operator, rounded};
use crate::snippet::mask_reads;
use crate::tensor::TensorDesc;

/// Scratch buffers of a plan.
const PACKED: usize = 0;
const TILE_MAP: usize = 1;

/// Everything that a slice's kernels depend on.
pub(super) struct Context<'a> {
    pub problem: &'a NeighborhoodProblem,
    pub limits: &'a GpuLimits,
    pub tiles: NeighborhoodTiles,
    pub packing: Packing,
    pub axes: [Axis; 3],
    /// Every row sees every key of every tile.
    pub every_tile_is_full: bool,
    /// All heads and batches have one map of tiles.
    pub map_is_shared: bool,
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

impl crate::operator::sealed::Sealed for NeighborhoodProblem {}

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
        let masked = self.spec.mask.is_some() || e.extra > 0;
        let every_tile_is_full = !masked && every_key_is_seen(self, tiles);
        let map_is_shared = self.map_is_shared();
        let of_slice = |slice: &Slice| Context {
            problem: self,
            limits,
            tiles: *tiles,
            packing,
            axes,
            every_tile_is_full,
            map_is_shared,
            slice: slice.clone(),
            sides: sides(self, limits),
        };
        let mut steps = sides(self, limits).pack_steps()?;
        let mut map_bytes = 0;
        for slice in slices(e.batch, e.kv_heads, limits, |slice| of_slice(slice).largest_binding())?
        {
            let context = of_slice(&slice);
            if context.by_map() {
                map_bytes = map_bytes.max(context.tile_map().size);
                steps.push(classify_step(&context)?);
            }
            let workgroups = context.workgroups();
            let most = context.workgroups_a_dispatch();
            for (first, count) in dispatches("neighborhood attention", workgroups, most)? {
                steps.push(forward_step(&context, first, count)?);
            }
            check_step_count("neighborhood attention", steps.len() as u64)?;
        }
        let packed_bytes = sides(self, limits).scratch_bytes();
        let scratch = [("packed aux tensors", packed_bytes), ("map of tiles", map_bytes)];
        let scratch = scratch.map(|(name, bytes)| Scratch { name, bytes }).to_vec();
        Plan::fitting(steps, scratch, limits)
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
    /// The caller's mask and the windows are the same for all heads and batches.
    fn map_is_shared(&self) -> bool {
        let mask = snippets::mask(&self.spec, self.axes.len());
        let reads = mask.map(|asked| mask_reads(&self.tensors, asked));
        reads == Some([false; 2]) && self.head_windows().len() == 1
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
        Rows {
            tensors: &self.problem.tensors,
            rank: self.problem.axes.len(),
            group_size: self.problem.extents.group_size(),
            slice: &self.slice,
            alignment: self.limits.storage_alignment,
        }
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
        self.query_boxes() * self.slice.batch.len() as u64 * u64::from(self.q_heads())
    }

    /// Boxes of queries that an image has, of all classes.
    fn query_boxes(&self) -> u64 {
        self.boxes().map(u64::from).iter().product::<u64>() * u64::from(self.classes())
    }

    /// Tiles are classified on the device.
    pub fn by_map(&self) -> bool {
        by_map(self.problem, self.limits)
    }

    /// Words of the map of tiles that a box of queries has: a bit a tile of keys.
    pub fn map_words(&self) -> u64 {
        let window_tiles = self.tiles.most_key_boxes(&self.axes).volume();
        let extra_tiles = self.problem.extents.extra.div_ceil(self.tiles.fused.tile_kv());
        (window_tiles + u64::from(extra_tiles)).div_ceil(32)
    }

    /// Boxes of queries that the map tells apart.
    pub fn map_boxes(&self) -> u64 {
        match self.map_is_shared {
            true => self.query_boxes(),
            false => self.workgroups(),
        }
    }

    pub fn tile_map(&self) -> Bound {
        let size = self.map_boxes().saturating_mul(self.map_words()).saturating_mul(8);
        Bound { slot: Slot::Scratch(TILE_MAP), offset: 0, size }
    }

    /// The largest binding, with its name.
    fn largest_binding(&self) -> (String, u64) {
        let map = if self.by_map() { self.tile_map().size } else { 0 };
        let scratch = [
            ("packed aux tensors".to_owned(), self.sides.scratch_bytes()),
            ("the map of tiles".to_owned(), map),
        ];
        let all = scratch.into_iter().chain([self.rows().largest_binding()]);
        all.max_by_key(|(_, bytes)| *bytes).unwrap_or_default()
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

/// How aux tensors are bound beside the rows that a question has, and the map of tiles.
fn sides<'a>(problem: &'a NeighborhoodProblem, limits: &'a GpuLimits) -> Sides<'a> {
    let names = snippets::aux_names(&problem.spec);
    let core = problem.tensors.len() - names.len() + usize::from(by_map(problem, limits));
    Sides::new(&problem.tensors, names, core as u32, PACKED, limits)
}

/// The caller's mask may empty tiles, or keep them whole: a map tells, where the device has a binding to spare for it.
/// Else every element of a tile is tested.
fn by_map(problem: &NeighborhoodProblem, limits: &GpuLimits) -> bool {
    let names = snippets::aux_names(&problem.spec);
    let others = problem.tensors.len() - names.len() + usize::from(!names.is_empty());
    problem.spec.mask.is_some() && others < limits.storage_buffers as usize
}
