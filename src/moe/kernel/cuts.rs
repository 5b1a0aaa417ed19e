//! Cutting a call: tokens into parts, so that what has a row for each of them fits bindings; the experts' matmuls by experts,
//! and single experts' by columns, so that their weights do; and by tiles, so that a dispatch ends before a watchdog does. How
//! many tiles there are only the device knows: there are dispatches for the most, and those beyond the last tile have no
//! workgroups.

use std::ops::Range;

use super::context::{BY_TOKEN, row_range};
use super::scratch::{Scratch, scratch_bytes};
use crate::error::PlanError;
use crate::gpu::limits::GpuLimits;
use crate::gpu::recording::check_step_count;
use crate::kernel::slices::workgroups_a_dispatch;
use crate::matmul::MatmulTiles;
use crate::matmul::weights::scales_name;
use crate::moe::problem::MoeProblem;
use crate::tensor::TensorDesc;

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

/// Elements from the first to the end of what a tensor has.
fn extent(desc: &TensorDesc) -> u64 {
    desc.layout.end().unwrap_or(u64::MAX) - desc.layout.offset()
}

/// How many a range has.
const fn elements(range: &Range<u64>) -> u64 {
    range.end - range.start
}

/// Tokens whose rows fit bindings together, as evenly as they can be cut.
fn span_tokens(problem: &MoeProblem, limits: &GpuLimits) -> Result<u32, PlanError> {
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
fn bound_experts(problem: &MoeProblem, limits: &GpuLimits) -> Result<u32, PlanError> {
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
fn bound_columns(
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
