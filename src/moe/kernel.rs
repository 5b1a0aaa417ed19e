//! What the kernels around the matmuls share: bindings, accessors, grids.

use std::ops::Range;

use super::context::{Context, Scratch};
use super::spec::MoeOutput;
use crate::error::PlanError;
use crate::gpu::recording::{Bound, Step, fold_grid};
use crate::kernel::slices::workgroups_a_dispatch;
use crate::kernel::source::{KernelSource, Launch};
use crate::kernel::template::template;
use crate::tensor::Dtype;

/// Lanes of a workgroup where nothing else decides.
pub(super) const WORKGROUP_SIZE: u32 = 64;

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
pub(super) fn optional_side(
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
    bind_side(context, source, name, tensor, context.tensor(tensor)?);
    Ok(())
}

/// `NAME_get(i)` of a tensor that is bound as `bound`, its element 0 at `first`.
fn bind_side(
    context: &Context<'_>,
    source: &mut KernelSource,
    name: &str,
    tensor: &str,
    (bound, first): (Bound, u32),
) {
    let dtype = context.problem.tensors[tensor].dtype;
    source.bind(&format!("{name}_in"), KernelSource::side_element(dtype), false, bound);
    source.params.u32(format!("{name}_in_first"), first);
    source.side_reader(&format!("{name}_in"), dtype);
    let kind = match dtype {
        Dtype::Bool => "bool",
        Dtype::I32 => "i32",
        _ => "f32",
    };
    let text = format!("fn {name}_get(i: u32) -> {kind} {{ return {name}_in_get(i); }}\n");
    source.accessor(&text);
}

/// `NAME_at(expert, column)` of a tensor `[experts here, columns]`, or 0 where there is none.
pub(super) fn expert_side(
    context: &Context<'_>,
    source: &mut KernelSource,
    name: &str,
    tensor: Option<&str>,
    experts: &Range<u32>,
) -> Result<(), PlanError> {
    let value = match tensor {
        Some(tensor) => {
            let stride = context.problem.tensors[tensor].layout.strides[0];
            source.params.u32(format!("{name}_stride"), stride as u32);
            bind_side(context, source, name, tensor, context.expert_tensor(tensor, experts)?);
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
    let (dtype, (bound, first)) = match context.problem.tensors.get("router_logits") {
        Some(desc) => (desc.dtype, context.tensor("router_logits")?),
        None => (Dtype::F32, (context.scratch(Scratch::Logits)?, 0)),
    };
    source.bind("logits", KernelSource::side_element(dtype), false, bound);
    source.params.u32("logits_first", first);
    source.params.u32("logits_stride", context.logits_stride());
    source.side_reader("logits", dtype);
    Ok(())
}

pub(super) fn close(
    source: KernelSource,
    entry: &'static str,
    workgroup_size: u32,
    workgroup_bytes: u32,
    grid: [u32; 3],
) -> Step {
    source.step(Launch { entry, workgroup_size, workgroup_bytes, checked: false, grid })
}

/// A kernel whose header says its workgroup size, and what stands for no expert, row or token.
pub(super) fn kernel(workgroup_size: u32) -> KernelSource {
    let mut source = KernelSource::default();
    source.const_u32("WORKGROUP_SIZE", workgroup_size);
    source.const_u32("NONE", u32::MAX);
    source
}

/// An entry point that makes a call, of the workgroup's `index` and the `lane`.
pub(super) fn entry(source: &mut KernelSource, name: &str, call: &str) {
    source.fragment("entry", template!("moe/entry.wgsl", "NAME" = name, "CALL" = call));
}

/// Dispatches of a kernel that would keep a slow device busy for too long in one: `step` makes one of them from its
/// first workgroup, which is a param, and its grid.
pub(super) fn in_spans(
    context: &Context<'_>,
    what: &str,
    workgroups: u64,
    flops: f64,
    step: impl Fn(u32, [u32; 3]) -> Result<Step, PlanError>,
) -> Result<Vec<Step>, PlanError> {
    fold_grid(what, workgroups, context.limits)?;
    let most = workgroups_a_dispatch(|| flops, context.limits).min(workgroups.max(1));
    let span = |first: u64| {
        let grid = fold_grid(what, most.min(workgroups - first), context.limits)?;
        step(first as u32, grid)
    };
    (0..workgroups).step_by(most as usize).map(span).collect()
}

/// Workgroups for `lanes` of work.
pub(super) fn lanes(
    context: &Context<'_>,
    what: &str,
    lanes: u64,
    workgroup_size: u32,
) -> Result<[u32; 3], PlanError> {
    fold_grid(what, lanes.div_ceil(u64::from(workgroup_size)), context.limits)
}
