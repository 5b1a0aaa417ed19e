//! What the kernels around the matmuls bind: routing, extra inputs, outputs, logits, tokens.

use std::ops::Range;

use super::context::Context;
use super::packed::PAIR_WEIGHTS;
use super::scratch::{Scratch, padded};
use crate::error::PlanError;
use crate::gpu::recording::Bound;
use crate::kernel::access::Access;
use crate::kernel::readers::element_kind;
use crate::kernel::source::KernelSource;
use crate::moe::spec::MoeOutput;
use crate::tensor::Dtype;

/// The routing buffer and where its parts begin.
pub(super) fn bind_routing(
    context: &Context<'_>,
    source: &mut KernelSource,
    writes: bool,
) -> Result<(), PlanError> {
    source.bind("routing", "u32", writes, context.scratch(Scratch::Routing)?);
    let s = &context.sections;
    for (name, first) in [
        ("up_grid", s.up_grid),
        ("down_grid", s.down_grid),
        ("counts", s.counts),
        ("offsets", s.offsets),
        ("tile_first", s.tile_first),
        ("drops", s.drops),
        ("ids", s.ids),
        ("experts", s.experts),
        ("pair_rows", s.pair_rows),
        ("row_pairs", s.row_pairs),
        ("table", s.table),
        ("tiles", s.tiles),
    ] {
        source.params.u32(name, first);
    }
    let e = &context.problem.extents;
    source.params.u32("expert_start", e.expert_start);
    source.params.u32("expert_end", e.local_end());
    source.accessor("fn is_here(expert: u32) -> bool { return expert >= params.expert_start && expert < params.expert_end; }\n");
    source.params.u32("pairs", context.pairs());
    source.params.u32("blocks", context.blocks());
    Ok(())
}

/// `NAME_get(i)` of a tensor, or a constant where there is none.
pub(super) fn optional_input(
    context: &Context<'_>,
    source: &mut KernelSource,
    name: &str,
    tensor: Option<&str>,
    otherwise: &str,
) -> Result<(), PlanError> {
    let Some(tensor) = tensor else {
        let kind = if otherwise == "true" { "bool" } else { "f32" };
        let text = format!("fn {name}_get(i: u32) -> {kind} {{ return {otherwise}; }}\n");
        source.accessor(&text);
        return Ok(());
    };
    if bind_packed(context, source, name, tensor, 0)? {
        return Ok(());
    }
    bind_input(context, source, name, tensor, context.tensor(tensor)?);
    Ok(())
}

/// `NAME_get(i)` of what is packed, `before` elements of which are not there; whether it is.
fn bind_packed(
    context: &Context<'_>,
    source: &mut KernelSource,
    name: &str,
    packed: &str,
    before: u32,
) -> Result<bool, PlanError> {
    let Some(first) = context.packed.first(packed) else { return Ok(false) };
    source.bind("packed", "u32", false, context.scratch(Scratch::Packed)?);
    let dtype = context.problem.tensors.get(packed).map_or(Dtype::F32, |desc| desc.dtype);
    source.params.u32(format!("{name}_first"), first.wrapping_sub(before));
    source.packed_reader(name, "packed", dtype);
    Ok(true)
}

/// `pair_weight(pair)`.
pub(super) fn bind_pair_weight(
    context: &Context<'_>,
    source: &mut KernelSource,
) -> Result<(), PlanError> {
    let weight = if bind_packed(context, source, "weights", PAIR_WEIGHTS, 0)? {
        "weights_get(pair)"
    } else {
        source.bind("weights", "f32", false, context.scratch(Scratch::Weights)?);
        "weights[pair]"
    };
    source.accessor(&format!("fn pair_weight(pair: u32) -> f32 {{ return {weight}; }}\n"));
    Ok(())
}

/// `NAME_get(i)` of a tensor that is bound as `bound`, its element 0 at `first`.
fn bind_input(
    context: &Context<'_>,
    source: &mut KernelSource,
    name: &str,
    tensor: &str,
    (bound, first): (Bound, u32),
) {
    let dtype = context.problem.tensors[tensor].dtype;
    source.bind(&format!("{name}_in"), KernelSource::element_type_of(dtype), false, bound);
    source.params.u32(format!("{name}_in_first"), first);
    source.element_reader(&format!("{name}_in"), dtype);
    let kind = element_kind(dtype);
    let text = format!("fn {name}_get(i: u32) -> {kind} {{ return {name}_in_get(i); }}\n");
    source.accessor(&text);
}

/// `NAME_at(expert, column)` of a tensor `[experts here, columns]`, or 0 where there is none.
pub(super) fn expert_input(
    context: &Context<'_>,
    source: &mut KernelSource,
    name: &str,
    tensor: Option<&str>,
    experts: &Range<u32>,
) -> Result<(), PlanError> {
    let value = match tensor {
        Some(tensor) => {
            let layout = &context.problem.tensors[tensor].layout;
            let (stride, columns) = (layout.strides()[0], layout.shape()[1] as u32);
            source.params.u32(format!("{name}_stride"), stride as u32);
            let before = u64::from(context.problem.extents.expert_start) * stride;
            if !bind_packed(context, source, name, tensor, before as u32)? {
                bind_input(
                    context,
                    source,
                    name,
                    tensor,
                    context.expert_tensor(tensor, experts, &(0..columns))?,
                );
            }
            format!("{name}_get(expert * params.{name}_stride + column)")
        }
        None => "0.0".to_owned(),
    };
    source.accessor(&format!(
        "fn {name}_at(expert: u32, column: u32) -> f32 {{ return {value}; }}\n"
    ));
    Ok(())
}

/// `NAME_out(i, value)`: writes an output, or nothing where it was not asked for.
pub(super) fn optional_output(
    context: &Context<'_>,
    source: &mut KernelSource,
    name: &str,
    output: MoeOutput,
    element: &str,
) -> Result<(), PlanError> {
    let body = if context.problem.wants(output) {
        let (bound, first) = context.tensor(output.name())?;
        source.bind(&format!("{name}_to"), element, true, bound);
        source.params.u32(format!("{name}_to_first"), first);
        format!("{name}_to[params.{name}_to_first + i] = value;")
    } else {
        String::new()
    };
    source.accessor(&format!("fn {name}_out(i: u32, value: {element}) {{ {body} }}\n"));
    Ok(())
}

/// `logits_get(i)` and `params.logits_stride`: what the router's matmul gave, or the caller's.
pub(super) fn bind_logits(
    context: &Context<'_>,
    source: &mut KernelSource,
) -> Result<(), PlanError> {
    let dtype = context.problem.tensors.get("router_logits").map_or(Dtype::F32, |desc| desc.dtype);
    let (bound, first) = context.logits()?;
    source.bind("logits", KernelSource::element_type_of(dtype), false, bound);
    source.params.u32("logits_first", first);
    source.params.u32("logits_stride", context.logits_stride());
    source.element_reader("logits", dtype);
    Ok(())
}

/// `top_k_get(token)`: how many experts a token has, at most TOP_K where the caller keeps to it.
pub(super) fn own_top_k(context: &Context<'_>, source: &mut KernelSource) -> Result<(), PlanError> {
    let text = if context.problem.has("token_top_k") {
        optional_input(context, source, "own_top_k", Some("token_top_k"), "")?;
        "fn top_k_get(token: u32) -> u32 { return u32(max(own_top_k_get(token), 0)); }\n"
    } else {
        "fn top_k_get(token: u32) -> u32 { return TOP_K; }\n"
    };
    source.accessor(text);
    Ok(())
}

/// `x_load4(params.x_first + token * params.x_stride, d)`.
pub(super) fn bind_x(context: &Context<'_>, source: &mut KernelSource) -> Result<(), PlanError> {
    let dim = context.problem.extents.model_dim;
    let x = &context.problem.tensors["x"];
    let (bound, first) = context.tensor("x")?;
    let access = Access::of(x);
    source.bind("x", KernelSource::row_element(x.dtype, access), false, bound);
    source.row_reader("x", x.dtype, access, dim, padded(dim));
    source.params.u32("x_first", first);
    source.params.u32("x_stride", x.layout.strides()[0] as u32);
    Ok(())
}
