//! The kernels of a soft router: what softmax needs of slots and tokens, and the slots' inputs.

use super::bindings::{bind_logits, bind_x, optional_input};
use super::context::Context;
use super::launch::{WORKGROUP_SIZE, close, in_spans, kernel, lanes};
use super::scratch::{Scratch, padded};
use crate::error::PlanError;
use crate::gpu::recording::Step;
use crate::kernel::source::{KernelSource, add_fragment};

/// Softmax statistics of lines of the logits: their number, the distance of two, and length and step of one.
pub(super) fn soft_stats(
    context: &Context<'_>,
    [lines_count, line_stride, length, step]: [u32; 4],
    stats_first: u32,
) -> Result<Step, PlanError> {
    let mut source = kernel(WORKGROUP_SIZE);
    bind_logits(context, &mut source)?;
    soft_mask(context, &mut source)?;
    source.bind("stats", "f32", true, context.scratch(Scratch::Stats)?);
    source.const_f32("LOWEST", f32::MIN);
    source.params.u32("lines", lines_count);
    source.params.u32("line_stride", line_stride);
    source.params.u32("length", length);
    source.params.u32("step", step);
    source.params.u32("stats_first", stats_first);
    add_fragment!(source, "moe/not_finite.wgsl");
    add_fragment!(source, "moe/soft_stats.wgsl");
    let grid = lanes(context, "softmax", u64::from(lines_count), WORKGROUP_SIZE)?;
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

/// From slots' and tokens' logits to the slots' inputs.
pub(super) fn soft_inputs(context: &Context<'_>) -> Result<Vec<Step>, PlanError> {
    let e = &context.problem.extents;
    let slots = e.router_columns();
    let mut steps = vec![
        soft_stats(context, [slots, 1, e.tokens, slots], 0)?,
        soft_stats(context, [e.tokens, slots, slots, 1], 2 * slots)?,
    ];
    let work = u64::from(e.local_experts() * e.slots) * u64::from(padded(e.model_dim) / 4);
    let workgroups = work.div_ceil(u64::from(WORKGROUP_SIZE));
    let flops = f64::from(WORKGROUP_SIZE) * 24.0 * f64::from(e.tokens);
    steps.extend(in_spans(context, "slots", workgroups, flops, |first, grid| {
        slots_span(context, first, grid)
    })?);
    Ok(steps)
}

/// One dispatch of the slots' inputs.
fn slots_span(context: &Context<'_>, first: u32, grid: [u32; 3]) -> Result<Step, PlanError> {
    let e = &context.problem.extents;
    let mut source = kernel(WORKGROUP_SIZE);
    bind_logits(context, &mut source)?;
    soft_mask(context, &mut source)?;
    source.bind("stats", "f32", false, context.scratch(Scratch::Stats)?);
    source.bind("slots", "vec4<f32>", true, context.scratch(Scratch::Slots)?);
    source.const_u32("DIM_VECS", padded(e.model_dim) / 4);
    source.params.u32("slots", e.router_columns());
    source.params.u32("tokens", e.tokens);
    source.params.u32("place_first", first);
    source.params.u32("slot_first", e.expert_start * e.slots);
    let local = e.local_experts() * e.slots;
    source.params.u32("local_slots", local);
    bind_x(context, &mut source)?;
    add_fragment!(source, "moe/not_finite.wgsl");
    add_fragment!(source, "moe/soft_slots.wgsl");
    Ok(close(source, "moe_soft_slots", WORKGROUP_SIZE, 0, grid))
}
