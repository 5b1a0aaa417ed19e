//! The matmuls of the experts.

use super::activation::activation_finish;
use super::bindings::{bind_pair_weight, bind_routing, expert_input};
use super::context::Context;
use super::cuts::Cut;
use super::operands::{Input, expert_operand, first_weights, hidden, inputs};
use super::scratch::{Scratch, padded};
use crate::error::PlanError;
use crate::gpu::recording::Step;
use crate::kernel::source::{KernelSource, add_fragment};
use crate::matmul::{Matmul, Workgroups};
use crate::moe::spec::WeightOn;

/// The experts' first matmuls and the activation.
pub(super) fn gate_up(context: &Context<'_>, cut: &Cut) -> Result<Step, PlanError> {
    let e = &context.problem.extents;
    let soft = e.slots > 0;
    let on_input = context.problem.spec.weight_on == WeightOn::Input && !soft;
    let mut source = expert_rows(context, cut, !soft, on_input)?;
    activation_finish(context, &mut source, Some(&cut.experts))?;
    let matmul = Matmul {
        inner: e.model_dim,
        columns: cut.columns.clone(),
        tiles: context.tiles,
        a: Input::of_experts(context).taken(context, || inputs(context))?,
        weights: first_weights(context, cut)?,
        result: context.scratch(Scratch::Hidden)?,
        result_first: 0,
        result_stride: padded(e.expert_dim),
        workgroups: Workgroups::Scratch {
            index: Scratch::Routing as usize,
            offset: u64::from(context.sections.up_grid + 4 * cut.index) * 4,
        },
    };
    matmul.step(source, context.limits)
}

/// The experts' second matmul.
pub(super) fn down(context: &Context<'_>, cut: &Cut) -> Result<Step, PlanError> {
    let e = &context.problem.extents;
    let mut source = expert_rows(context, cut, false, false)?;
    if context.problem.has("b_down") {
        expert_input(context, &mut source, "bias", Some("b_down"), &cut.experts)?;
        add_fragment!(source, "matmul/finish_bias.wgsl");
    } else {
        add_fragment!(source, "matmul/finish_none.wgsl");
    }
    let matmul = Matmul {
        inner: e.expert_dim,
        columns: cut.columns.clone(),
        tiles: context.tiles,
        a: Input::hidden(context).taken(context, || hidden(context))?,
        weights: vec![expert_operand(context, "w_down", cut)?],
        result: context.scratch(Scratch::Given)?,
        result_first: 0,
        result_stride: padded(e.model_dim),
        workgroups: Workgroups::Scratch {
            index: Scratch::Routing as usize,
            offset: u64::from(context.sections.down_grid + 4 * cut.index) * 4,
        },
    };
    matmul.step(source, context.limits)
}

/// A kernel whose row tiles are of experts.
fn expert_rows(
    context: &Context<'_>,
    cut: &Cut,
    gather: bool,
    on_input: bool,
) -> Result<KernelSource, PlanError> {
    let mut source = KernelSource::default();
    bind_routing(context, &mut source, false)?;
    source.params.u32("slice_start", cut.experts.start);
    source.params.u32("slice_end", cut.experts.end);
    source.params.u32("window_first", cut.window_first);
    source.params.u32("window_tiles", context.cuts.window_tiles);
    source.const_u32("TOP_K", context.problem.extents.top_k);
    source.const_bool("GATHER", gather);
    source.const_bool("WEIGHT_ON_INPUT", on_input);
    if on_input {
        bind_pair_weight(context, &mut source)?;
    } else {
        source.accessor("fn pair_weight(pair: u32) -> f32 { return 1.0; }\n");
    }
    add_fragment!(source, "moe/rows_experts.wgsl");
    Ok(source)
}
