//! From problem, limits and tiles to launches. Pure: needs no device.

use super::context::Context;
use super::cuts::Cuts;
use super::packed::packed;
use super::place::Purpose;
use super::scratch::{scratch_buffers, scratch_bytes};
use super::sections::Sections;
use super::{
    capacity, choices, combine, experts, given, loss, operands, packed, place, soft, tokens,
};
use crate::error::PlanError;
use crate::gpu::limits::GpuLimits;
use crate::gpu::recording::{Plan, Step, Steps};
use crate::matmul::MatmulTiles;
use crate::moe::problem::MoeProblem;
use crate::moe::routing::Router;
use crate::moe::spec::MoeOutput;

/// The plan of a problem with these tiles.
pub(in crate::moe) fn plan(
    problem: &MoeProblem,
    limits: &GpuLimits,
    tiles: MatmulTiles,
) -> Result<Plan, PlanError> {
    tiles.check(problem.operands(), limits)?;
    plan_cut(problem, limits, tiles, Cuts::of(problem, limits, tiles)?)
}

/// The plan cut like this.
pub(super) fn plan_cut(
    problem: &MoeProblem,
    limits: &GpuLimits,
    tiles: MatmulTiles,
    cuts: Cuts,
) -> Result<Plan, PlanError> {
    let sections = Sections::of(problem, cuts, tiles)?;
    let packed = packed(problem, limits);
    let scratch = scratch_bytes(problem, [sections.words, packed.words()], cuts.span_tokens);
    let span = 0..problem.extents.tokens;
    let context = Context { problem, limits, tiles, sections, cuts, packed, scratch, span };
    Plan::fitting(steps(&context)?, scratch_buffers(scratch), limits)
}

/// Every launch, in order.
fn steps(context: &Context<'_>) -> Result<Vec<Step>, PlanError> {
    let problem = context.problem;
    let places = problem.places();
    let at_once = if places { place::at_once(context)? } else { None };
    let mut steps = Steps::default();
    if !context.is_empty() {
        steps.extend(packed::pack_tensors(context)?);
        let given = at_once.is_some() && given::is_known(context);
        routing_steps(context, given, &mut steps)?;
    }
    if problem.wants_losses() {
        steps.push(loss::losses(context)?);
    }
    if places {
        steps.extend(match at_once {
            Some(step) => vec![step],
            None => place_steps(context)?,
        });
    }
    if places && !context.is_empty() {
        if matches!(problem.spec.router, Router::ExpertChoice { .. }) {
            steps.extend(place::token_lists(context)?);
        }
        if problem.wants(MoeOutput::Out) {
            out_steps(context, &mut steps)?;
        }
    }
    Ok(steps.into_vec())
}

/// Whether each part of the tokens has its rows by itself.
fn places_parts(context: &Context<'_>) -> bool {
    context.is_cut() && context.problem.extents.slots == 0
}

/// The places of all pairs: what the matmuls need, where they have all rows at once, or what the caller asks for alone.
fn place_steps(context: &Context<'_>) -> Result<Vec<Step>, PlanError> {
    if !places_parts(context) {
        return place::apart(context, Purpose::Rows);
    }
    match context.problem.lists_places() {
        true => place::apart(context, Purpose::Outputs),
        false => Ok(Vec::new()),
    }
}

/// From pairs in their rows to out.
fn out_steps(context: &Context<'_>, steps: &mut Steps) -> Result<(), PlanError> {
    let problem = context.problem;
    let soft = problem.extents.slots > 0;
    steps.extend(packed::pack_weights(context)?);
    if soft {
        steps.extend(expert_steps(context)?);
    }
    for part in context.spans() {
        if places_parts(context) {
            steps.extend(place::apart(&part, Purpose::PartRows)?);
        }
        if soft && context.is_cut() {
            steps.extend(soft::logits_again(&part)?);
        }
        if problem.extents.shared_dim > 0 {
            steps.extend(tokens::shared(&part)?);
        }
        if !soft {
            steps.extend(expert_steps(&part)?);
        }
        steps.extend(combine::combine(&part)?);
    }
    Ok(())
}

/// The experts' matmuls.
fn expert_steps(context: &Context<'_>) -> Result<Vec<Step>, PlanError> {
    let mut steps = operands::round_inputs(context)?;
    for cut in context.cuts.all(context.problem, 0) {
        steps.push(experts::gate_up(context, &cut)?);
    }
    steps.extend(operands::round_hidden(context)?);
    for cut in context.cuts.all(context.problem, 1) {
        steps.push(experts::down(context, &cut)?);
    }
    Ok(steps)
}

/// From x to the expert of every pair; `given`: a later step copies what is known beforehand.
fn routing_steps(context: &Context<'_>, given: bool, steps: &mut Steps) -> Result<(), PlanError> {
    let problem = context.problem;
    for part in context.spans() {
        if problem.has("router_w") || problem.has("phi") {
            steps.extend(tokens::logits(&part)?);
        }
        match problem.spec.router {
            Router::TokenChoice(_) | Router::ExpertChoice { .. } => {
                steps.extend(choices::route(&part)?)
            }
            Router::External if !given => steps.push(given::given(&part)?),
            Router::External => {}
            // What is mixed is the experts' input alone.
            Router::Soft { .. } if !problem.wants(MoeOutput::Out) => {}
            Router::Soft { .. } => steps.extend(soft::soft_stats_of(&part)?),
        }
        if problem.wants_losses() {
            steps.extend(loss::terms(&part)?);
        }
    }
    if let Router::Soft { .. } = problem.spec.router {
        steps.extend(soft_steps(context, given)?);
    }
    if problem.capacity().is_some() {
        steps.extend(capacity::select(context)?);
    }
    Ok(())
}

/// From a soft router's statistics to the slots' inputs, and the slots as pairs.
fn soft_steps(context: &Context<'_>, given: bool) -> Result<Vec<Step>, PlanError> {
    let mut steps = Vec::new();
    for part in context.spans().filter(|_| context.problem.wants(MoeOutput::Out)) {
        if context.is_cut() {
            steps.extend(soft::logits_again(&part)?);
        }
        steps.extend(soft::slot_inputs(&part)?);
    }
    if !given {
        steps.push(given::given(context)?);
    }
    Ok(steps)
}
