//! What the matmuls multiply: tensors, scratch, and either rounded to bytes.

use std::ops::Range;

use super::context::Context;
use super::cuts::Cut;
use super::scratch::{Scratch, padded};
use crate::error::PlanError;
use crate::gpu::recording::{Bound, Step};
use crate::kernel::access::Access;
use crate::matmul::{ByteRows, Operand, Operands, Rows};
use crate::tensor::{Dtype, WeightFormat};

/// Rows that experts multiply, and where they lie once they are rounded.
#[derive(Clone, Copy)]
pub(super) struct Input {
    /// The number that the first of them has.
    pub first: u32,
    pub rows: u64,
    pub inner: u32,
    pub rounded: Scratch,
}

impl Input {
    /// The tokens here.
    pub fn tokens(context: &Context<'_>) -> Self {
        Self {
            first: context.span.start,
            rows: context.span.len() as u64,
            inner: context.problem.extents.model_dim,
            rounded: Scratch::Rounded,
        }
    }

    /// What the experts' first matmuls take: tokens, or a soft router's slots.
    pub fn of_experts(context: &Context<'_>) -> Self {
        let tokens = Self::tokens(context);
        match context.problem.extents.slots {
            0 => tokens,
            _ => Self { first: 0, rows: context.problem.most_rows(), ..tokens },
        }
    }

    /// What their second ones take.
    pub fn hidden(context: &Context<'_>) -> Self {
        Self {
            first: 0,
            rows: context.problem.most_rows_of(context.span.len() as u32),
            inner: context.problem.extents.expert_dim,
            rounded: Scratch::RoundedHidden,
        }
    }

    /// The rows as bytes, where those are asked for.
    fn bytes(&self, context: &Context<'_>) -> Result<Option<ByteRows>, PlanError> {
        if context.problem.operands() != Operands::Bytes {
            return Ok(None);
        }
        let bound = Bound {
            size: ByteRows::size(self.rows, self.inner).max(16),
            ..context.scratch(self.rounded)?
        };
        Ok(Some(ByteRows { bound, first: self.first, rows: self.rows as u32, inner: self.inner }))
    }

    /// What a matmul takes of them.
    pub fn taken(
        &self,
        context: &Context<'_>,
        numbers: impl FnOnce() -> Result<Operand, PlanError>,
    ) -> Result<Rows, PlanError> {
        Ok(match self.bytes(context)? {
            Some(bytes) => Rows::Bytes(bytes),
            None => Rows::Numbers(numbers()?),
        })
    }

    /// Rounds them, where that is asked for; `numbers` begin with row 0, the first of them being here.
    pub fn round(
        &self,
        context: &Context<'_>,
        numbers: impl FnOnce() -> Result<Operand, PlanError>,
    ) -> Result<Vec<Step>, PlanError> {
        let Some(bytes) = self.bytes(context)? else { return Ok(Vec::new()) };
        Ok(vec![bytes.quantise(&numbers()?, context.limits)?])
    }
}

/// The experts' inputs.
pub(super) fn inputs(context: &Context<'_>) -> Result<Operand, PlanError> {
    let e = &context.problem.extents;
    match e.slots {
        0 => tokens_operand(context),
        _ => rows_of(context, Scratch::Slots, e.model_dim, 0),
    }
}

/// The experts' hidden rows.
pub(super) fn hidden(context: &Context<'_>) -> Result<Operand, PlanError> {
    rows_of(context, Scratch::Hidden, context.problem.extents.expert_dim, 0)
}

/// Rounds the experts' inputs; the shared expert has rounded the tokens already.
pub(super) fn round_inputs(context: &Context<'_>) -> Result<Vec<Step>, PlanError> {
    let e = &context.problem.extents;
    if e.shared_dim > 0 && e.slots == 0 {
        return Ok(Vec::new());
    }
    Input::of_experts(context).round(context, || inputs(context))
}

/// Rounds their hidden rows.
pub(super) fn round_hidden(context: &Context<'_>) -> Result<Vec<Step>, PlanError> {
    Input::hidden(context).round(context, || hidden(context))
}

/// x, of which the tokens here are bound.
pub(super) fn tokens_operand(context: &Context<'_>) -> Result<Operand, PlanError> {
    let problem = context.problem;
    Operand::of(problem.format_of("x"), "x", &problem.tensors, |name| context.tensor(name))
}

/// A tensor `[rows, inner]`, or phi, of which some rows are bound.
pub(super) fn matrix(
    context: &Context<'_>,
    name: &str,
    rows: &Range<u32>,
) -> Result<Operand, PlanError> {
    let problem = context.problem;
    let bind = |name: &str| context.rows(name, rows);
    let mut operand = Operand::of(problem.format_of(name), name, &problem.tensors, bind)?;
    if name == "phi" {
        // A matrix for one set of weights: its slots follow each other.
        let (shape, strides) =
            (problem.tensors[name].shape(), problem.tensors[name].layout.strides());
        if shape[0] > 1 && shape[1] > 1 && strides[0] != strides[1] * shape[1] {
            return Err(PlanError::Unsupported {
                what: format!("phi with strides {strides:?}"),
                reason: "the slots of neighbouring experts must follow each other".to_owned(),
            });
        }
        operand.row_stride = if shape[1] > 1 { strides[1] } else { strides[0] } as u32;
        operand.expert_stride = 0;
    }
    Ok(operand)
}

/// A scratch matrix of f32 that begins with row `first`, of what plain implementations store in the type of the tokens.
pub(super) fn rows_of(
    context: &Context<'_>,
    scratch: Scratch,
    dim: u32,
    first: u32,
) -> Result<Operand, PlanError> {
    let access = if dim.is_multiple_of(4) { Access::Vec4 } else { Access::Scalar };
    Ok(Operand {
        bound: context.scratch(scratch)?,
        first: first.wrapping_mul(padded(dim)).wrapping_neg(),
        format: WeightFormat::F32,
        halves: context.problem.spec.dtype == Dtype::F16,
        access,
        row_stride: padded(dim),
        expert_stride: 0,
        scales: None,
    })
}

/// Gate and up, or up alone, of some experts and columns.
pub(super) fn first_weights(context: &Context<'_>, cut: &Cut) -> Result<Vec<Operand>, PlanError> {
    let gated = context.problem.spec.activation.is_gated();
    let names = if gated { &["w_gate", "w_up"][..] } else { &["w_up"] };
    names.iter().map(|name| expert_operand(context, name, cut)).collect()
}

/// A tensor `[experts here, rows, inner]`, of which some experts and rows are bound.
pub(super) fn expert_operand(
    context: &Context<'_>,
    name: &str,
    cut: &Cut,
) -> Result<Operand, PlanError> {
    let problem = context.problem;
    let bind = |name: &str| context.expert_tensor(name, &cut.experts, &cut.columns);
    Operand::of(problem.format_of(name), name, &problem.tensors, bind)
}
