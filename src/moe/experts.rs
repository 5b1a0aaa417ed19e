//! The matmuls of a mixture of experts: the router's, the shared expert's, the experts'.

use std::ops::Range;

use ordered_float::OrderedFloat;

use super::context::{Context, Scratch, padded};
use super::cuts::Cut;
use super::inputs::{Input, hidden, inputs, operand, rows_of};
use super::kernel::{bind_routing, expert_side, optional_side};
use super::spec::{Activation, WeightOn};
use crate::error::PlanError;
use crate::gpu::recording::Step;
use crate::kernel::slices::workgroups_a_dispatch;
use crate::kernel::source::{KernelSource, add_fragment};
use crate::matmul::{Matmul, Operand, Rows, Workgroups, add_column_bias, dense_rows};

/// x · router_wᵀ + router_b, or x · phi.
pub(super) fn logits(context: &Context<'_>) -> Result<Vec<Step>, PlanError> {
    let e = &context.problem.extents;
    let problem = context.problem;
    let (result, result_first) = match problem.has("router_logits") {
        true => context.tensor("router_logits")?,
        false => (context.scratch(Scratch::Logits)?, 0),
    };
    let weights = if e.slots > 0 { "phi" } else { "router_w" };
    dense(context, e.model_dim, e.router_columns(), |rows| {
        let mut source = dense_rows(&rows);
        if problem.has("router_b") {
            optional_side(context, &mut source, "bias", Some("router_b"), "0.0")?;
            add_column_bias(&mut source);
        } else {
            add_fragment!(source, "matmul/finish_none.wgsl");
        }
        let matmul = Matmul {
            inner: e.model_dim,
            columns: e.router_columns(),
            tiles: context.tiles,
            a: Rows::Numbers(operand(context, "x")?),
            weights: vec![operand(context, weights)?],
            result: result.clone(),
            result_first,
            result_stride: e.router_columns(),
            workgroups: Workgroups::Rows { rows: rows.end - rows.start, splits: 1 },
        };
        matmul.step(source, context.limits)
    })
}

/// The shared expert on every token, and its gate.
pub(super) fn shared(context: &Context<'_>) -> Result<Vec<Step>, PlanError> {
    let e = &context.problem.extents;
    let (model, inner) = (e.model_dim, e.shared_dim);
    let parts = if context.problem.spec.activation.is_gated() { 2 } else { 1 };
    let x = Input { rows: e.tokens.into(), inner: model, rounded: Scratch::Rounded };
    let hidden = Input { inner, rounded: Scratch::RoundedHidden, ..x };
    let mut steps = x.round(context, || operand(context, "x"))?;
    steps.extend(dense(context, model, inner * parts, |rows| {
        let mut source = dense_rows(&rows);
        activation_finish(context, &mut source, None)?;
        let matmul = Matmul {
            inner: model,
            columns: inner,
            tiles: context.tiles,
            a: x.taken(context, || operand(context, "x"))?,
            weights: first_weights(context, "shared_", None)?,
            result: context.scratch(Scratch::Hidden)?,
            result_first: 0,
            result_stride: padded(inner),
            workgroups: Workgroups::Rows { rows: rows.end - rows.start, splits: 1 },
        };
        matmul.step(source, context.limits)
    })?);
    let plain = |name, [inner, columns, result_stride]: [u32; 3], to| {
        dense(context, inner, columns, |rows| {
            let mut source = dense_rows(&rows);
            add_fragment!(source, "matmul/finish_none.wgsl");
            let matmul = Matmul {
                inner,
                columns,
                tiles: context.tiles,
                a: match to {
                    Scratch::Shared => {
                        hidden.taken(context, || rows_of(context, Scratch::Hidden, inner))?
                    }
                    _ => Rows::Numbers(operand(context, "x")?),
                },
                weights: vec![operand(context, name)?],
                result: context.scratch(to)?,
                result_first: 0,
                result_stride,
                workgroups: Workgroups::Rows { rows: rows.end - rows.start, splits: 1 },
            };
            matmul.step(source, context.limits)
        })
    };
    steps.extend(hidden.round(context, || rows_of(context, Scratch::Hidden, inner))?);
    steps.extend(plain("shared_w_down", [inner, model, padded(model)], Scratch::Shared)?);
    if context.problem.has("shared_gate_w") {
        steps.extend(plain("shared_gate_w", [model, 1, 1], Scratch::SharedGate)?);
    }
    Ok(steps)
}

/// A matmul over all tokens, in dispatches that end before a watchdog does.
fn dense(
    context: &Context<'_>,
    inner: u32,
    columns: u32,
    step: impl Fn(Range<u32>) -> Result<Step, PlanError>,
) -> Result<Vec<Step>, PlanError> {
    let tokens = context.problem.extents.tokens;
    let tile_rows = context.tiles.tile_rows();
    let flops = 2.0 * f64::from(tile_rows) * f64::from(inner) * f64::from(columns);
    let tiles = workgroups_a_dispatch(|| flops, context.limits);
    let rows = tiles.saturating_mul(tile_rows.into()).min(tokens.max(1).into()) as u32;
    (0..tokens)
        .step_by(rows as usize)
        .map(|first| step(first..first.saturating_add(rows).min(tokens)))
        .collect()
}

/// The experts' first matmuls and the activation.
pub(super) fn gate_up(context: &Context<'_>, cut: &Cut) -> Result<Step, PlanError> {
    let e = &context.problem.extents;
    let soft = e.slots > 0;
    let on_input = context.problem.spec.weight_on == WeightOn::Input && !soft;
    let mut source = expert_rows(context, cut, !soft, on_input)?;
    activation_finish(context, &mut source, Some(&cut.experts))?;
    let matmul = Matmul {
        inner: e.model_dim,
        columns: e.expert_dim,
        tiles: context.tiles,
        a: Input::of_experts(context).taken(context, || inputs(context))?,
        weights: first_weights(context, "", Some(&cut.experts))?,
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
        expert_side(context, &mut source, "bias", Some("b_down"), &cut.experts)?;
        add_fragment!(source, "matmul/finish_bias.wgsl");
    } else {
        add_fragment!(source, "matmul/finish_none.wgsl");
    }
    let matmul = Matmul {
        inner: e.expert_dim,
        columns: e.model_dim,
        tiles: context.tiles,
        a: Input::hidden(context).taken(context, || hidden(context))?,
        weights: vec![expert_operand(context, "w_down", &cut.experts)?],
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
    let weight = if on_input {
        source.bind("weights", "f32", false, context.scratch(Scratch::Weights)?);
        "weights[pair]"
    } else {
        "1.0"
    };
    source.accessor(&format!("fn pair_weight(pair: u32) -> f32 {{ return {weight}; }}\n"));
    add_fragment!(source, "moe/rows_experts.wgsl");
    Ok(source)
}

/// The activation, with the biases of `experts`; a shared expert has none.
fn activation_finish(
    context: &Context<'_>,
    source: &mut KernelSource,
    experts: Option<&Range<u32>>,
) -> Result<(), PlanError> {
    let problem = context.problem;
    for (name, tensor) in [("gate_bias", "b_gate"), ("up_bias", "b_up")] {
        let tensor = Some(tensor).filter(|tensor| experts.is_some() && problem.has(tensor));
        expert_side(context, source, name, tensor, experts.unwrap_or(&(0..0)))?;
    }
    let one = OrderedFloat(1.0);
    let (number, alpha, limit) = match problem.spec.activation {
        Activation::SiluGlu => (0, one, one),
        Activation::GeluGlu => (1, one, one),
        Activation::GeluTanhGlu => (2, one, one),
        Activation::ClampedSwiglu { alpha, limit } => (3, alpha, limit),
        Activation::Relu => (4, one, one),
        Activation::Relu2 => (5, one, one),
        Activation::Gelu => (6, one, one),
        Activation::GeluTanh => (7, one, one),
        Activation::Silu => (8, one, one),
    };
    source.const_u32("ACTIVATION", number);
    source.const_f32("ALPHA", alpha.0);
    source.const_f32("LIMIT", limit.0);
    add_fragment!(source, "moe/sigmoid.wgsl");
    add_fragment!(source, "moe/finish_activation.wgsl");
    Ok(())
}

/// Gate and up, or up alone; of `experts`, or of the shared one.
fn first_weights(
    context: &Context<'_>,
    prefix: &str,
    experts: Option<&Range<u32>>,
) -> Result<Vec<Operand>, PlanError> {
    let gated = context.problem.spec.activation.is_gated();
    let names = if gated { &["w_gate", "w_up"][..] } else { &["w_up"] };
    let operand = |name: &&str| match experts {
        Some(experts) => expert_operand(context, name, experts),
        None => operand(context, &format!("{prefix}{name}")),
    };
    names.iter().map(operand).collect()
}

/// A tensor `[experts here, rows, inner]`, of which some experts are bound.
fn expert_operand(
    context: &Context<'_>,
    name: &str,
    experts: &Range<u32>,
) -> Result<Operand, PlanError> {
    let problem = context.problem;
    let bind = |name: &str| context.expert_tensor(name, experts);
    Operand::of(problem.format_of(name), name, &problem.tensors, bind)
}
