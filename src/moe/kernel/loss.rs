//! The losses' kernels.

use super::bindings::{bind_logits, bind_routing, optional_output};
use super::context::Context;
use super::launch::{WORKGROUP_SIZE, close, kernel};
use super::scratch::Scratch;
use super::soft::{Lines, soft_stats};
use crate::error::PlanError;
use crate::gpu::recording::Step;
use crate::kernel::source::add_fragment;
use crate::moe::spec::MoeOutput;

/// What the losses sum, token by token and expert by expert, of the tokens here.
pub(super) fn terms(context: &Context<'_>) -> Result<Vec<Step>, PlanError> {
    let e = &context.problem.extents;
    let tokens = soft_stats(context, Lines::of_tokens(context, e.choices(), 0))?;
    let mut source = kernel(WORKGROUP_SIZE);
    bind_routing(context, &mut source, false)?;
    bind_logits(context, &mut source)?;
    source.bind("stats", "f32", true, context.scratch(Scratch::Stats)?);
    source.params.u32("tokens", e.tokens);
    source.params.u32("token_first", context.span.start);
    source.params.u32("token_end", context.span.end);
    add_fragment!(source, "moe/not_finite.wgsl");
    add_fragment!(source, "moe/loss_terms.wgsl");
    let grid = [e.choices(), 1, 1];
    let experts = close(source, "moe_loss_terms", WORKGROUP_SIZE, 8 * WORKGROUP_SIZE, grid);
    Ok(vec![tokens, experts])
}

/// The losses, where they were asked for; without tokens they are 0.
pub(super) fn losses(context: &Context<'_>) -> Result<Step, PlanError> {
    let e = &context.problem.extents;
    let mut source = kernel(WORKGROUP_SIZE);
    source.bind("stats", "f32", false, context.scratch(Scratch::Stats)?);
    source.const_u32("CHOICES", e.choices());
    source.params.u32("tokens", e.tokens);
    optional_output(context, &mut source, "balance", MoeOutput::LoadBalancingLoss, "f32")?;
    optional_output(context, &mut source, "z", MoeOutput::ZLoss, "f32")?;
    add_fragment!(source, "moe/not_finite.wgsl");
    add_fragment!(source, "moe/losses.wgsl");
    Ok(close(source, "moe_losses", WORKGROUP_SIZE, 8 * WORKGROUP_SIZE, [1, 1, 1]))
}
