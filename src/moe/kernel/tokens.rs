//! The matmuls over all tokens: the router's, and the shared expert's.

use std::ops::Range;

use super::activation::activation_finish;
use super::bindings::optional_input;
use super::context::Context;
use super::operands::{Input, first_weights, operand, rows_of};
use super::scratch::{Scratch, padded};
use crate::error::PlanError;
use crate::gpu::recording::Step;
use crate::kernel::slices::workgroups_a_dispatch;
use crate::kernel::source::add_fragment;
use crate::matmul::{Matmul, Rows, Workgroups, add_column_bias, dense_rows};

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
            optional_input(context, &mut source, "bias", Some("router_b"), "0.0")?;
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
    let tokens = Input { rows: e.tokens.into(), inner: model, rounded: Scratch::Rounded };
    let hidden = Input { inner, rounded: Scratch::RoundedHidden, ..tokens };
    let mut steps = tokens.round(context, || operand(context, "x"))?;
    steps.extend(shared_up(context, &tokens)?);
    steps.extend(hidden.round(context, || rows_of(context, Scratch::Hidden, inner))?);
    steps.extend(plain(
        context,
        "shared_w_down",
        [inner, model, padded(model)],
        Scratch::Shared,
        || hidden.taken(context, || rows_of(context, Scratch::Hidden, inner)),
    )?);
    if context.problem.has("shared_gate_w") {
        steps.extend(plain(context, "shared_gate_w", [model, 1, 1], Scratch::SharedGate, || {
            Ok(Rows::Numbers(operand(context, "x")?))
        })?);
    }
    Ok(steps)
}

/// Its first matmuls and the activation.
fn shared_up(context: &Context<'_>, tokens: &Input) -> Result<Vec<Step>, PlanError> {
    let e = &context.problem.extents;
    let parts = if context.problem.spec.activation.is_gated() { 2 } else { 1 };
    dense(context, e.model_dim, e.shared_dim * parts, |rows| {
        let mut source = dense_rows(&rows);
        activation_finish(context, &mut source, None)?;
        let matmul = Matmul {
            inner: e.model_dim,
            columns: e.shared_dim,
            tiles: context.tiles,
            a: tokens.taken(context, || operand(context, "x"))?,
            weights: first_weights(context, "shared_", None)?,
            result: context.scratch(Scratch::Hidden)?,
            result_first: 0,
            result_stride: padded(e.shared_dim),
            workgroups: Workgroups::Rows { rows: rows.end - rows.start, splits: 1 },
        };
        matmul.step(source, context.limits)
    })
}

/// A matmul of the shared expert whose sums are left as they are.
fn plain(
    context: &Context<'_>,
    weights: &str,
    [inner, columns, result_stride]: [u32; 3],
    to: Scratch,
    taken: impl Fn() -> Result<Rows, PlanError>,
) -> Result<Vec<Step>, PlanError> {
    dense(context, inner, columns, |rows| {
        let mut source = dense_rows(&rows);
        add_fragment!(source, "matmul/finish_none.wgsl");
        let matmul = Matmul {
            inner,
            columns,
            tiles: context.tiles,
            a: taken()?,
            weights: vec![operand(context, weights)?],
            result: context.scratch(to)?,
            result_first: 0,
            result_stride,
            workgroups: Workgroups::Rows { rows: rows.end - rows.start, splits: 1 },
        };
        matmul.step(source, context.limits)
    })
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
