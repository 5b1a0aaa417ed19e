//! The matmuls of a mixture of experts: the router's, the shared expert's, the experts'.

use ordered_float::OrderedFloat;

use super::context::{Context, Scratch, padded};
use super::kernel::{bind_routing, optional_side};
use super::spec::{Activation, WeightOn};
use crate::error::PlanError;
use crate::fused::source::{Access, KernelSource};
use crate::gpu::recording::{Bound, Step};
use crate::matmul::{Matmul, Operand, Workgroups};
use crate::tensor::Dtype;

/// x · router_wᵀ + router_b, or x · phi.
pub(super) fn logits(context: &Context<'_>) -> Result<Step, PlanError> {
    let e = &context.problem.extents;
    let mut source = dense_rows(e.tokens);
    let bias = context.problem.has("router_b");
    let weights = if bias {
        bias_finish(context, &mut source, "router_b", 0)?;
        operand(context, "router_w")?
    } else {
        source.fragment("matmul/finish_none.wgsl", FINISH_NONE);
        operand(context, if e.slots > 0 { "phi" } else { "router_w" })?
    };
    let (result, result_first) = match context.problem.has("router_logits") {
        true => context.tensor("router_logits")?,
        false => (context.scratch(Scratch::Logits)?, 0),
    };
    let matmul = Matmul {
        inner: e.model_dim,
        columns: e.router_columns(),
        tiles: context.tiles,
        a: operand(context, "x")?,
        weights: vec![weights],
        result,
        result_first,
        result_stride: e.router_columns(),
        workgroups: Workgroups::Rows(e.tokens),
    };
    matmul.step(source, context.limits)
}

/// The shared expert on every token, and its gate.
pub(super) fn shared(context: &Context<'_>) -> Result<Vec<Step>, PlanError> {
    let e = &context.problem.extents;
    let mut steps = Vec::new();
    let mut source = dense_rows(e.tokens);
    activation_finish(context, &mut source, false)?;
    let tokens = Workgroups::Rows;
    let matmul = Matmul {
        inner: e.model_dim,
        columns: e.shared_dim,
        tiles: context.tiles,
        a: operand(context, "x")?,
        weights: first_weights(context, "shared_")?,
        result: context.scratch(Scratch::Hidden)?,
        result_first: 0,
        result_stride: padded(e.shared_dim),
        workgroups: tokens(e.tokens),
    };
    steps.push(matmul.step(source, context.limits)?);
    let hidden = rows_of(context.scratch(Scratch::Hidden)?, e.shared_dim);
    let [down, gate] = [
        ("shared_w_down", e.shared_dim, e.model_dim, padded(e.model_dim), Scratch::Shared),
        ("shared_gate_w", e.model_dim, 1, 1, Scratch::SharedGate),
    ];
    let mut plain = |(name, inner, columns, result_stride, to), a| -> Result<(), PlanError> {
        let mut source = dense_rows(e.tokens);
        source.fragment("matmul/finish_none.wgsl", FINISH_NONE);
        let matmul = Matmul {
            inner,
            columns,
            tiles: context.tiles,
            a,
            weights: vec![operand(context, name)?],
            result: context.scratch(to)?,
            result_first: 0,
            result_stride,
            workgroups: tokens(e.tokens),
        };
        steps.push(matmul.step(source, context.limits)?);
        Ok(())
    };
    plain(down, hidden)?;
    if context.problem.has("shared_gate_w") {
        plain(gate, operand(context, "x")?)?;
    }
    Ok(steps)
}

/// The experts' first matmuls and the activation.
pub(super) fn gate_up(context: &Context<'_>) -> Result<Step, PlanError> {
    let e = &context.problem.extents;
    let soft = e.slots > 0;
    let on_input = context.problem.spec.weight_on == WeightOn::Input && !soft;
    let mut source = expert_rows(context, !soft, on_input)?;
    activation_finish(context, &mut source, true)?;
    let matmul = Matmul {
        inner: e.model_dim,
        columns: e.expert_dim,
        tiles: context.tiles,
        a: match soft {
            true => rows_of(context.scratch(Scratch::Slots)?, e.model_dim),
            false => operand(context, "x")?,
        },
        weights: first_weights(context, "")?,
        result: context.scratch(Scratch::Hidden)?,
        result_first: 0,
        result_stride: padded(e.expert_dim),
        workgroups: Workgroups::Scratch {
            index: Scratch::Routing as usize,
            offset: u64::from(context.sections.up_grid) * 4,
        },
    };
    matmul.step(source, context.limits)
}

/// The experts' second matmul.
pub(super) fn down(context: &Context<'_>) -> Result<Step, PlanError> {
    let e = &context.problem.extents;
    let mut source = expert_rows(context, false, false)?;
    if context.problem.has("b_down") {
        let stride = context.problem.tensors["b_down"].layout.strides[0];
        bias_finish(context, &mut source, "b_down", stride as u32)?;
    } else {
        source.fragment("matmul/finish_none.wgsl", FINISH_NONE);
    }
    let matmul = Matmul {
        inner: e.expert_dim,
        columns: e.model_dim,
        tiles: context.tiles,
        a: rows_of(context.scratch(Scratch::Hidden)?, e.expert_dim),
        weights: vec![operand(context, "w_down")?],
        result: context.scratch(Scratch::Given)?,
        result_first: 0,
        result_stride: padded(e.model_dim),
        workgroups: Workgroups::Scratch {
            index: Scratch::Routing as usize,
            offset: u64::from(context.sections.down_grid) * 4,
        },
    };
    matmul.step(source, context.limits)
}

const FINISH_NONE: &str = include_str!("../../shaders/matmul/finish_none.wgsl");

fn dense_rows(rows: u32) -> KernelSource {
    let mut source = KernelSource::default();
    source.params.u32("rows", rows);
    let text = include_str!("../../shaders/matmul/rows_dense.wgsl");
    source.fragment("matmul/rows_dense.wgsl", text);
    source
}

fn expert_rows(
    context: &Context<'_>,
    gather: bool,
    on_input: bool,
) -> Result<KernelSource, PlanError> {
    let mut source = KernelSource::default();
    bind_routing(context, &mut source, false)?;
    source.const_u32("EXPERTS", context.problem.extents.experts);
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
    let text = include_str!("../../shaders/moe/rows_experts.wgsl");
    source.fragment("moe/rows_experts.wgsl", text);
    Ok(source)
}

fn bias_finish(
    context: &Context<'_>,
    source: &mut KernelSource,
    name: &str,
    expert_stride: u32,
) -> Result<(), PlanError> {
    optional_side(context, source, "bias", Some(name), "0.0")?;
    source.params.u32("bias_stride", expert_stride);
    source.accessor("fn bias_at(expert: u32, column: u32) -> f32 { return bias_get(expert * params.bias_stride + column); }\n");
    let text = include_str!("../../shaders/matmul/finish_bias.wgsl");
    source.fragment("matmul/finish_bias.wgsl", text);
    Ok(())
}

fn activation_finish(
    context: &Context<'_>,
    source: &mut KernelSource,
    biases: bool,
) -> Result<(), PlanError> {
    let problem = context.problem;
    for (name, tensor) in [("gate_bias", "b_gate"), ("up_bias", "b_up")] {
        let tensor = Some(tensor).filter(|tensor| biases && problem.has(tensor));
        let stride = tensor.map_or(0, |tensor| problem.tensors[tensor].layout.strides[0]);
        optional_side(context, source, name, tensor, "0.0")?;
        source.params.u32(format!("{name}_stride"), stride as u32);
        source.accessor(&format!(
            "fn {name}_at(expert: u32, column: u32) -> f32 {{ return {name}_get(expert * params.{name}_stride + column); }}\n"
        ));
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
    let text = include_str!("../../shaders/moe/finish_activation.wgsl");
    source.fragment("moe/finish_activation.wgsl", text);
    Ok(())
}

/// Gate and up, or up alone.
fn first_weights(context: &Context<'_>, prefix: &str) -> Result<Vec<Operand>, PlanError> {
    let gated = context.problem.spec.activation.is_gated();
    let names = if gated { &["w_gate", "w_up"][..] } else { &["w_up"] };
    names.iter().map(|name| operand(context, &format!("{prefix}{name}"))).collect()
}

/// A tensor `[rows, inner]` or `[experts, rows, inner]`.
fn operand(context: &Context<'_>, name: &str) -> Result<Operand, PlanError> {
    let desc = &context.problem.tensors[name];
    let (bound, first) = context.tensor(name)?;
    let mut strides: Vec<u64> = desc.layout.strides.clone();
    let shape = desc.shape();
    if name == "phi" {
        // A matrix for one set of weights: its slots follow each other.
        if shape[0] > 1 && shape[1] > 1 && strides[0] != strides[1] * shape[1] {
            return Err(PlanError::Unsupported {
                what: format!("phi with strides {strides:?}"),
                reason: "the slots of neighbouring experts must follow each other".to_owned(),
            });
        }
        let row = if shape[1] > 1 { strides[1] } else { strides[0] };
        strides = vec![row, 1];
    }
    let row_stride = strides[strides.len() - 2] as u32;
    let expert_stride = if strides.len() == 3 { strides[0] as u32 } else { 0 };
    let access = Access::of(desc);
    Ok(Operand { bound, first, dtype: desc.dtype, access, row_stride, expert_stride })
}

/// A scratch matrix of f32.
fn rows_of(bound: Bound, dim: u32) -> Operand {
    let access = if dim.is_multiple_of(4) { Access::Vec4 } else { Access::Scalar };
    let row_stride = padded(dim);
    Operand { bound, first: 0, dtype: Dtype::F32, access, row_stride, expert_stride: 0 }
}
