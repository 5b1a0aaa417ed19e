//! The kernels that decide who goes where: the router's choice, the caller's, the capacity.

use super::context::{Context, Scratch};
use std::ops::Range;

use super::kernel::{
    WORKGROUP_SIZE, bind_logits, bind_routing, close, entry, in_spans, kernel, lanes,
    optional_output, optional_side,
};
use super::routing::{Capacity, GroupScore, Priority, Router, Score, TokenChoice, Weight};
use super::spec::MoeOutput;
use crate::error::PlanError;
use crate::gpu::recording::Step;
use crate::kernel::source::{KernelSource, add_fragment};

/// Every token's choice.
pub(super) fn route(context: &Context<'_>) -> Result<Vec<Step>, PlanError> {
    let e = &context.problem.extents;
    let flops = 4.0 * f64::from(e.choices()) * f64::from(e.choices());
    in_spans(context, "routing", u64::from(e.tokens), flops, |first, grid| {
        route_span(context, first, grid)
    })
}

fn route_span(context: &Context<'_>, first: u32, grid: [u32; 3]) -> Result<Step, PlanError> {
    let e = &context.problem.extents;
    let workgroup_size = e.choices().next_power_of_two().clamp(32, 256);
    let mut source = kernel(workgroup_size);
    source.params.u32("tokens", e.tokens);
    source.params.u32("place_first", first);
    bind_routing(context, &mut source, true)?;
    bind_logits(context, &mut source)?;
    source.bind("weights", "f32", true, context.scratch(Scratch::Weights)?);
    let every = TokenChoice::default();
    let choice = context.problem.token_choice();
    let groups = route_constants(context, &mut source, choice.unwrap_or(&every));
    let correction = choice.and_then(|choice| choice.correction_bias.as_deref());
    optional_side(context, &mut source, "correction", correction, "0.0")?;
    let problem = context.problem;
    let mask = Some("logit_mask").filter(|name| problem.has(name));
    let mask_stride = mask.map_or(0, |name| problem.tensors[name].layout.strides()[0]);
    source.params.u32("mask_stride", mask_stride as u32);
    optional_side(context, &mut source, "mask", mask, "true")?;
    own_top_k(context, &mut source)?;
    optional_output(context, &mut source, "ids", MoeOutput::TopkIds, "u32")?;
    optional_output(context, &mut source, "weights", MoeOutput::TopkWeights, "f32")?;
    optional_output(context, &mut source, "gates", MoeOutput::Gates, "f32")?;
    source.const_bool("GATES", problem.wants(MoeOutput::Gates));
    add_fragment!(source, "moe/sort_key.wgsl");
    add_fragment!(source, "moe/sigmoid.wgsl");
    add_fragment!(source, "moe/route.wgsl");
    if source.binding_count() > context.limits.storage_buffers {
        return Err(PlanError::Limit {
            what: "the routing of tokens with all their side tensors and outputs".to_owned(),
            limit: "storage buffers (max_storage_buffers_per_shader_stage)",
            needed: u64::from(source.binding_count()),
            available: u64::from(context.limits.storage_buffers),
        });
    }
    // Where every expert sees every token, tokens choose none.
    let chosen = if context.problem.token_choice().is_some() { e.top_k } else { 1 };
    let bytes = 4 * (3 * e.choices() + groups + chosen + workgroup_size);
    if bytes > context.limits.workgroup_bytes {
        return Err(PlanError::Limit {
            what: "the routing of a token with all its experts and groups".to_owned(),
            limit: "bytes of workgroup memory (max_compute_workgroup_storage_size)",
            needed: u64::from(bytes),
            available: u64::from(context.limits.workgroup_bytes),
        });
    }
    Ok(close(source, "moe_route", workgroup_size, bytes, grid))
}

/// `top_k_get(token)`: how many experts a token has, at most TOP_K where the caller keeps to it.
fn own_top_k(context: &Context<'_>, source: &mut KernelSource) -> Result<(), PlanError> {
    let text = if context.problem.has("token_top_k") {
        optional_side(context, source, "own_top_k", Some("token_top_k"), "")?;
        "fn top_k_get(token: u32) -> u32 { return u32(max(own_top_k_get(token), 0)); }\n"
    } else {
        "fn top_k_get(token: u32) -> u32 { return TOP_K; }\n"
    };
    source.accessor(text);
    Ok(())
}

/// What a token choice is; gives the number of groups.
fn route_constants(context: &Context<'_>, source: &mut KernelSource, choice: &TokenChoice) -> u32 {
    let e = &context.problem.extents;
    let TokenChoice { score, correction_bias, groups, weight, scale, epsilon } = choice;
    let by_sum = groups.is_some_and(|groups| groups.by == GroupScore::Top2Sum);
    let ordered = *score == Score::Softmax && correction_bias.is_none() && !by_sum;
    source.const_u32("CHOICES", e.choices());
    source.const_u32("TOP_K", e.top_k);
    source.const_bool("EVERY", context.problem.token_choice().is_none());
    source.const_bool("CAPACITY", context.problem.capacity().is_some());
    source.const_bool("CHOICE_BY_LOGIT", ordered);
    source.const_u32("GROUPS", groups.map_or(1, |groups| groups.count));
    source.const_u32("GROUPS_KEPT", groups.map_or(1, |groups| groups.keep));
    source.const_bool("GROUP_BY_SUM", by_sum);
    source.const_f32("SCALE", scale.0);
    source.const_f32("EPSILON", epsilon.0);
    source.const_f32("LOWEST", f32::MIN);
    let score = match score {
        Score::Softmax => 0,
        Score::Sigmoid => 1,
        Score::SqrtSoftplus => 2,
        Score::Logit => 3,
    };
    source.const_u32("SCORE", score);
    let weight = match weight {
        Weight::Score => 0,
        Weight::Renormalized => 1,
        Weight::Softmax => 2,
        Weight::Sigmoid => 3,
    };
    source.const_u32("WEIGHT", weight);
    groups.map_or(1, |groups| groups.count)
}

/// Whether the experts of pairs are known beforehand, and nothing stands between them and their rows.
pub(super) fn gives(context: &Context<'_>) -> bool {
    let known = matches!(context.problem.spec.router, Router::External | Router::Soft { .. });
    known && context.problem.capacity().is_none()
}

pub(super) fn given(context: &Context<'_>) -> Result<Step, PlanError> {
    let e = &context.problem.extents;
    let mut source = kernel(WORKGROUP_SIZE);
    bind_routing(context, &mut source, true)?;
    source.const_u32("CHOICES", e.choices());
    source.const_u32("TOP_K", e.top_k);
    bind_given(context, &mut source)?;
    entry(&mut source, "moe_given", "give(index * WORKGROUP_SIZE + lane);");
    let grid = lanes(context, "routing", u64::from(context.pairs()), WORKGROUP_SIZE)?;
    Ok(close(source, "moe_given", WORKGROUP_SIZE, 0, grid))
}

/// `give(pair)`.
pub(super) fn bind_given(
    context: &Context<'_>,
    source: &mut KernelSource,
) -> Result<(), PlanError> {
    let external = context.problem.spec.router == Router::External;
    source.bind("weights", "f32", true, context.scratch(Scratch::Weights)?);
    source.const_bool("EXTERNAL", external);
    source.const_bool("CAPACITY", context.problem.capacity().is_some());
    source.const_u32("SLOTS", context.problem.extents.slots.max(1));
    own_top_k(context, source)?;
    for (name, tensor) in [("ids", "topk_ids"), ("weights", "topk_weights")] {
        let tensor = Some(tensor).filter(|_| external);
        let stride = tensor.map_or(0, |name| context.problem.tensors[name].layout.strides()[0]);
        source.params.u32(format!("{name}_in_stride"), stride as u32);
        match (name, tensor) {
            ("ids", None) => source.accessor("fn ids_get(i: u32) -> i32 { return 0; }\n"),
            _ => optional_side(context, source, name, tensor, "0.0")?,
        }
    }
    add_fragment!(source, "moe/given.wgsl");
    Ok(())
}

/// What a capacity binds, of what is computed here: experts with weights, and null ones where experts choose.
pub(super) fn selectors(context: &Context<'_>) -> Range<u32> {
    let e = &context.problem.extents;
    match context.problem.spec.router {
        Router::ExpertChoice { .. } => e.expert_start..e.local_end(),
        _ => e.expert_start..e.expert_end,
    }
}

/// Sequences that have a capacity of their own; 0 without a capacity.
pub(super) fn sequences(context: &Context<'_>) -> u32 {
    context.problem.capacity().map_or(0, |capacity| capacity.sequences)
}

/// What the capacity leaves of every expert and sequence.
pub(super) fn select(context: &Context<'_>) -> Result<Vec<Step>, PlanError> {
    let sequences = sequences(context).max(1);
    let selections = selectors(context).len() as u64 * u64::from(sequences);
    // Five walks over the candidates of a sequence.
    let flops = 5.0 * 8.0 * f64::from(context.pairs()) / f64::from(sequences);
    in_spans(context, "capacity", selections, flops, |first, grid| {
        select_span(context, first, grid)
    })
}

fn select_span(context: &Context<'_>, first: u32, grid: [u32; 3]) -> Result<Step, PlanError> {
    const LANES: u32 = 256;
    let e = &context.problem.extents;
    let every = matches!(context.problem.spec.router, Router::ExpertChoice { .. });
    let capacity = context.problem.capacity().unwrap_or(Capacity {
        rows: u32::MAX,
        sequences: 1,
        priority: Priority::TokenOrder,
    });
    let sequence_tokens = e.tokens / capacity.sequences;
    let mut source = kernel(LANES);
    bind_routing(context, &mut source, true)?;
    source.bind("weights", "f32", false, context.scratch(Scratch::Weights)?);
    let selectors = selectors(context);
    source.const_u32("CHOICES", e.choices());
    source.const_u32("TOP_K", e.top_k);
    source.const_bool("EVERY", every);
    source.const_bool("BY_SCORE", capacity.priority == Priority::Score);
    source.params.u32("place_first", first);
    source.params.u32("capacity", capacity.rows);
    source.params.u32("sequence_tokens", sequence_tokens);
    source.params.u32("selectors", selectors.len() as u32);
    source.params.u32("selections", selectors.len() as u32 * capacity.sequences);
    source.params.u32("candidates", sequence_tokens * if every { 1 } else { e.top_k });
    add_fragment!(source, "moe/sort_key.wgsl");
    add_fragment!(source, "moe/scan.wgsl");
    add_fragment!(source, "moe/select.wgsl");
    Ok(close(source, "moe_select", LANES, 4 * (256 + LANES + 2), grid))
}
