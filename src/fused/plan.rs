//! From a call, its domain and limits to dispatches. Pure: needs no device.
//!
//! A call is cut into slices of batches and key heads (so that every binding fits), a slice into passes (such as the shared
//! prefix, then the keys of k and v), a pass into a classification of its tiles, where the mask needs one, and forward
//! dispatches of bounded work. Where a row's keys are split over passes or workgroups, a merge ends the slice.

use super::assemble::{classify_step, forward_steps, partial_merge_step};
use super::domain::{Call, Domain, HEAD_GATE, Part, Pass};
use super::{FusedShape, MOST_SPLITS};
use crate::error::PlanError;
use crate::gpu::limits::GpuLimits;
use crate::gpu::recording::{Bound, Plan, Scratch, Slot, Step, check_step_count};
use crate::kernel::extra::ExtraInputs;
use crate::kernel::slices::{Slice, slices};

/// Keys below which a row's are not split further.
const LEAST_KEYS_A_SPLIT: u64 = 128;

/// Scratch buffers of a plan, by what they hold.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct ScratchBytes {
    tile_map: u64,
    part_outs: u64,
    part_lses: u64,
    extra: u64,
}

impl ScratchBytes {
    const TILE_MAP: usize = 0;
    const PART_OUTS: usize = 1;
    const PART_LSES: usize = 2;
    /// Extra inputs that share a binding.
    pub const EXTRA: usize = 3;

    /// The buffers, by their indices above.
    fn buffers(self) -> Vec<Scratch> {
        let Self { tile_map, part_outs, part_lses, extra } = self;
        let names = ["map of tiles", "partial out", "partial lse", "packed extra inputs"];
        let bytes = [tile_map, part_outs, part_lses, extra];
        names.into_iter().zip(bytes).map(|(name, bytes)| Scratch { name, bytes }).collect()
    }

    fn max(self, other: Self) -> Self {
        Self {
            tile_map: self.tile_map.max(other.tile_map),
            part_outs: self.part_outs.max(other.part_outs),
            part_lses: self.part_lses.max(other.part_lses),
            extra: self.extra.max(other.extra),
        }
    }
}

/// The launches of a call.
pub(crate) fn plan<D: Domain>(
    domain: &D,
    call: &Call<'_>,
    extra: &ExtraInputs<'_>,
) -> Result<Plan, PlanError> {
    let passes = domain.passes();
    let parts = call.tiles.kv_splits() * passes.len() as u32;
    // Where bindings are few the gate is left to the merge.
    let merges = parts > 1 || (extra.crowded && call.has(HEAD_GATE));
    let part = |slice: &Slice| Part { call, slice: slice.clone(), parts, merges, extra };
    let largest = |slice: &Slice| largest_binding(domain, &part(slice), &passes);
    let mut steps = extra.pack_steps()?;
    let mut scratch = ScratchBytes::default();
    for slice in slices(call.batches, call.kv_heads, call.limits, largest)? {
        let part = part(&slice);
        steps.extend(slice_steps(domain, &part, &passes)?);
        check_step_count(D::NAME, steps.len() as u64)?;
        scratch = scratch.max(scratch_bytes(domain, &part, &passes));
    }
    Plan::fitting(steps, scratch.buffers(), call.limits)
}

fn slice_steps(
    domain: &impl Domain,
    part: &Part<'_>,
    passes: &[Pass],
) -> Result<Vec<Step>, PlanError> {
    let mut steps = Vec::new();
    for pass in passes {
        if pass.by_map {
            steps.push(classify_step(domain, part, pass)?);
        }
        steps.extend(forward_steps(domain, part, pass)?);
    }
    if part.merges {
        steps.push(partial_merge_step(domain, part)?);
    }
    Ok(steps)
}

impl Part<'_> {
    /// Rows of partial results.
    fn part_rows(&self) -> u64 {
        let rows = u64::from(self.batches()) * u64::from(self.q_heads());
        let rows = rows.saturating_mul(self.call.queries.into());
        rows.saturating_mul(self.parts.into())
    }

    pub fn part_outs(&self) -> Bound {
        let vecs = u64::from(self.call.shape.value_dim.div_ceil(4));
        scratch(ScratchBytes::PART_OUTS, self.part_rows().saturating_mul(vecs * 16))
    }

    pub fn part_lses(&self) -> Bound {
        scratch(ScratchBytes::PART_LSES, self.part_rows().saturating_mul(4))
    }

    pub fn tile_map(&self, domain: &impl Domain, pass: &Pass) -> Bound {
        let words = domain.map_row_tiles(self, pass).saturating_mul(domain.map_words());
        scratch(ScratchBytes::TILE_MAP, words.saturating_mul(8))
    }
}

fn scratch(index: usize, size: u64) -> Bound {
    Bound { slot: Slot::Scratch(index), offset: 0, size }
}

fn scratch_bytes(domain: &impl Domain, part: &Part<'_>, passes: &[Pass]) -> ScratchBytes {
    let maps = passes.iter().filter(|pass| pass.by_map);
    let tile_map = maps.map(|pass| part.tile_map(domain, pass).size).sum();
    let extra = part.extra.scratch_bytes();
    if !part.merges {
        return ScratchBytes { tile_map, part_outs: 0, part_lses: 0, extra };
    }
    let (part_outs, part_lses) = (part.part_outs().size, part.part_lses().size);
    ScratchBytes { tile_map, part_outs, part_lses, extra }
}

/// The largest binding of a slice, with its name.
fn largest_binding(domain: &impl Domain, part: &Part<'_>, passes: &[Pass]) -> (String, u64) {
    let Part { call, slice, .. } = part;
    let scratch = scratch_bytes(domain, part, passes);
    let tensors = call.tensors.iter().map(|(name, desc)| {
        let (first, end) = domain.element_range(name, slice);
        let slack = u64::from(call.limits.storage_alignment); // bindings start at multiples of it
        let bytes = end.saturating_sub(first).saturating_mul(desc.dtype.bytes());
        (name.clone(), bytes.saturating_add(slack))
    });
    tensors
        .chain([
            ("the map of tiles".to_owned(), scratch.tile_map),
            ("partial results".to_owned(), scratch.part_outs),
            ("packed extra inputs".to_owned(), scratch.extra),
        ])
        .max_by_key(|(_, bytes)| *bytes)
        .unwrap_or_default()
}

/// No tile set fits the device.
pub(crate) fn no_tiles<D: Domain>(shape: FusedShape, limits: &GpuLimits) -> PlanError {
    PlanError::Limit {
        what: format!("{} with value_dim {}", D::NAME, shape.value_dim),
        limit: "bytes of workgroup memory",
        needed: 16 << 10,
        available: u64::from(limits.workgroup_bytes),
    }
}

/// Rows and keys by which the keys of a row are split, so that few rows fill a device too.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Splitting {
    /// Workgroups without splits.
    pub workgroups: u64,
    /// Keys that a row has.
    pub keys: u64,
}

impl Splitting {
    /// The first tile set with as many splits as fill the device.
    pub fn chosen(&self, tile_kv: u32, workgroup_size: u32, limits: &GpuLimits) -> u32 {
        let wanted = limits.filling_workgroups(workgroup_size);
        (wanted / self.workgroups.max(1)).clamp(1, self.most(tile_kv)) as u32
    }

    /// Splits that leave each part enough key tiles.
    fn most(&self, tile_kv: u32) -> u64 {
        let least = LEAST_KEYS_A_SPLIT.next_multiple_of(u64::from(tile_kv));
        (self.keys / least).clamp(1, MOST_SPLITS.into())
    }

    /// No splits, and fewer and more of them than chosen: how many workgroups a device holds is a guess that measuring
    /// corrects.
    pub fn others(&self, tile_kv: u32, chosen: u32) -> Vec<u32> {
        let most = self.most(tile_kv) as u32;
        let mut others = vec![1, chosen / 4, chosen / 2, chosen * 2, chosen * 4];
        others.retain(|&splits| (1..=most).contains(&splits) && splits != chosen);
        others.dedup();
        others
    }
}
