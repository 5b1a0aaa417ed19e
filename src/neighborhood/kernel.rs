//! The kernel of neighborhood attention: what it is made of and what it binds.

use super::bind::no_rows;
use super::modifiers;
use super::plan::Context;
use super::score::NeighborhoodScore;
use super::spec::NeighborhoodOutput;
use super::window::Axis;
use crate::error::PlanError;
use crate::fused::classify::{self, CLASSIFY_SIZE, classify_source};
use crate::fused::forward::{Forward, score_constants};
use crate::gpu::recording::{Step, fold_grid};
use crate::kernel::source::{Access, KernelSource, Launch, add_fragment};

/// Offsets from here on are those of extra tokens' tensors: no binding has so many elements.
const EXTRA_OFFSET: u32 = 1 << 31;

/// q, k and v, and the extra tokens behind the same two functions.
fn inputs(context: &Context<'_>, source: &mut KernelSource, (head_asked, value_asked): (u32, u32)) {
    let e = &context.problem.extents;
    let has_extra = e.extra > 0;
    let mut read = |role: &str, tensor: &str, name: &str, dim: u32, asked: u32| {
        let desc = &context.problem.tensors[tensor];
        let access = Access::of(desc);
        let element = KernelSource::row_element(desc.dtype, access);
        context.rows().bind(source, (role, tensor), (name, element, false));
        source.row_reader(name, desc.dtype, access, dim, asked);
    };
    read("q", "q", "q", e.head_dim, head_asked);
    for (role, extra, name, dim, asked) in [
        ("k", "extra_k", "window_k", e.head_dim, head_asked),
        ("v", "extra_v", "window_v", e.value_dim, value_asked),
    ] {
        read(role, role, if has_extra { name } else { role }, dim, asked);
        if has_extra {
            read(extra, extra, extra, dim, asked);
        }
    }
    if !has_extra {
        no_extra_offsets(source);
        return;
    }
    source.const_u32("EXTRA_OFFSET", EXTRA_OFFSET);
    for role in ["k", "v"] {
        source.accessor(&format!(
            "fn {role}_load4(offset: u32, d: u32) -> vec4<f32> {{\n    if (offset >= EXTRA_OFFSET) {{ return extra_{role}_load4(offset - EXTRA_OFFSET, d); }}\n    return window_{role}_load4(offset, d);\n}}\n"
        ));
    }
    add_fragment!(source, "neighborhood/extra.wgsl");
}

/// Stands in where no extra token is read.
fn no_extra_offsets(source: &mut KernelSource) {
    for role in ["k", "v"] {
        let text = "(block: Block, index: u32) -> u32 { return 0u; }";
        source.accessor(&format!("fn extra_{role}_offset{text}\n"));
    }
}

/// The windows and boxes: what `domain.wgsl` wants.
fn domain(context: &Context<'_>, source: &mut KernelSource, first: u32, count: u32) {
    let (axes, tiles, packing) = (&context.axes, &context.tiles, &context.packing);
    source.const_u32("TILE_KV", tiles.fused.tile_kv());
    source.const_u32("TILE_Q", tiles.fused.tile_q());
    source.const_vec3("QUERY_BOX", tiles.query_box.0);
    source.const_vec3("KEY_BOX", tiles.key_box.0);
    source.const_u32("QUERY_BOX_VOLUME", tiles.query_box.volume() as u32);
    source.const_u32("KEY_BOX_VOLUME", tiles.key_box.volume() as u32);
    source.const_bool("EVERY_TILE_FULL", context.every_tile_is_full);
    let key_boxes = tiles.most_key_boxes(axes);
    source.const_vec3("KEY_BOXES", key_boxes.0);
    source.const_u32("WINDOW_TILES", key_boxes.volume() as u32);
    source.const_vec3("KEY_SHIFT", packing.shifts);
    source.const_vec3("KEY_MASK", packing.masks);
    source.const_u32("KEY_GUARDS", packing.guards);
    rule(axes, source);
    let side = |i: usize| tiles.query_box.0[i];
    source.const_vec3("BOX_PAD", std::array::from_fn(|i| axes[i].box_pad(side(i))));
    head_windows(context, source);
    source.const_bool("HAS_MASK_MOD", context.problem.spec.mask.is_some());
    source.params.u32("extra", context.problem.extents.extra);
    source.const_bool("HAS_EXTRA", context.problem.extents.extra > 0);
    source.const_u32("CLASSES", context.classes());
    source.const_u32("GROUP_SIZE", context.problem.extents.group_size());
    source.params.u32("workgroup_first", first);
    source.params.u32("workgroups", first + count);
    source.params.u32("batch_first", context.slice.batch.start);
    let group = context.problem.extents.group_size();
    source.params.u32("head_first", context.slice.kv_heads.start * group);
    source.params.u32("heads", context.q_heads());
    source.params.u32("map_boxes", context.map_boxes() as u32);
    for (axis, letter) in ["x", "y", "z"].into_iter().enumerate() {
        source.params.u32(format!("boxes_{letter}"), context.boxes()[axis]);
    }
    extents(axes, context.problem.axes.len(), source);
    add_fragment!(source, "neighborhood/domain.wgsl");
}

/// `domain_extents()`: tokens along each axis.
pub(super) fn extents(axes: &[Axis; 3], rank: usize, source: &mut KernelSource) {
    let mut extents = Vec::new();
    for (axis, letter) in ["x", "y", "z"].into_iter().enumerate() {
        // An axis that is not there is known to the compiler.
        if axis < 3 - rank {
            extents.push("1u".to_owned());
        } else {
            source.params.u32(format!("extent_{letter}"), axes[axis].extent);
            extents.push(format!("params.extent_{letter}"));
        }
    }
    let extents = extents.join(", ");
    source.accessor(&format!("fn domain_extents() -> vec3<u32> {{ return vec3({extents}); }}\n"));
}

/// The rule of the windows, their extent aside: what `window.wgsl` wants.
pub(super) fn rule(axes: &[Axis; 3], source: &mut KernelSource) {
    source.const_vec3("STRIDE", axes.map(|axis| axis.stride));
    source.const_vec3("DILATION", axes.map(|axis| axis.dilation));
    source.const_vec3("CAUSAL", axes.map(|axis| axis.causal));
    source.const_bool("CLIP", axes.iter().any(|axis| axis.clip));
    // The leader's place in its group, and places by which the first group begins before the class.
    let leader = axes.map(|a| if a.causal { a.stride - 1 } else { a.stride / 2 });
    source.const_vec3("LEADER", leader);
    source.const_vec3("GROUP_PAD", axes.map(|axis| axis.group_pad()));
    add_fragment!(source, "neighborhood/window.wgsl");
}

/// `domain_window(h)`: a constant, or from a list by query head.
fn head_windows(context: &Context<'_>, source: &mut KernelSource) {
    let windows = &context.problem.spec.head_windows;
    let differ = windows.iter().any(|window| *window != windows[0]);
    source.const_bool("WINDOWS_DIFFER", differ);
    let window = if differ {
        let missing = 3 - context.problem.axes.len();
        let mut numbers = Vec::new();
        for (axis, letter) in ["x", "y", "z"].into_iter().enumerate() {
            if axis < missing {
                numbers.push("1u".to_owned());
                continue;
            }
            let list: Vec<i32> = windows.iter().map(|w| w[axis - missing] as i32).collect();
            source.params.i32_list(format!("window_{letter}"), &list);
            numbers.push(format!("u32(params.window_{letter}[h / 4u][h % 4u])"));
        }
        format!("vec3({})", numbers.join(", "))
    } else {
        source.const_vec3("WINDOW", context.axes.map(|axis| axis.window));
        "WINDOW".to_owned()
    };
    source.accessor(&format!("fn domain_window(h: u32) -> vec3<u32> {{ return {window}; }}\n"));
}

/// What turns q · k into weights: softmax without a sink of scores that the caller may change and mask; says whether
/// the caller's functions must run checked.
fn weights(context: &Context<'_>, source: &mut KernelSource) -> Result<bool, PlanError> {
    let spec = &context.problem.spec;
    let scale = context.problem.softmax_scale();
    let calls = |modifier: &NeighborhoodScore| matches!(modifier, NeighborhoodScore::Wgsl(_));
    let may_mask = spec.score.iter().any(calls);
    let raw = spec.score.is_empty() && scale > 0.0;
    score_constants(source, &context.tiles.fused, scale, raw, may_mask);
    source.const_bool("HAS_SINK", false);
    source.accessor("fn sink_logit(h: u32) -> f32 { return 0.0; }\n");
    let checked = modifiers::score(context, source, may_mask)?;
    add_fragment!(source, "fused/normaliser_softmax.wgsl");
    Ok(checked)
}

/// Binds out and lse as asked for, with their writers.
fn outputs(context: &Context<'_>, source: &mut KernelSource) {
    let p = context.problem;
    let (has_out, has_lse) = (p.wants(NeighborhoodOutput::Out), p.wants(NeighborhoodOutput::Lse));
    source.const_bool("HAS_OUT", has_out);
    source.const_bool("HAS_LSE", has_lse);
    if has_out {
        let desc = &p.tensors["out"];
        let access = Access::of(desc);
        let element = KernelSource::written_element(desc.dtype, access);
        context.rows().bind(source, ("out", "out"), ("out", element, true));
        source.row_writer("out", desc.dtype, access, p.extents.value_dim);
    } else {
        no_rows(source, "out");
        source.accessor("fn out_store4(offset: u32, d: u32, value: vec4<f32>) {}\n");
    }
    if has_lse {
        context.rows().bind(source, ("lse", "lse"), ("lse", "u32", true));
        source.lse_writer("lse");
    } else {
        no_rows(source, "lse");
        source.accessor("fn lse_store(at: u32, value: f32, empty: bool) {}\n");
    }
    add_fragment!(source, "neighborhood/store.wgsl");
}

/// The launch that finds which tiles the caller's mask leaves empty or whole.
pub(super) fn classify_step(context: &Context<'_>) -> Result<Step, PlanError> {
    // A row costs more to find than a key: lanes keep to one as far as there are rows.
    let row_lanes = context.tiles.fused.tile_q().next_power_of_two().min(CLASSIFY_SIZE);
    let mut source = classify_source(CLASSIFY_SIZE / row_lanes, context.tile_map());
    source.params.u32("map_words", context.map_words() as u32);
    for role in ["q", "k", "v"] {
        no_rows(&mut source, role);
    }
    no_extra_offsets(&mut source);
    let workgroups = context.map_boxes();
    domain(context, &mut source, 0, workgroups as u32);
    let checked = modifiers::mask(context, &mut source)?;
    classify::classify_step(source, workgroups * context.map_words(), checked, context.limits)
}

/// The launch of `count` workgroups from `first` on.
pub(super) fn forward_step(
    context: &Context<'_>,
    first: u32,
    count: u32,
) -> Result<Step, PlanError> {
    let shape = context.problem.fused_shape();
    let tiles = context.tiles.fused;
    let mut source = KernelSource::default();
    let forward = Forward { shape, tiles, is_cpu: context.limits.is_cpu };
    let asked = forward.constants(&mut source);
    inputs(context, &mut source, asked);
    domain(context, &mut source, first, count);
    let mut checked = modifiers::mask(context, &mut source)?;
    checked |= weights(context, &mut source)?;
    outputs(context, &mut source);
    if context.by_map() {
        source.bind("tile_map", "vec2<u32>", false, context.tile_map());
        source.params.u32("map_words", context.map_words() as u32);
        add_fragment!(source, "fused/tiles_by_map.wgsl");
    } else {
        add_fragment!(source, "fused/tiles_by_form.wgsl");
    }
    forward.body(&mut source);
    Ok(source.step(Launch {
        entry: forward.entry(),
        workgroup_size: tiles.workgroup_size(),
        workgroup_bytes: tiles.workgroup_bytes(shape),
        checked,
        grid: fold_grid("neighborhood attention", u64::from(count), context.limits)?,
    }))
}
