//! The matmuls over all tokens: the router's, and the shared expert's.

use std::ops::Range;

use super::activation::activation_finish;
use super::bindings::optional_input;
use super::context::{Context, row_range};
use super::fitting;
use super::operands::{Input, matrix, rows_of, tokens_operand};
use super::scratch::{Scratch, padded};
use crate::error::PlanError;
use crate::gpu::recording::{Step, check_step_count};
use crate::kernel::slices::workgroups_a_dispatch;
use crate::kernel::source::add_fragment;
use crate::matmul::weights::scales_name;
use crate::matmul::{Matmul, Rows, Workgroups, add_column_bias, dense_rows};

/// x · router_wᵀ + router_b, or x · phi.
pub(super) fn logits(context: &Context<'_>) -> Result<Vec<Step>, PlanError> {
    let e = &context.problem.extents;
    let problem = context.problem;
    let (result, result_first) = context.logits()?;
    let weights = if e.slots > 0 { "phi" } else { "router_w" };
    dense(context, e.model_dim, e.router_columns(), &[weights], |rows, columns| {
        let mut source = dense_rows(&rows);
        if problem.has("router_b") {
            optional_input(context, &mut source, "bias", Some("router_b"), "0.0")?;
            add_column_bias(&mut source);
        } else {
            add_fragment!(source, "matmul/finish_none.wgsl");
        }
        let matmul = Matmul {
            inner: e.model_dim,
            weights: vec![matrix(context, weights, &columns)?],
            columns,
            tiles: context.tiles,
            a: Rows::Numbers(tokens_operand(context)?),
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
    let tokens = Input::tokens(context);
    let hidden = Input { inner, rounded: Scratch::RoundedHidden, ..tokens };
    let mut steps = tokens.round(context, || tokens_operand(context))?;
    steps.extend(shared_up(context, &tokens)?);
    let rows = || rows_of(context, Scratch::Hidden, inner, context.span.start);
    steps.extend(hidden.round(context, rows)?);
    steps.extend(plain(
        context,
        "shared_w_down",
        [inner, model, padded(model)],
        Scratch::Shared,
        || hidden.taken(context, || rows_of(context, Scratch::Hidden, inner, context.span.start)),
    )?);
    if context.problem.has("shared_gate_w") {
        steps.extend(plain(context, "shared_gate_w", [model, 1, 1], Scratch::SharedGate, || {
            Ok(Rows::Numbers(tokens_operand(context)?))
        })?);
    }
    Ok(steps)
}

/// Its first matmuls and the activation.
fn shared_up(context: &Context<'_>, tokens: &Input) -> Result<Vec<Step>, PlanError> {
    let e = &context.problem.extents;
    let parts = if context.problem.spec.activation.is_gated() { 2 } else { 1 };
    let names = &["shared_w_gate", "shared_w_up"][2 - parts..];
    dense(context, e.model_dim, e.shared_dim, names, |rows, columns| {
        let mut source = dense_rows(&rows);
        activation_finish(context, &mut source, None)?;
        let weights = names.iter().map(|name| matrix(context, name, &columns));
        let result_stride = padded(e.shared_dim);
        let matmul = Matmul {
            inner: e.model_dim,
            weights: weights.collect::<Result<_, _>>()?,
            columns,
            tiles: context.tiles,
            a: tokens.taken(context, || tokens_operand(context))?,
            result: context.scratch(Scratch::Hidden)?,
            result_first: before_span(context, result_stride),
            result_stride,
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
    dense(context, inner, columns, &[weights], |rows, columns| {
        let mut source = dense_rows(&rows);
        add_fragment!(source, "matmul/finish_none.wgsl");
        let matmul = Matmul {
            inner,
            weights: vec![matrix(context, weights, &columns)?],
            columns,
            tiles: context.tiles,
            a: taken()?,
            result: context.scratch(to)?,
            result_first: before_span(context, result_stride),
            result_stride,
            workgroups: Workgroups::Rows { rows: rows.end - rows.start, splits: 1 },
        };
        matmul.step(source, context.limits)
    })
}

/// Where token 0's row would lie in a result that has those of the tokens here.
fn before_span(context: &Context<'_>, stride: u32) -> u32 {
    context.span.start.wrapping_mul(stride).wrapping_neg()
}

/// A matmul over the tokens here with rows of `weights`, in dispatches that end before a watchdog does and whose weights fit a
/// binding.
fn dense(
    context: &Context<'_>,
    inner: u32,
    columns: u32,
    weights: &[&str],
    step: impl Fn(Range<u32>, Range<u32>) -> Result<Step, PlanError>,
) -> Result<Vec<Step>, PlanError> {
    let span = context.span.clone();
    let part = bound_rows(context, weights, columns)?;
    let tile_rows = context.tiles.tile_rows();
    let flops =
        2.0 * f64::from(tile_rows) * f64::from(inner) * f64::from(part) * weights.len() as f64;
    let tiles = workgroups_a_dispatch(|| flops, context.limits);
    let rows = tiles.saturating_mul(tile_rows.into()).min((span.len() as u64).max(1)) as usize;
    let parts = u64::from(columns.div_ceil(part)).saturating_mul(span.len().div_ceil(rows) as u64);
    check_step_count("parts of a matmul over all tokens", parts)?;
    let cut = |all: Range<u32>, step: usize| {
        let end = all.end;
        all.step_by(step).map(move |first| first..first.saturating_add(step as u32).min(end))
    };
    let all = cut(0..columns, part as usize)
        .flat_map(|columns| cut(span.clone(), rows).map(move |rows| (rows, columns.clone())));
    all.map(|(rows, columns)| step(rows, columns)).collect()
}

/// Rows of weights that are bound at once: all, or whole tiles of columns.
fn bound_rows(context: &Context<'_>, weights: &[&str], columns: u32) -> Result<u32, PlanError> {
    let tile = context.tiles.part_columns(weights.len() as u32);
    let mut fit = columns;
    for name in weights.iter().flat_map(|name| [(*name).to_owned(), scales_name(name)]) {
        let Some(desc) = context.problem.tensors.get(&name) else { continue };
        let one = |rows: Range<u32>| {
            let range = row_range(context.problem, &name, &rows);
            range.end - range.start
        };
        let stride = if columns > 1 { one(0..2) - one(0..1) } else { 0 };
        let rows = fitting::Rows {
            bytes: desc.dtype.bytes(),
            one: one(0..columns),
            stride,
            count: columns.into(),
        };
        fit = fit.min(rows.fitting(&name, context.limits, tile)?);
    }
    Ok(fit)
}
