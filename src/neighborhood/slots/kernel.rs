//! The two kernels: what each is made of and what it binds.

use super::context::{Context, WORKGROUP_SIZE};
use crate::error::PlanError;
use crate::gpu::recording::{Step, fold_grid};
use crate::kernel::access::Access;
use crate::kernel::numbers::element_at;
use crate::kernel::source::{KernelSource, Launch, add_fragment};
use crate::neighborhood::bind::slice_tokens;
use crate::neighborhood::kernel::{extents, rule};

/// Lanes that share a dot product: together they read 64 bytes of f32.
const LANES: u32 = 4;

/// Multiply-adds of a workgroup.
pub(super) fn scores_work(dim: u32) -> f64 {
    f64::from(WORKGROUP_SIZE) * f64::from(dim)
}

/// Multiply-adds of a workgroup.
pub(super) fn aggregate_work(volume: u32) -> f64 {
    f64::from(WORKGROUP_SIZE) * 4.0 * f64::from(volume)
}

/// The launch of `count` workgroups from `first` on.
pub(super) fn scores_step(
    context: &Context<'_>,
    softmax_scale: f32,
    (first, count): (u32, u32),
) -> Result<Step, PlanError> {
    let slots = context.slots;
    let mut source = KernelSource::default();
    source.const_u32("LANES", LANES);
    source.const_u32("HEAD_DIM", slots.dim);
    source.const_u32("VOLUME", slots.volume());
    source.params.f32("softmax_scale", softmax_scale);
    for name in ["q", "k"] {
        read_rows(context, &mut source, name, slots.dim);
    }
    rows_and_slots(context, &mut source, (first, count));
    context.rows().bind(&mut source, ("scores", "scores"), ("scores", "u32", true));
    source.log_writer("scores_store", "scores");
    add_fragment!(source, "neighborhood/scores.wgsl");
    let bytes = WORKGROUP_SIZE * ((LANES + 1) * 4 + 8);
    launch(context, source, ("neighborhood_scores", bytes), count)
}

/// The launch of `count` workgroups from `first` on.
pub(super) fn aggregate_step(
    context: &Context<'_>,
    (first, count): (u32, u32),
) -> Result<Step, PlanError> {
    let slots = context.slots;
    let mut source = KernelSource::default();
    source.const_u32("VALUE_VECS", slots.dim.div_ceil(4));
    read_rows(context, &mut source, "v", slots.dim);
    let weights = slots.tensors["weights"].dtype;
    let element = KernelSource::element_type_of(weights);
    context.rows().bind(&mut source, ("weights", "weights"), ("weights", element, false));
    let weight = element_at("weights", weights, "at");
    source.accessor(&format!("fn weights_get(at: u32) -> f32 {{ return {weight}; }}\n"));
    rows_and_slots(context, &mut source, (first, count));
    let out = &slots.tensors["out"];
    let access = Access::of(out);
    let element = KernelSource::written_element(out.dtype, access);
    context.rows().bind(&mut source, ("out", "out"), ("out", element, true));
    source.row_writer("out", out.dtype, access, slots.dim);
    add_fragment!(source, "neighborhood/aggregate.wgsl");
    launch(context, source, ("neighborhood_aggregate", 0), count)
}

/// Binds rows of a tensor, with their reader.
fn read_rows(context: &Context<'_>, source: &mut KernelSource, name: &str, dim: u32) {
    let desc = &context.slots.tensors[name];
    let access = Access::of(desc);
    let element = KernelSource::row_element(desc.dtype, access);
    context.rows().bind(source, (name, name), (name, element, false));
    source.row_reader(name, desc.dtype, access, dim, dim.next_multiple_of(4));
}

/// What `slots.wgsl` wants, and the share of the work that a dispatch does.
fn rows_and_slots(context: &Context<'_>, source: &mut KernelSource, (first, count): (u32, u32)) {
    let (slots, axes) = (context.slots, context.slots.axes3());
    source.const_u32("WORKGROUP_SIZE", WORKGROUP_SIZE);
    source.const_u32("GROUP_SIZE", slots.group_size());
    source.const_vec3("WINDOW", axes.map(|axis| axis.window));
    source.params.u32("workgroup_first", first);
    source.params.u32("workgroups", first + count);
    source.params.u32("items", context.items() as u32);
    source.params.u32("batch_first", context.slice.batch.start);
    source.params.u32("head_first", context.slice.q_heads(slots.group_size()).start);
    source.params.u32("heads", context.q_heads());
    source.params.u32("tokens", context.tokens());
    extents(&axes, slots.axes.len(), source);
    slice_tokens(source, slots.axes.len(), &context.slice);
    rule(&axes, source);
    add_fragment!(source, "neighborhood/places.wgsl");
    add_fragment!(source, "neighborhood/slots.wgsl");
}

/// Closes a kernel of `count` workgroups.
fn launch(
    context: &Context<'_>,
    source: KernelSource,
    (entry, workgroup_bytes): (&'static str, u32),
    count: u32,
) -> Result<Step, PlanError> {
    Ok(source.step(Launch {
        entry,
        workgroup_size: WORKGROUP_SIZE,
        workgroup_bytes,
        checked: false,
        grid: fold_grid(entry, u64::from(count), context.limits)?,
    }))
}
