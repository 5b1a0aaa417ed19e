//! The kernel that copies what is known of the pairs: an external router's, or a soft router's slots.

use super::bindings::{bind_routing, optional_input, own_top_k};
use super::context::Context;
use super::launch::{WORKGROUP_SIZE, close, entry, kernel, lanes};
use super::scratch::Scratch;
use crate::error::PlanError;
use crate::gpu::recording::Step;
use crate::kernel::source::{KernelSource, add_fragment};
use crate::moe::routing::Router;

/// Whether the experts of pairs are known beforehand, and nothing stands between them and their rows.
pub(super) fn is_known(context: &Context<'_>) -> bool {
    let known = matches!(context.problem.spec.router, Router::External | Router::Soft { .. });
    known && context.problem.capacity().is_none()
}

/// The experts of pairs that are known beforehand.
pub(super) fn given(context: &Context<'_>) -> Result<Step, PlanError> {
    let e = &context.problem.extents;
    let mut source = kernel(WORKGROUP_SIZE);
    bind_routing(context, &mut source, true)?;
    source.const_u32("CHOICES", e.choices());
    source.const_u32("TOP_K", e.top_k);
    bind_given(context, &mut source)?;
    entry(&mut source, "moe_given", "give(params.given_first + index * WORKGROUP_SIZE + lane);");
    let grid = lanes(context, "routing", context.pair_range().len() as u64, WORKGROUP_SIZE)?;
    Ok(close(source, "moe_given", WORKGROUP_SIZE, 0, grid))
}

/// `give(pair)`.
pub(super) fn bind_given(
    context: &Context<'_>,
    source: &mut KernelSource,
) -> Result<(), PlanError> {
    let external = context.problem.spec.router == Router::External;
    source.bind("weights", "f32", true, context.scratch(Scratch::Weights)?);
    source.const_bool("EXTERNAL", external);
    source.params.u32("given_first", context.pair_range().start);
    source.params.u32("given_end", context.pair_range().end);
    source.const_bool("CAPACITY", context.problem.capacity().is_some());
    source.const_u32("SLOTS", context.problem.extents.slots.max(1));
    own_top_k(context, source)?;
    for (name, tensor) in [("ids", "topk_ids"), ("weights", "topk_weights")] {
        let tensor = Some(tensor).filter(|_| external);
        let stride = tensor.map_or(0, |name| context.problem.tensors[name].layout.strides()[0]);
        source.params.u32(format!("{name}_in_stride"), stride as u32);
        match (name, tensor) {
            ("ids", None) => source.accessor("fn ids_get(i: u32) -> i32 { return 0; }\n"),
            _ => optional_input(context, source, name, tensor, "0.0")?,
        }
    }
    add_fragment!(source, "moe/given.wgsl");
    Ok(())
}
