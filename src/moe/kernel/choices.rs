//! The kernel of the router's choice.

use super::bindings::{bind_logits, bind_routing, optional_input, optional_output, own_top_k};
use super::context::Context;
use super::launch::{close, in_spans, kernel};
use super::scratch::Scratch;
use crate::error::PlanError;
use crate::gpu::limits::GpuLimits;
use crate::gpu::recording::Step;
use crate::kernel::source::{KernelSource, add_fragment};
use crate::moe::routing::{GroupScore, Score, TokenChoice, Weight};
use crate::moe::spec::MoeOutput;

/// Most lanes that route a token: what a token has to do beside looking at every expert grows with them.
const MOST_LANES: u32 = 64;

/// The choice of every token here.
pub(super) fn route(context: &Context<'_>) -> Result<Vec<Step>, PlanError> {
    let e = &context.problem.extents;
    let flops = 64.0 * f64::from(e.choices());
    in_spans(context, "routing", context.span.len() as u64, flops, |first, grid| {
        route_span(context, first, grid)
    })
}

/// One dispatch of it.
fn route_span(context: &Context<'_>, first: u32, grid: [u32; 3]) -> Result<Step, PlanError> {
    let e = &context.problem.extents;
    let workgroup_size = e.choices().next_power_of_two().clamp(32, MOST_LANES);
    let mut source = kernel(workgroup_size);
    source.params.u32("tokens", context.span.end);
    source.params.u32("place_first", context.span.start + first);
    bind_routing(context, &mut source, true)?;
    bind_logits(context, &mut source)?;
    source.bind("weights", "f32", true, context.scratch(Scratch::Weights)?);
    let every = TokenChoice::default();
    let choice = context.problem.token_choice();
    let groups = route_constants(context, &mut source, choice.unwrap_or(&every));
    let correction = choice.and_then(|choice| choice.correction_bias.as_deref());
    optional_input(context, &mut source, "correction", correction, "0.0")?;
    bind_mask(context, &mut source)?;
    own_top_k(context, &mut source)?;
    bind_outputs(context, &mut source)?;
    add_fragment!(source, "moe/sort_key.wgsl");
    add_fragment!(source, "moe/not_finite.wgsl");
    add_fragment!(source, "moe/scores.wgsl");
    add_fragment!(source, "moe/groups.wgsl");
    add_fragment!(source, "moe/choose.wgsl");
    add_fragment!(source, "moe/weights.wgsl");
    add_fragment!(source, "moe/route.wgsl");
    // Where every expert sees every token, tokens choose none.
    let chosen = if choice.is_some() { e.top_k } else { 1 };
    let left = 2 * chosen * e.choices().div_ceil(workgroup_size);
    let group_lanes = (workgroup_size / groups).max(1);
    let words = 2 * e.choices() + 3 * workgroup_size + left + (2 * group_lanes + 1) * groups;
    let bytes = 4 * (words + 2 * chosen);
    check(&source, bytes, context.limits)?;
    Ok(close(source, "moe_route", workgroup_size, bytes, grid))
}

/// `mask_get(i)` and `params.mask_stride`: the experts that a token may choose.
fn bind_mask(context: &Context<'_>, source: &mut KernelSource) -> Result<(), PlanError> {
    let problem = context.problem;
    let mask = Some("logit_mask").filter(|name| problem.has(name));
    let stride = mask.map_or(0, |name| problem.tensors[name].layout.strides()[0]);
    source.params.u32("mask_stride", stride as u32);
    optional_input(context, source, "mask", mask, "true")
}

/// What a caller may ask of the choice itself.
fn bind_outputs(context: &Context<'_>, source: &mut KernelSource) -> Result<(), PlanError> {
    optional_output(context, source, "ids", MoeOutput::TopkIds, "u32")?;
    optional_output(context, source, "weights", MoeOutput::TopkWeights, "f32")?;
    optional_output(context, source, "gates", MoeOutput::Gates, "f32")?;
    source.const_bool("GATES", context.problem.wants(MoeOutput::Gates));
    Ok(())
}

/// The device has bindings and workgroup memory enough.
fn check(source: &KernelSource, bytes: u32, limits: &GpuLimits) -> Result<(), PlanError> {
    if source.binding_count() > limits.storage_buffers {
        return Err(PlanError::Limit {
            what: "the routing of tokens with all their extra inputs and outputs".to_owned(),
            limit: "storage buffers (max_storage_buffers_per_shader_stage)",
            needed: u64::from(source.binding_count()),
            available: u64::from(limits.storage_buffers),
        });
    }
    if bytes > limits.workgroup_bytes {
        return Err(PlanError::Limit {
            what: "the routing of a token with all its experts and groups".to_owned(),
            limit: "bytes of workgroup memory (max_compute_workgroup_storage_size)",
            needed: u64::from(bytes),
            available: u64::from(limits.workgroup_bytes),
        });
    }
    Ok(())
}

/// What a token choice is; gives the number of groups.
fn route_constants(context: &Context<'_>, source: &mut KernelSource, choice: &TokenChoice) -> u32 {
    let e = &context.problem.extents;
    let TokenChoice { score, correction_bias, groups, weight, scale, epsilon } = choice;
    let by_sum = groups.is_some_and(|groups| groups.by == GroupScore::Top2Sum);
    let unbiased = correction_bias.is_none();
    source.const_u32("CHOICES", e.choices());
    source.const_u32("TOP_K", e.top_k);
    source.const_bool("EVERY", context.problem.token_choice().is_none());
    source.const_bool("CAPACITY", context.problem.capacity().is_some());
    source.const_bool("CHOICE_BY_LOGIT", unbiased);
    source.const_bool("GROUP_BY_LOGIT", unbiased && !by_sum);
    source.const_u32("GROUPS", groups.map_or(1, |groups| groups.count));
    source.const_u32("GROUPS_KEPT", groups.map_or(1, |groups| groups.keep));
    source.const_bool("GROUP_BY_SUM", by_sum);
    source.const_f32("SCALE", scale.0);
    source.const_f32("EPSILON", epsilon.0);
    let log = if epsilon.0 == 0.0 { 0.0 } else { f64::from(epsilon.0).abs().ln() };
    source.const_f32("EPSILON_LOG", log as f32);
    source.const_f32("LOWEST", f32::MIN);
    source.const_u32("SCORE", score_number(*score));
    source.const_u32("WEIGHT", weight_number(*weight));
    groups.map_or(1, |groups| groups.count)
}

/// What `route.wgsl` knows a score by.
const fn score_number(score: Score) -> u32 {
    match score {
        Score::Softmax => 0,
        Score::Sigmoid => 1,
        Score::SqrtSoftplus => 2,
        Score::Logit => 3,
    }
}

/// What `route.wgsl` knows a weight by.
const fn weight_number(weight: Weight) -> u32 {
    match weight {
        Weight::Score => 0,
        Weight::Renormalized => 1,
        Weight::Softmax => 2,
        Weight::Sigmoid => 3,
    }
}
