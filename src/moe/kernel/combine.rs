//! The kernel at the end: the sums that make a token's row of out.

use super::bindings::{bind_logits, bind_routing, bind_x};
use super::context::Context;
use super::launch::{WORKGROUP_SIZE, close, in_spans, kernel};
use super::scratch::{Scratch, padded};
use super::soft::soft_mask;
use crate::error::PlanError;
use crate::gpu::recording::Step;
use crate::kernel::access::Access;
use crate::kernel::source::{KernelSource, add_fragment};
use crate::moe::spec::WeightOn;

/// A token's row of out from its parts.
pub(super) fn combine(context: &Context<'_>) -> Result<Vec<Step>, PlanError> {
    let e = &context.problem.extents;
    let work = context.span.len() as u64 * u64::from(padded(e.model_dim) / 4);
    let parts = if e.slots > 0 { e.router_columns() } else { e.top_k };
    let flops = f64::from(WORKGROUP_SIZE) * 24.0 * f64::from(parts);
    let workgroups = work.div_ceil(u64::from(WORKGROUP_SIZE));
    in_spans(context, "combining", workgroups, flops, |first, grid| {
        combine_span(context, first, grid)
    })
}

/// One dispatch of it.
fn combine_span(context: &Context<'_>, first: u32, grid: [u32; 3]) -> Result<Step, PlanError> {
    let e = &context.problem.extents;
    let mut source = kernel(WORKGROUP_SIZE);
    source.const_u32("DIM_VECS", padded(e.model_dim) / 4);
    source.params.u32("token_first", context.span.start);
    source.params.u32("tokens", context.span.end);
    source.params.u32("place_first", first);
    source.bind("given", "vec4<f32>", false, context.scratch(Scratch::Given)?);
    bind_out(context, &mut source)?;
    shared_part(context, &mut source)?;
    add_fragment!(source, "moe/part.wgsl");
    let parts = if e.slots > 0 {
        soft_parts(context, &mut source)?
    } else {
        routed_parts(context, &mut source)?
    };
    source.const_u32("PARTS", parts);
    add_fragment!(source, "moe/combine.wgsl");
    Ok(close(source, "moe_combine", WORKGROUP_SIZE, 0, grid))
}

/// The slots of a soft router that are here; gives their number.
fn soft_parts(context: &Context<'_>, source: &mut KernelSource) -> Result<u32, PlanError> {
    let e = &context.problem.extents;
    bind_logits(context, source)?;
    soft_mask(context, source)?;
    source.bind("stats", "f32", false, context.scratch(Scratch::Stats)?);
    source.params.u32("slots", e.router_columns());
    source.params.u32("slot_first", e.expert_start * e.slots);
    source.params.u32("stats_first", 2 * e.router_columns());
    source.accessor(NO_OWN);
    add_fragment!(source, "moe/not_finite.wgsl");
    add_fragment!(source, "moe/parts_soft.wgsl");
    Ok(e.local_experts() * e.slots)
}

/// The experts that a token was routed to; gives their number.
fn routed_parts(context: &Context<'_>, source: &mut KernelSource) -> Result<u32, PlanError> {
    let problem = context.problem;
    let e = &problem.extents;
    bind_routing(context, source, false)?;
    source.bind("weights", "f32", false, context.scratch(Scratch::Weights)?);
    source.const_u32("TOP_K", e.top_k);
    source.const_bool("WEIGHT_ON_INPUT", problem.spec.weight_on == WeightOn::Input);
    let identity = e.null_experts.identity > 0;
    source.const_bool("IDENTITY", identity);
    source.const_u32("IDENTITY_FIRST", e.experts + e.null_experts.zero);
    if identity {
        bind_x(context, source)?;
        source.accessor("fn own_load4(token: u32, vec: u32) -> vec4<f32> { return x_load4(params.x_first + token * params.x_stride, vec * 4u); }\n");
    } else {
        source.accessor(NO_OWN);
    }
    add_fragment!(source, "moe/parts_routed.wgsl");
    Ok(e.top_k)
}

/// For kernels in which no part is the token itself.
const NO_OWN: &str = "fn own_load4(token: u32, vec: u32) -> vec4<f32> { return vec4(0.0); }\n";

/// `out_store4(offset, d, value)` and where a token's row lies.
fn bind_out(context: &Context<'_>, source: &mut KernelSource) -> Result<(), PlanError> {
    let out = &context.problem.tensors["out"];
    let (bound, first) = context.tensor("out")?;
    let access = Access::of(out);
    source.bind("out", KernelSource::written_element(out.dtype, access), true, bound);
    source.row_writer("out", out.dtype, access, context.problem.extents.model_dim);
    source.params.u32("out_first", first);
    source.params.u32("out_stride", out.layout.strides()[0] as u32);
    Ok(())
}

/// `shared_part(token, vec)`: what the shared expert adds.
fn shared_part(context: &Context<'_>, source: &mut KernelSource) -> Result<(), PlanError> {
    if context.problem.extents.shared_dim == 0 {
        let text = "fn shared_part(token: u32, vec: u32) -> vec4<f32> { return vec4(0.0); }\n";
        source.accessor(text);
        return Ok(());
    }
    source.bind("shared_given", "vec4<f32>", false, context.scratch(Scratch::Shared)?);
    let gate = if context.problem.has("shared_gate_w") {
        source.bind("shared_gate", "f32", false, context.scratch(Scratch::SharedGate)?);
        add_fragment!(source, "moe/not_finite.wgsl");
        add_fragment!(source, "moe/sigmoid.wgsl");
        add_fragment!(source, "moe/shared_gate.wgsl");
        " * shared_weight(token)"
    } else {
        ""
    };
    source.accessor(&format!(
        "fn shared_part(token: u32, vec: u32) -> vec4<f32> {{ return shared_given[(token - params.token_first) * DIM_VECS + vec]{gate}; }}\n"
    ));
    Ok(())
}
