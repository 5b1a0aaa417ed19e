//! From problem, limits and tiles to launches. Pure: needs no device.

use super::context::Context;
use super::cuts::Cuts;
use super::scratch::{scratch_buffers, scratch_bytes};
use super::sections::Sections;
use super::{capacity, choices, combine, experts, given, loss, operands, place, soft, tokens};
use crate::error::PlanError;
use crate::gpu::limits::GpuLimits;
use crate::gpu::recording::{Plan, Step};
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

/// The plan with the experts' matmuls cut like this.
pub(super) fn plan_cut(
    problem: &MoeProblem,
    limits: &GpuLimits,
    tiles: MatmulTiles,
    cuts: Cuts,
) -> Result<Plan, PlanError> {
    let sections = Sections::of(problem, cuts, tiles)?;
    let scratch = scratch_bytes(problem, sections.words);
    let context = Context { problem, limits, tiles, sections, cuts, scratch };
    Plan::fitting(steps(&context)?, scratch_buffers(scratch), limits)
}

/// Every launch, in order.
fn steps(context: &Context<'_>) -> Result<Vec<Step>, PlanError> {
    let problem = context.problem;
    let places = problem.places();
    let at_once = if places { place::at_once(context)? } else { None };
    let mut steps = Vec::new();
    if !context.is_empty() {
        let given = at_once.is_some() && given::is_known(context);
        steps.extend(routing_steps(context, given)?);
    }
    if problem.wants_losses() {
        steps.push(loss::losses(context)?);
    }
    if places {
        match at_once {
            Some(step) => steps.push(step),
            None => steps.extend(place::apart(context)?),
        }
    }
    if places && !context.is_empty() {
        if matches!(problem.spec.router, Router::ExpertChoice { .. }) {
            steps.extend(place::token_lists(context)?);
        }
        if problem.wants(MoeOutput::Out) {
            steps.extend(expert_steps(context)?);
        }
    }
    Ok(steps)
}

/// From pairs in their rows to out.
fn expert_steps(context: &Context<'_>) -> Result<Vec<Step>, PlanError> {
    let problem = context.problem;
    let mut steps = Vec::new();
    if problem.extents.shared_dim > 0 {
        steps.extend(tokens::shared(context)?);
    }
    steps.extend(operands::round_inputs(context)?);
    for cut in context.cuts.all(problem) {
        steps.push(experts::gate_up(context, &cut)?);
    }
    steps.extend(operands::round_hidden(context)?);
    for cut in context.cuts.all(problem) {
        steps.push(experts::down(context, &cut)?);
    }
    steps.extend(combine::combine(context)?);
    Ok(steps)
}

/// From x to the expert of every pair; `given`: a later step copies what is known beforehand.
fn routing_steps(context: &Context<'_>, given: bool) -> Result<Vec<Step>, PlanError> {
    let problem = context.problem;
    let mut steps = Vec::new();
    if problem.has("router_w") || problem.has("phi") {
        steps.extend(tokens::logits(context)?);
    }
    match problem.spec.router {
        Router::TokenChoice(_) | Router::ExpertChoice { .. } => {
            steps.extend(choices::route(context)?)
        }
        Router::External => {}
        // What is mixed is the experts' input alone.
        Router::Soft { .. } if !problem.wants(MoeOutput::Out) => {}
        Router::Soft { .. } => steps.extend(soft::soft_inputs(context)?),
    }
    if matches!(problem.spec.router, Router::External | Router::Soft { .. }) && !given {
        steps.push(given::given(context)?);
    }
    if problem.wants_losses() {
        steps.extend(loss::terms(context)?);
    }
    if problem.capacity().is_some() {
        steps.extend(capacity::select(context)?);
    }
    Ok(steps)
}
