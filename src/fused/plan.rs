//! From a call, its domain and limits to dispatches. Pure: needs no device.
//!
//! A call is cut into slices of batches, key heads and queries, a slice into passes over its keys (such as the shared prefix,
//! then the keys of k and v; more of them where keys are cut), so that every binding fits; a pass into a classification of its
//! tiles, where the mask needs one, and forward dispatches of bounded work. Where a row's keys are split over passes or workgroups, a merge ends the slice.

use super::assemble::{classify_step, forward_steps, partial_merge_step};
use super::domain::{Call, Domain, HEAD_GATE, Part, Pass};
use super::{FusedShape, MOST_SPLITS};
use crate::error::PlanError;
use crate::gpu::limits::GpuLimits;
use crate::gpu::recording::{Bound, Plan, Scratch, Slot, Step, Steps, check_step_count};
use crate::kernel::extra::ExtraInputs;
use crate::kernel::slices::{Bindings, Cut, Slice, slices};
use crate::tensor::Dtype;

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
    /// The map of tiles.
    pub const TILE_MAP: usize = 0;
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
    // Where bindings are few the gate is left to the merge.
    let gate_merges = extra.crowded && call.has(HEAD_GATE);
    let part = |slice: Slice, passes: &[Pass]| {
        let parts = call.tiles.kv_splits().saturating_mul(passes.len() as u32);
        Part { call, slice, parts, merges: parts > 1 || gate_merges, extra }
    };
    let whole = domain.extents();
    let bindings = |cut: &Cut| {
        let widest = domain.widest(cut);
        let passes = domain.passes(&widest, cut);
        bindings(domain, &part(widest, &passes), &passes)
    };
    let available = call.limits.storage_binding_bytes;
    let way_out = |name: &str| domain.way_out(name);
    let cut = Cut::fitting(whole, domain.key_units(), available, bindings, way_out)?;
    let mut steps = Steps::default();
    steps.extend(extra.pack_steps()?);
    let mut scratch = ScratchBytes::default();
    for slice in slices(&whole, &cut)? {
        let slice = domain.with_keys(slice);
        let passes = domain.passes(&slice, &cut);
        check_step_count(D::NAME, passes.len() as u64)?;
        let part = part(slice, &passes);
        steps.extend(slice_steps(domain, &part, &passes)?);
        check_step_count(D::NAME, steps.len())?;
        scratch = scratch.max(scratch_bytes(domain, &part, &passes));
    }
    Plan::fitting(steps.into_vec(), scratch.buffers(), call.limits)
}

fn slice_steps(
    domain: &impl Domain,
    part: &Part<'_>,
    passes: &[Pass],
) -> Result<Vec<Step>, PlanError> {
    let mut steps = Vec::new();
    for pass in passes {
        let of_pass = &part.of_pass(pass);
        if pass.by_map {
            steps.push(classify_step(domain, of_pass, pass)?);
        }
        steps.extend(forward_steps(domain, of_pass, pass)?);
    }
    if part.merges {
        steps.push(partial_merge_step(domain, part)?);
    }
    Ok(steps)
}

impl<'a> Part<'a> {
    /// With the keys of a pass.
    fn of_pass(&self, pass: &Pass) -> Part<'a> {
        let slice = Slice { keys: pass.keys.clone(), ..self.slice.clone() };
        Part { slice, ..*self }
    }

    /// Rows of partial results.
    fn part_rows(&self) -> u64 {
        let rows = u64::from(self.batches()) * u64::from(self.q_heads());
        let rows = rows.saturating_mul(self.queries().into());
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
    let tile_map = maps.map(|pass| part.tile_map(domain, pass).size).max().unwrap_or(0);
    let extra = part.extra.scratch_bytes();
    if !part.merges {
        return ScratchBytes { tile_map, part_outs: 0, part_lses: 0, extra };
    }
    let (part_outs, part_lses) = (part.part_outs().size, part.part_lses().size);
    ScratchBytes { tile_map, part_outs, part_lses, extra }
}

/// What a slice binds, in the largest of its passes.
fn bindings(domain: &impl Domain, part: &Part<'_>, passes: &[Pass]) -> Bindings {
    let slack = u64::from(part.call.limits.storage_alignment); // bindings start at multiples of it
    let bytes_of = |name: &str, dtype: Dtype| {
        let bytes = |pass: &Pass| {
            let (first, end) = domain.element_range(name, &part.of_pass(pass).slice);
            end.saturating_sub(first).saturating_mul(dtype.bytes()).saturating_add(slack)
        };
        passes.iter().map(bytes).max().unwrap_or(0)
    };
    let tensors = part.call.tensors.iter();
    let tensors = tensors.map(|(name, desc)| (name.clone(), bytes_of(name, desc.dtype)));
    let scratch = scratch_bytes(domain, part, passes);
    let bytes = tensors.chain([
        ("the map of tiles".to_owned(), scratch.tile_map),
        ("partial results".to_owned(), scratch.part_outs),
        ("packed extra inputs".to_owned(), scratch.extra),
    ]);
    let keys = part.slice.keys.clone().map(|range| range.len() as u32);
    Bindings { bytes: bytes.collect(), keys }
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
