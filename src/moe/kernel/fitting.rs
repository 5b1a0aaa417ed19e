//! How much fits a binding: tokens, experts, columns of a single expert.

use std::ops::Range;

use super::context::{BY_TOKEN, row_range};
use super::scratch::{Scratch, scratch_bytes};
use crate::error::PlanError;
use crate::gpu::limits::GpuLimits;
use crate::matmul::weights::scales_name;
use crate::moe::problem::MoeProblem;
use crate::tensor::TensorDesc;

/// Elements from the first to the end of what a tensor has.
fn extent(desc: &TensorDesc) -> u64 {
    desc.layout.end().unwrap_or(u64::MAX) - desc.layout.offset()
}

/// How many a range has.
const fn elements(range: &Range<u64>) -> u64 {
    range.end - range.start
}

/// Tokens whose rows fit bindings together, as evenly as they can be cut.
pub(super) fn span_tokens(problem: &MoeProblem, limits: &GpuLimits) -> Result<u32, PlanError> {
    let (tokens, available) = (problem.extents.tokens, limits.storage_binding_bytes);
    let fits = |count: u32| largest(problem, limits, count).1 <= available;
    if tokens <= 1 || fits(tokens) {
        return Ok(tokens.max(1));
    }
    if !fits(1) {
        let (what, needed) = largest(problem, limits, 1);
        return Err(PlanError::Limit {
            what: format!("{what} of a single token (a device with larger bindings takes it)"),
            limit: "bytes of one binding (max_storage_buffer_binding_size)",
            needed,
            available,
        });
    }
    let (mut least, mut beyond) = (1, tokens);
    while beyond - least > 1 {
        let middle = least + (beyond - least) / 2;
        if fits(middle) { least = middle } else { beyond = middle }
    }
    Ok(tokens.div_ceil(tokens.div_ceil(least)))
}

/// The largest binding that so many tokens need, and its bytes.
fn largest(problem: &MoeProblem, limits: &GpuLimits, tokens: u32) -> (String, u64) {
    let alignment = u64::from(limits.storage_alignment).max(16);
    let tensors = BY_TOKEN.into_iter().filter_map(|name| {
        let desc = problem.tensors.get(name)?;
        let all = tokens == problem.extents.tokens;
        let range =
            if all { extent(desc) } else { elements(&row_range(problem, name, &(0..tokens))) };
        Some((name.to_owned(), range.saturating_mul(desc.dtype.bytes()).saturating_add(alignment)))
    });
    let bytes = scratch_bytes(problem, [0, 0], tokens);
    let scratch = Scratch::ALL.into_iter().filter(|scratch| scratch.is_by_token(problem));
    let scratch = scratch.map(|scratch| (scratch.name().to_owned(), bytes[scratch as usize]));
    tensors.chain(scratch).max_by_key(|(_, bytes)| *bytes).unwrap_or_default()
}

/// Experts whose weights fit a binding together; one where a single one's must be cut.
pub(super) fn bound_experts(problem: &MoeProblem, limits: &GpuLimits) -> Result<u32, PlanError> {
    let local = problem.extents.local_experts();
    let available = limits.storage_binding_bytes;
    let mut fit = local;
    for name in ["w_gate", "w_up", "w_down", "b_gate", "b_up", "b_down"] {
        let Some(desc) = problem.tensors.get(name) else { continue };
        let bytes = |elements: u64| elements.saturating_mul(desc.dtype.bytes());
        let stride = bytes(desc.layout.strides()[0]);
        let whole = bytes(extent(desc));
        let one = whole - stride.saturating_mul(u64::from(local - 1)).min(whole);
        // A binding starts at a multiple of the alignment, so that up to one more of it is bound.
        let needed = one.saturating_add(u64::from(limits.storage_alignment));
        if whole.saturating_add(u64::from(limits.storage_alignment)) <= available {
            continue;
        }
        let more = available.saturating_sub(needed) / stride.max(1);
        fit = fit.min((1 + more).min(u64::from(local)) as u32);
    }
    Ok(fit)
}

/// Columns of a single expert's matmul whose weights fit a binding, whole tiles of `tile`; all where they do.
pub(super) fn bound_columns(
    problem: &MoeProblem,
    limits: &GpuLimits,
    names: &[&str],
    tile: u32,
) -> Result<u32, PlanError> {
    let local = problem.extents.local_experts();
    let mut fit = u32::MAX;
    for name in names {
        for name in [(*name).to_owned(), scales_name(name)] {
            let Some(desc) = problem.tensors.get(&name) else { continue };
            let (shape, strides) = (desc.layout.shape(), desc.layout.strides());
            let one = extent(desc) - strides[0] * u64::from(local - 1);
            let rows = Rows { bytes: desc.dtype.bytes(), one, stride: strides[1], count: shape[1] };
            fit = fit.min(rows.fitting(&format!("{name} of a single expert"), limits, tile)?);
        }
    }
    Ok(fit)
}

/// Rows of a matrix.
pub(super) struct Rows {
    /// Bytes of an element.
    pub bytes: u64,
    /// Elements from the first to the end of the last.
    pub one: u64,
    /// Elements between rows.
    pub stride: u64,
    /// Their number.
    pub count: u64,
}

impl Rows {
    /// How many fit a binding: all, or whole tiles of `tile`.
    pub fn fitting(&self, what: &str, limits: &GpuLimits, tile: u32) -> Result<u32, PlanError> {
        let Self { bytes, one, stride, count } = *self;
        let available = limits.storage_binding_bytes;
        let alignment = u64::from(limits.storage_alignment).max(16);
        if one.saturating_mul(bytes).saturating_add(alignment) <= available {
            return Ok(u32::MAX);
        }
        let row = one - stride.saturating_mul(count.saturating_sub(1));
        let needed =
            |rows: u64| ((rows - 1).saturating_mul(stride) + row).saturating_mul(bytes) + alignment;
        let tile = u64::from(tile).min(count);
        if needed(tile) > available {
            return Err(PlanError::Limit {
                what: format!(
                    "{tile} rows, a tile, of {what} (smaller tiles, or a device with larger bindings, take it)"
                ),
                limit: "bytes of one binding (max_storage_buffer_binding_size)",
                needed: needed(tile),
                available,
            });
        }
        let rows = (available / bytes - alignment / bytes - row) / stride.max(1) + 1;
        Ok((rows.min(count) / tile * tile) as u32)
    }
}
