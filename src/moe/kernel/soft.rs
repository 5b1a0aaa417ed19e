//! The kernels of a soft router: what softmax needs of slots and tokens, and the slots' inputs.

use std::ops::Range;

use super::bindings::{bind_logits, bind_x, optional_input};
use super::context::Context;
use super::launch::{WORKGROUP_SIZE, close, in_spans, kernel, lanes};
use super::scratch::{Scratch, padded};
use super::tokens;
use crate::error::PlanError;
use crate::gpu::recording::Step;
use crate::kernel::source::{KernelSource, add_fragment};

/// Lines of the logits.
pub(super) struct Lines {
    /// Which, and the distance of two.
    pub lines: Range<u32>,
    pub stride: u32,
    /// Which elements of each, and the distance of two.
    pub elements: Range<u32>,
    pub step: u32,
    /// Where the first line's statistics lie.
    pub stats_first: u32,
}

impl Lines {
    /// A line a token, of all columns, its statistics at `stats_first`.
    pub fn of_tokens(context: &Context<'_>, columns: u32, stats_first: u32) -> Self {
        let (lines, stride) = (context.span.clone(), context.logits_stride());
        Self { lines, stride, elements: 0..columns, step: 1, stats_first }
    }
}

/// Softmax statistics of lines of the logits; elements behind the first add to what is there.
pub(super) fn soft_stats(context: &Context<'_>, of: Lines) -> Result<Step, PlanError> {
    let mut source = kernel(WORKGROUP_SIZE);
    bind_logits(context, &mut source)?;
    soft_mask(context, &mut source)?;
    source.bind("stats", "f32", true, context.scratch(Scratch::Stats)?);
    source.const_f32("LOWEST", f32::MIN);
    source.params.u32("line_first", of.lines.start);
    source.params.u32("line_end", of.lines.end);
    source.params.u32("line_stride", of.stride);
    source.params.u32("first", of.elements.start);
    source.params.u32("end", of.elements.end);
    source.params.u32("step", of.step);
    source.params.u32("stats_first", of.stats_first);
    add_fragment!(source, "moe/not_finite.wgsl");
    add_fragment!(source, "moe/soft_stats.wgsl");
    let grid = lanes(context, "softmax", of.lines.len() as u64, WORKGROUP_SIZE)?;
    Ok(close(source, "moe_soft_stats", WORKGROUP_SIZE, 0, grid))
}

/// `is_open(at)`: whether a logit counts: −inf does not, nor, of a soft router, one of a token and a slot that the mask keeps
/// apart.
pub(super) fn soft_mask(context: &Context<'_>, source: &mut KernelSource) -> Result<(), PlanError> {
    let (problem, e) = (context.problem, &context.problem.extents);
    let mask = Some("logit_mask").filter(|name| e.slots > 0 && problem.has(name));
    let Some(mask) = mask else {
        source.accessor("fn is_open(at: u32) -> bool { return !is_lowest(logits_get(at)); }\n");
        return Ok(());
    };
    optional_input(context, source, "mask", Some(mask), "true")?;
    source.params.u32("mask_stride", problem.tensors[mask].layout.strides()[0] as u32);
    source.const_u32("COLUMNS", e.router_columns());
    source.const_u32("EXPERT_SLOTS", e.slots);
    source.accessor("fn is_open(at: u32) -> bool { return mask_get(at / COLUMNS * params.mask_stride + at % COLUMNS / EXPERT_SLOTS) && !is_lowest(logits_get(at)); }\n");
    Ok(())
}

/// What softmax needs of slots, as far as the tokens here go, and of those tokens.
pub(super) fn soft_stats_of(context: &Context<'_>) -> Result<[Step; 2], PlanError> {
    let slots = context.problem.extents.router_columns();
    let of_slots = Lines {
        lines: 0..slots,
        stride: 1,
        elements: context.span.clone(),
        step: slots,
        stats_first: 0,
    };
    let of_tokens = Lines::of_tokens(context, slots, 2 * slots);
    Ok([soft_stats(context, of_slots)?, soft_stats(context, of_tokens)?])
}

/// The logits of the tokens here once more, where scratch has held those of others since.
pub(super) fn logits_again(context: &Context<'_>) -> Result<Vec<Step>, PlanError> {
    match context.problem.has("router_logits") {
        true => Ok(Vec::new()),
        false => tokens::logits(context),
    }
}

/// What the tokens here add to the slots' inputs.
pub(super) fn slot_inputs(context: &Context<'_>) -> Result<Vec<Step>, PlanError> {
    let e = &context.problem.extents;
    let work = u64::from(e.local_experts() * e.slots) * u64::from(padded(e.model_dim) / 4);
    let workgroups = work.div_ceil(u64::from(WORKGROUP_SIZE));
    let flops = f64::from(WORKGROUP_SIZE) * 24.0 * context.span.len() as f64;
    in_spans(context, "slots", workgroups, flops, |first, grid| slots_span(context, first, grid))
}

/// One dispatch of them.
fn slots_span(context: &Context<'_>, first: u32, grid: [u32; 3]) -> Result<Step, PlanError> {
    let e = &context.problem.extents;
    let mut source = kernel(WORKGROUP_SIZE);
    bind_logits(context, &mut source)?;
    soft_mask(context, &mut source)?;
    source.bind("stats", "f32", false, context.scratch(Scratch::Stats)?);
    source.bind("slots", "vec4<f32>", true, context.scratch(Scratch::Slots)?);
    source.const_u32("DIM_VECS", padded(e.model_dim) / 4);
    source.params.u32("slots", e.router_columns());
    source.params.u32("token_first", context.span.start);
    source.params.u32("tokens", context.span.end);
    source.params.u32("place_first", first);
    source.params.u32("slot_first", e.expert_start * e.slots);
    let local = e.local_experts() * e.slots;
    source.params.u32("local_slots", local);
    bind_x(context, &mut source)?;
    add_fragment!(source, "moe/not_finite.wgsl");
    add_fragment!(source, "moe/soft_slots.wgsl");
    Ok(close(source, "moe_soft_slots", WORKGROUP_SIZE, 0, grid))
}
