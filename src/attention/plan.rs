//! From question, limits and tiles to dispatches. Pure: needs no device.
//!
//! A call is cut into slices of batches and key heads (so that every binding fits), a slice into passes (the shared
//! prefix, the keys of k and v), a pass into a classification of its tiles, where the mask needs one, and forward
//! dispatches of bounded work. Where a row's keys are split over passes or workgroups, a merge ends the slice.

use std::collections::BTreeMap;

use super::bind::sides;
use super::kernel::{Pass, classify_step, forward_step, partial_merge_step};
use super::mask::Mask;
use super::mask_wgsl;
use super::problem::AttentionProblem;
use super::storage::Storage;
use crate::error::PlanError;
use crate::fused::sides::Sides;
use crate::fused::slices::{Slice, dispatches, slices, workgroups_a_dispatch};
use crate::fused::{FusedShape, FusedTiles, MOST_SPLITS};
use crate::gpu::limits::GpuLimits;
use crate::gpu::recording::{Plan, Scratch, Step, check_step_count};
use crate::operator::Operator;
use crate::tensor::{HostTensor, TensorDesc};

/// Keys below which a row's are not split further.
const LEAST_KEYS_A_SPLIT: u64 = 128;

/// Everything that a pass's kernels depend on.
pub(super) struct Context<'a> {
    pub problem: &'a AttentionProblem,
    pub limits: &'a GpuLimits,
    pub tiles: FusedTiles,
    pub slice: Slice,
    /// Partial results a row has in all; 1 is written straight to the outputs.
    pub parts: u32,
    /// Maps of tiles differ between batches, and between heads.
    pub map_differs: [bool; 2],
    pub sides: Sides<'a>,
}

/// Scratch buffers of a plan, by what they hold.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct ScratchBytes {
    pub tile_map: u64,
    pub part_outs: u64,
    pub part_lses: u64,
    pub sides: u64,
}

impl ScratchBytes {
    pub const TILE_MAP: usize = 0;
    pub const PART_OUTS: usize = 1;
    pub const PART_LSES: usize = 2;
    pub const SIDES: usize = 3;

    /// The buffers, by their indices above.
    fn buffers(self) -> Vec<Scratch> {
        let Self { tile_map, part_outs, part_lses, sides } = self;
        let names = ["map of tiles", "partial out", "partial lse", "packed side tensors"];
        let bytes = [tile_map, part_outs, part_lses, sides];
        names.into_iter().zip(bytes).map(|(name, bytes)| Scratch { name, bytes }).collect()
    }

    fn max(self, other: Self) -> Self {
        Self {
            tile_map: self.tile_map.max(other.tile_map),
            part_outs: self.part_outs.max(other.part_outs),
            part_lses: self.part_lses.max(other.part_lses),
            sides: self.sides.max(other.sides),
        }
    }
}

impl AttentionProblem {
    /// Sequences may have fewer keys than the extents say.
    pub(super) fn has_own_lens(&self) -> bool {
        self.storage != Storage::Padded || self.tensors.contains_key("kv_lens")
    }

    /// What tiles are chosen for.
    pub(crate) fn fused_shape(&self) -> FusedShape {
        let e = &self.extents;
        FusedShape { head_dim: e.head_dim, value_dim: e.value_dim, dtype: self.spec.dtype }
    }
}

impl crate::operator::sealed::Sealed for AttentionProblem {}

impl Operator for AttentionProblem {
    type Tiles = FusedTiles;

    fn candidates(&self, limits: &GpuLimits) -> Result<Vec<FusedTiles>, PlanError> {
        let e = &self.extents;
        let rows = self.typical_lens()[0] * u64::from(e.group_size());
        let candidates =
            FusedTiles::candidates(self.fused_shape(), rows, self.dense_flops(), limits);
        if candidates.is_empty() {
            return Err(PlanError::Limit {
                what: format!("attention with value_dim {}", e.value_dim),
                limit: "bytes of workgroup memory",
                needed: 16 << 10,
                available: u64::from(limits.workgroup_bytes),
            });
        }
        let split = |tiles: FusedTiles| tiles.with_kv_splits(self.splits(tiles, limits));
        let mut candidates: Vec<FusedTiles> = candidates.into_iter().map(split).collect();
        candidates.extend(self.other_splits(candidates[0]));
        Ok(candidates)
    }

    fn plan(&self, limits: &GpuLimits, tiles: &FusedTiles) -> Result<Plan, PlanError> {
        let e = &self.extents;
        tiles.check(self.fused_shape(), limits)?;
        if e.batch == 0 || e.sequences == 0 || e.seq_len_q == 0 {
            return Ok(Plan { steps: Vec::new(), scratch: Vec::new() });
        }
        let mut steps = Vec::new();
        let mut scratch = ScratchBytes::default();
        let passes = passes(self, *tiles);
        let parts = tiles.kv_splits() * passes.len() as u32;
        let map_differs = mask_wgsl::map_differs(self);
        let of_slice = |slice: &Slice| Context {
            problem: self,
            limits,
            tiles: *tiles,
            slice: slice.clone(),
            parts,
            map_differs,
            sides: sides(self, limits),
        };
        let largest = |slice: &Slice| largest_binding(&of_slice(slice), &passes);
        for slice in slices(e.batch, e.kv_heads, limits, largest)? {
            let (slice_steps, slice_scratch) = plan_slice(&of_slice(&slice), &passes)?;
            steps.extend(slice_steps);
            scratch = scratch.max(slice_scratch);
            check_step_count("attention", steps.len() as u64)?;
        }
        Plan::fitting(steps, scratch.buffers(), limits)
    }

    fn tensors(&self) -> Vec<(&str, TensorDesc)> {
        let in_callers_order = |name: &str, desc: &TensorDesc| TensorDesc {
            dtype: desc.dtype,
            layout: self.storage.outward(name, &desc.layout, self.spec.layout),
        };
        let tensors = self.tensors.iter();
        tensors.map(|(name, desc)| (name.as_str(), in_callers_order(name, desc))).collect()
    }

    fn outputs(&self) -> Vec<&'static str> {
        ["out", "lse"].into_iter().filter(|name| self.tensors.contains_key(*name)).collect()
    }

    fn bucket(&self) -> Self {
        // What cannot be rounded stands for itself.
        super::bucket::bucket(self).unwrap_or_else(|_| self.clone())
    }

    fn sample(&self, seed: u64) -> BTreeMap<String, HostTensor> {
        super::sample::sample(self, seed)
    }
}

impl AttentionProblem {
    /// Splits of the keys that fill the device when there are few rows.
    fn splits(&self, tiles: FusedTiles, limits: &GpuLimits) -> u32 {
        let e = &self.extents;
        let group_rows = group_rows(self, tiles);
        let rows = u64::from(e.seq_len_q) * u64::from(group_rows);
        let groups = u64::from(e.batch) * u64::from(e.q_heads / group_rows);
        let workgroups = (rows.div_ceil(u64::from(tiles.tile_q())) * groups).max(1);
        let wanted = limits.filling_workgroups(tiles.workgroup_size());
        (wanted / workgroups).clamp(1, self.most_splits(tiles)) as u32
    }

    /// Splits that leave each part enough key tiles.
    fn most_splits(&self, tiles: FusedTiles) -> u64 {
        let least = LEAST_KEYS_A_SPLIT.next_multiple_of(u64::from(tiles.tile_kv()));
        (self.typical_lens()[1] / least).clamp(1, MOST_SPLITS.into())
    }

    /// The same tiles without splits, and with fewer and more of them: how many workgroups a device holds is a guess that
    /// measuring corrects.
    fn other_splits(&self, tiles: FusedTiles) -> Vec<FusedTiles> {
        let chosen = tiles.kv_splits();
        let most = self.most_splits(tiles) as u32;
        let mut others = vec![1, chosen / 4, chosen / 2, chosen * 2, chosen * 4];
        others.retain(|&splits| (1..=most).contains(&splits) && splits != chosen);
        others.dedup();
        others.into_iter().map(|splits| tiles.with_kv_splits(splits)).collect()
    }
}

fn plan_slice(
    context: &Context<'_>,
    passes: &[Pass],
) -> Result<(Vec<Step>, ScratchBytes), PlanError> {
    let scratch = scratch_bytes(context, passes);
    let mut steps = Vec::new();
    if context.slice.batch.start == 0 && context.slice.kv_heads.start == 0 {
        steps.extend(context.sides.pack_steps()?);
    }
    for pass in passes {
        if pass.by_map {
            steps.push(classify_step(context, pass)?);
        }
        let workgroups = context.workgroups(pass);
        let most = context.workgroups_a_dispatch(pass);
        for (first, count) in dispatches("attention", workgroups, most)? {
            steps.push(forward_step(context, pass, first, count)?);
        }
    }
    if context.parts > 1 {
        steps.push(partial_merge_step(context)?);
    }
    Ok((steps, scratch))
}

/// The prefix, if any, then the keys of k and v.
fn passes(problem: &AttentionProblem, tiles: FusedTiles) -> Vec<Pass> {
    let group_rows = group_rows(problem, tiles);
    let own = Pass {
        prefix: false,
        group_rows,
        by_map: mask_wgsl::traits(&problem.spec.mask).by_map,
        part_first: 0,
    };
    if problem.extents.prefix_len == 0 {
        return vec![own];
    }
    let prefix = Pass {
        prefix: true,
        group_rows: problem.extents.group_size(),
        by_map: false,
        part_first: 0,
    };
    vec![prefix, Pass { part_first: tiles.kv_splits(), ..own }]
}

/// Query heads packed into a tile's rows: all of a group when its queries leave most of a tile idle.
fn group_rows(problem: &AttentionProblem, tiles: FusedTiles) -> u32 {
    let [queries, _] = problem.typical_lens();
    let idle = queries * 2 <= u64::from(tiles.tile_q());
    if idle || queries == 1 { problem.extents.group_size() } else { 1 }
}

impl Context<'_> {
    pub fn batches(&self) -> u32 {
        self.slice.batch.len() as u32
    }

    pub fn kv_heads(&self) -> u32 {
        self.slice.kv_heads.len() as u32
    }

    pub fn q_heads(&self) -> u32 {
        self.kv_heads() * self.problem.extents.group_size()
    }

    /// Groups of heads that workgroups iterate over.
    pub fn head_groups(&self, pass: &Pass) -> u32 {
        self.q_heads() / pass.group_rows
    }

    /// Rows that a head group has: queries, packed heads, packed batches.
    pub fn rows(&self, pass: &Pass) -> u64 {
        let batches = if pass.prefix { self.batches() } else { 1 };
        let queries = u64::from(self.problem.extents.seq_len_q) * u64::from(batches);
        queries * u64::from(pass.group_rows)
    }

    pub fn q_tiles(&self, pass: &Pass) -> u64 {
        let tile_q = u64::from(self.tiles.tile_q());
        match self.problem.storage {
            // Sequences end within tiles: see row_tile.
            Storage::Packed => self.rows(pass) / tile_q + u64::from(self.problem.extents.sequences),
            Storage::Padded | Storage::Paged => self.rows(pass).div_ceil(tile_q),
        }
    }

    /// Workgroups of a pass without splits.
    pub fn row_tiles(&self, pass: &Pass) -> u64 {
        let batches = if pass.prefix { 1 } else { u64::from(self.batches()) };
        self.q_tiles(pass) * u64::from(self.head_groups(pass)) * batches
    }

    /// Groups of heads that the map of tiles tells apart.
    pub fn map_head_groups(&self, pass: &Pass) -> u32 {
        if self.map_differs[1] { self.head_groups(pass) } else { 1 }
    }

    /// Tiles of rows that the map of tiles tells apart.
    pub fn map_row_tiles(&self, pass: &Pass) -> u64 {
        let batches = if self.map_differs[0] { u64::from(self.batches()) } else { 1 };
        self.q_tiles(pass) * u64::from(self.map_head_groups(pass)) * batches
    }

    pub fn workgroups(&self, pass: &Pass) -> u64 {
        self.row_tiles(pass).saturating_mul(self.tiles.kv_splits().into())
    }

    /// Nothing is masked and no tile is cut off.
    pub fn every_tile_is_full(&self, pass: &Pass) -> bool {
        let p = self.problem;
        let (keys, differ) = if pass.prefix {
            (p.extents.prefix_len, false)
        } else {
            (p.extents.seq_len_kv, p.has_own_lens() || p.spec.mask != Mask::Full)
        };
        !differ && keys.is_multiple_of(self.tiles.tile_kv())
    }

    /// Words of the tile map that a tile of rows has: a bit a key tile.
    pub fn map_words(&self) -> u64 {
        let tiles =
            u64::from(self.problem.extents.seq_len_kv).div_ceil(u64::from(self.tiles.tile_kv()));
        tiles.div_ceil(32).max(1)
    }

    fn workgroups_a_dispatch(&self, pass: &Pass) -> u64 {
        let e = &self.problem.extents;
        let keys = if pass.prefix { e.prefix_len } else { e.seq_len_kv };
        let keys = f64::from(keys) / f64::from(self.tiles.kv_splits());
        let dims = f64::from(e.head_dim + e.value_dim);
        let flops = 2.0 * f64::from(self.tiles.tile_q()) * keys.max(1.0) * dims;
        workgroups_a_dispatch(|| flops, self.limits)
    }
}

fn scratch_bytes(context: &Context<'_>, passes: &[Pass]) -> ScratchBytes {
    let e = &context.problem.extents;
    let maps = passes.iter().filter(|pass| pass.by_map);
    let tile_map = maps.map(|pass| context.tile_map(pass).size).sum();
    let sides = context.sides.scratch_bytes();
    if context.parts == 1 {
        return ScratchBytes { tile_map, part_outs: 0, part_lses: 0, sides };
    }
    let rows = u64::from(context.batches()) * u64::from(context.q_heads()) * u64::from(e.seq_len_q);
    let rows = rows.saturating_mul(context.parts.into());
    let row_bytes = 16 * u64::from(e.value_dim.div_ceil(4));
    let part_outs = rows.saturating_mul(row_bytes);
    ScratchBytes { tile_map, part_outs, part_lses: rows.saturating_mul(4), sides }
}

/// The largest binding of a slice, with its name.
fn largest_binding(context: &Context<'_>, passes: &[Pass]) -> (String, u64) {
    let Context { problem, limits, slice, .. } = context;
    let scratch = scratch_bytes(context, passes);
    let tensors = problem.tensors.iter().map(|(name, desc)| {
        let (first, end) = super::bind::element_range(problem, name, slice);
        let slack = u64::from(limits.storage_alignment); // bindings start at multiples of it
        let bytes = end.saturating_sub(first).saturating_mul(desc.dtype.bytes());
        (name.clone(), bytes.saturating_add(slack))
    });
    tensors
        .chain([
            ("the map of tiles".to_owned(), scratch.tile_map),
            ("partial results".to_owned(), scratch.part_outs),
            ("packed side tensors".to_owned(), scratch.sides),
        ])
        .max_by_key(|(_, bytes)| *bytes)
        .unwrap_or_default()
}
