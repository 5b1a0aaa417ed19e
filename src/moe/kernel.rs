//! The kernels around the matmuls: routing, placing, combining.

use super::plan::{BLOCK_PAIRS, Context, Scratch, padded};
use super::spec::{GroupScore, MoeOutput, Priority, Router, Score, TokenChoice, Weight, WeightOn};
use crate::error::PlanError;
use crate::fused::source::{Access, KernelSource, Launch};
use crate::gpu::recording::{Bound, Slot, Step, fold_grid};
use crate::tensor::Dtype;

const WORKGROUP_SIZE: u32 = 64;

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
    let dtype = context.problem.tensors[tensor].dtype;
    let (bound, first) = context.tensor(tensor)?;
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

/// A kernel with one fragment after the header, and its workgroup size as a constant.
pub(super) fn kernel(workgroup_size: u32) -> KernelSource {
    let mut source = KernelSource::default();
    source.const_u32("WORKGROUP_SIZE", workgroup_size);
    source
}

/// Workgroups for `lanes` of work.
fn lanes(
    context: &Context<'_>,
    what: &str,
    lanes: u64,
    workgroup_size: u32,
) -> Result<[u32; 3], PlanError> {
    fold_grid(what, lanes.div_ceil(u64::from(workgroup_size)), context.limits)
}

pub(super) fn route(context: &Context<'_>) -> Result<Step, PlanError> {
    let e = &context.problem.extents;
    let workgroup_size = e.experts.next_power_of_two().clamp(32, 256);
    let mut source = kernel(workgroup_size);
    source.params.u32("tokens", e.tokens);
    bind_routing(context, &mut source, true)?;
    bind_logits(context, &mut source)?;
    source.bind("weights", "f32", true, context.scratch(Scratch::Weights)?);
    let every = TokenChoice::default();
    let choice = context.problem.token_choice();
    let groups = route_constants(context, &mut source, choice.unwrap_or(&every));
    let correction = choice.and_then(|choice| choice.correction_bias.as_deref());
    optional_side(context, &mut source, "correction", correction, "0.0")?;
    let problem = context.problem;
    let mask = Some("logit_mask").filter(|name| problem.has(name));
    let mask_stride = mask.map_or(0, |name| problem.tensors[name].layout.strides[0]);
    source.params.u32("mask_stride", mask_stride as u32);
    optional_side(context, &mut source, "mask", mask, "true")?;
    if problem.has("token_top_k") {
        optional_side(context, &mut source, "own_top_k", Some("token_top_k"), "")?;
        source.accessor(
            "fn top_k_get(token: u32) -> u32 { return u32(max(own_top_k_get(token), 0)); }\n",
        );
    } else {
        source.accessor("fn top_k_get(token: u32) -> u32 { return TOP_K; }\n");
    }
    optional_output(context, &mut source, "ids", MoeOutput::TopkIds, "u32")?;
    optional_output(context, &mut source, "weights", MoeOutput::TopkWeights, "f32")?;
    source.fragment("moe/sort_key.wgsl", include_str!("../../shaders/moe/sort_key.wgsl"));
    source.fragment("moe/route.wgsl", include_str!("../../shaders/moe/route.wgsl"));
    let grid = fold_grid("routing", u64::from(e.tokens), context.limits)?;
    let bytes = 4 * (3 * e.experts + groups + e.top_k + workgroup_size);
    Ok(close(source, "moe_route", workgroup_size, bytes, grid))
}

/// What a token choice is; gives the number of groups.
fn route_constants(context: &Context<'_>, source: &mut KernelSource, choice: &TokenChoice) -> u32 {
    let e = &context.problem.extents;
    let TokenChoice { score, correction_bias, groups, weight, scale, epsilon } = choice;
    let by_sum = groups.is_some_and(|groups| groups.by == GroupScore::Top2Sum);
    let ordered = *score == Score::Softmax && correction_bias.is_none() && !by_sum;
    source.const_u32("EXPERTS", e.experts);
    source.const_u32("TOP_K", e.top_k);
    source.const_bool("EVERY", context.problem.token_choice().is_none());
    source.const_bool("CAPACITY", context.problem.capacity().is_some());
    source.const_bool("CHOICE_BY_LOGIT", ordered);
    source.const_u32("GROUPS", groups.map_or(1, |groups| groups.count));
    source.const_u32("GROUPS_KEPT", groups.map_or(1, |groups| groups.keep));
    source.const_bool("GROUP_BY_SUM", by_sum);
    source.const_f32("SCALE", scale.0);
    source.const_f32("EPSILON", epsilon.0);
    source.const_f32("LOWEST", f32::MIN);
    let score = match score {
        Score::Softmax => 0,
        Score::Sigmoid => 1,
        Score::SqrtSoftplus => 2,
        Score::Logit => 3,
    };
    source.const_u32("SCORE", score);
    let weight = match weight {
        Weight::Score => 0,
        Weight::Renormalized => 1,
        Weight::Softmax => 2,
        Weight::Sigmoid => 3,
    };
    source.const_u32("WEIGHT", weight);
    groups.map_or(1, |groups| groups.count)
}

pub(super) fn given(context: &Context<'_>) -> Result<Step, PlanError> {
    let e = &context.problem.extents;
    let external = context.problem.spec.router == Router::External;
    let mut source = kernel(WORKGROUP_SIZE);
    bind_routing(context, &mut source, true)?;
    source.bind("weights", "f32", true, context.scratch(Scratch::Weights)?);
    source.const_bool("EXTERNAL", external);
    source.const_bool("CAPACITY", context.problem.capacity().is_some());
    source.const_u32("SLOTS", e.slots.max(1));
    source.const_u32("EXPERTS", e.experts);
    source.const_u32("TOP_K", e.top_k);
    source.const_u32("NONE", u32::MAX);
    for (name, tensor) in [("ids", "topk_ids"), ("weights", "topk_weights")] {
        let tensor = Some(tensor).filter(|_| external);
        let stride = tensor.map_or(0, |name| context.problem.tensors[name].layout.strides[0]);
        source.params.u32(format!("{name}_in_stride"), stride as u32);
        match (name, tensor) {
            ("ids", None) => source.accessor("fn ids_get(i: u32) -> i32 { return 0; }\n"),
            _ => optional_side(context, &mut source, name, tensor, "0.0")?,
        }
    }
    source.fragment("moe/given.wgsl", include_str!("../../shaders/moe/given.wgsl"));
    let grid = lanes(context, "routing", u64::from(context.pairs()), WORKGROUP_SIZE)?;
    Ok(close(source, "moe_given", WORKGROUP_SIZE, 0, grid))
}

pub(super) fn select(context: &Context<'_>) -> Result<Step, PlanError> {
    const LANES: u32 = 256;
    let e = &context.problem.extents;
    let every = matches!(context.problem.spec.router, Router::ExpertChoice { .. });
    let capacity = context.problem.capacity().unwrap_or(super::spec::Capacity {
        rows: u32::MAX,
        sequences: 1,
        priority: Priority::TokenOrder,
    });
    let sequence_tokens = e.tokens / capacity.sequences;
    let mut source = kernel(LANES);
    bind_routing(context, &mut source, true)?;
    source.bind("weights", "f32", false, context.scratch(Scratch::Weights)?);
    source.const_u32("EXPERTS", e.experts);
    source.const_u32("TOP_K", e.top_k);
    source.const_bool("EVERY", every);
    source.const_bool("BY_SCORE", capacity.priority == Priority::Score);
    source.params.u32("capacity", capacity.rows);
    source.params.u32("sequence_tokens", sequence_tokens);
    source.params.u32("selections", e.experts * capacity.sequences);
    source.params.u32("candidates", sequence_tokens * if every { 1 } else { e.top_k });
    source.fragment("moe/sort_key.wgsl", include_str!("../../shaders/moe/sort_key.wgsl"));
    source.fragment("moe/scan.wgsl", include_str!("../../shaders/moe/scan.wgsl"));
    source.fragment("moe/select.wgsl", include_str!("../../shaders/moe/select.wgsl"));
    let selections = u64::from(e.experts) * u64::from(capacity.sequences);
    let grid = fold_grid("capacity", selections, context.limits)?;
    Ok(close(source, "moe_select", LANES, 4 * (256 + LANES + 2), grid))
}

pub(super) fn count(context: &Context<'_>) -> Result<Step, PlanError> {
    let mut source = kernel(BLOCK_PAIRS);
    bind_routing(context, &mut source, true)?;
    source.const_u32("EXPERTS", context.problem.extents.experts);
    source.fragment("moe/count.wgsl", include_str!("../../shaders/moe/count.wgsl"));
    let grid = lanes(context, "counting", u64::from(context.pairs()), BLOCK_PAIRS)?;
    let bytes = 4 * context.problem.extents.experts;
    Ok(close(source, "moe_count", BLOCK_PAIRS, bytes, grid))
}

pub(super) fn blocks(context: &Context<'_>) -> Result<Step, PlanError> {
    let mut source = kernel(WORKGROUP_SIZE);
    bind_routing(context, &mut source, true)?;
    source.fragment("moe/scan.wgsl", include_str!("../../shaders/moe/scan.wgsl"));
    source.fragment("moe/blocks.wgsl", include_str!("../../shaders/moe/blocks.wgsl"));
    let grid = [context.problem.extents.experts, 1, 1];
    Ok(close(source, "moe_blocks", WORKGROUP_SIZE, 4 * WORKGROUP_SIZE, grid))
}

pub(super) fn offsets(context: &Context<'_>) -> Result<Step, PlanError> {
    let e = &context.problem.extents;
    let mut source = kernel(WORKGROUP_SIZE);
    bind_routing(context, &mut source, true)?;
    source.const_u32("EXPERTS", e.experts);
    source.const_u32("TILE_ROWS", context.tiles.tile_rows());
    let parts = if context.problem.spec.activation.is_gated() { 2 } else { 1 };
    let tiles = |columns: u32, parts: u32| columns.div_ceil(context.tiles.part_columns(parts));
    source.params.u32("up_columns", tiles(e.expert_dim, parts));
    source.params.u32("down_columns", tiles(e.model_dim, 1));
    source.params.u32("most_workgroups", context.limits.workgroups_per_dimension);
    let sequences = context.problem.capacity().map_or(0, |capacity| capacity.sequences);
    let selections = if e.tokens == 0 { 0 } else { e.experts * sequences };
    source.params.u32("selections", selections);
    optional_output(context, &mut source, "counts", MoeOutput::Counts, "u32")?;
    optional_output(context, &mut source, "drop_count", MoeOutput::Dropped, "u32")?;
    source.accessor("fn dropped_out(value: u32) { drop_count_out(0u, value); }\n");
    source.fragment("moe/scan.wgsl", include_str!("../../shaders/moe/scan.wgsl"));
    source.fragment("moe/offsets.wgsl", include_str!("../../shaders/moe/offsets.wgsl"));
    Ok(close(source, "moe_offsets", WORKGROUP_SIZE, 4 * WORKGROUP_SIZE, [1, 1, 1]))
}

pub(super) fn permute(context: &Context<'_>) -> Result<Step, PlanError> {
    let mut source = kernel(BLOCK_PAIRS);
    bind_routing(context, &mut source, true)?;
    source.const_u32("EXPERTS", context.problem.extents.experts);
    source.fragment("moe/permute.wgsl", include_str!("../../shaders/moe/permute.wgsl"));
    let grid = lanes(context, "placing", u64::from(context.pairs()), BLOCK_PAIRS)?;
    Ok(close(source, "moe_permute", BLOCK_PAIRS, 4 * BLOCK_PAIRS, grid))
}

pub(super) fn tile_list(context: &Context<'_>) -> Result<Step, PlanError> {
    let mut source = kernel(WORKGROUP_SIZE);
    bind_routing(context, &mut source, true)?;
    source.const_u32("EXPERTS", context.problem.extents.experts);
    source.const_u32("TILE_ROWS", context.tiles.tile_rows());
    source.fragment("moe/tiles.wgsl", include_str!("../../shaders/moe/tiles.wgsl"));
    let rows = context.problem.most_rows();
    let tiles = rows / u64::from(context.tiles.tile_rows())
        + u64::from(context.problem.extents.experts).min(rows);
    let grid = lanes(context, "tile list", tiles, WORKGROUP_SIZE)?;
    Ok(close(source, "moe_tiles", WORKGROUP_SIZE, 0, grid))
}

/// token_ids and token_weights of expert choice, where they were asked for.
pub(super) fn token_lists(context: &Context<'_>) -> Result<Option<Step>, PlanError> {
    let problem = context.problem;
    if !problem.wants(MoeOutput::TokenIds) && !problem.wants(MoeOutput::TokenWeights) {
        return Ok(None);
    }
    let rows = problem.most_rows();
    let mut source = kernel(WORKGROUP_SIZE);
    bind_routing(context, &mut source, false)?;
    source.bind("weights", "f32", false, context.scratch(Scratch::Weights)?);
    source.const_u32("EXPERTS", problem.extents.experts);
    source.params.u32("rows", rows as u32);
    optional_output(context, &mut source, "ids", MoeOutput::TokenIds, "u32")?;
    optional_output(context, &mut source, "weights", MoeOutput::TokenWeights, "f32")?;
    let text = include_str!("../../shaders/moe/token_lists.wgsl");
    source.fragment("moe/token_lists.wgsl", text);
    let grid = lanes(context, "token lists", rows, WORKGROUP_SIZE)?;
    Ok(Some(close(source, "moe_token_lists", WORKGROUP_SIZE, 0, grid)))
}

/// Softmax statistics of lines of the logits: their number, the distance of two, and length and step of one.
pub(super) fn soft_stats(
    context: &Context<'_>,
    [lines_count, line_stride, length, step]: [u32; 4],
    stats_first: u32,
) -> Result<Step, PlanError> {
    let mut source = kernel(WORKGROUP_SIZE);
    bind_logits(context, &mut source)?;
    source.bind("stats", "f32", true, context.scratch(Scratch::Stats)?);
    source.const_f32("LOWEST", f32::MIN);
    source.params.u32("lines", lines_count);
    source.params.u32("line_stride", line_stride);
    source.params.u32("length", length);
    source.params.u32("step", step);
    source.params.u32("stats_first", stats_first);
    source.fragment("moe/soft_stats.wgsl", include_str!("../../shaders/moe/soft_stats.wgsl"));
    let grid = lanes(context, "softmax", u64::from(lines_count), WORKGROUP_SIZE)?;
    Ok(close(source, "moe_soft_stats", WORKGROUP_SIZE, 0, grid))
}

/// From slots' and tokens' logits to the slots' inputs.
pub(super) fn soft_inputs(context: &Context<'_>) -> Result<Vec<Step>, PlanError> {
    let e = &context.problem.extents;
    let slots = e.router_columns();
    let mut steps = vec![
        soft_stats(context, [slots, 1, e.tokens, slots], 0)?,
        soft_stats(context, [e.tokens, slots, slots, 1], 2 * slots)?,
    ];
    let mut source = kernel(WORKGROUP_SIZE);
    bind_logits(context, &mut source)?;
    source.bind("stats", "f32", false, context.scratch(Scratch::Stats)?);
    source.bind("slots", "vec4<f32>", true, context.scratch(Scratch::Slots)?);
    source.const_u32("DIM_VECS", padded(e.model_dim) / 4);
    source.params.u32("slots", slots);
    source.params.u32("tokens", e.tokens);
    let x = &context.problem.tensors["x"];
    let (bound, first) = context.tensor("x")?;
    let access = Access::of(x);
    source.bind("x", KernelSource::row_element(x.dtype, access), false, bound);
    source.row_reader("x", x.dtype, access, e.model_dim, padded(e.model_dim));
    source.params.u32("x_first", first);
    source.params.u32("x_stride", x.layout.strides[0] as u32);
    source.fragment("moe/soft_slots.wgsl", include_str!("../../shaders/moe/soft_slots.wgsl"));
    let work = u64::from(slots) * u64::from(padded(e.model_dim) / 4);
    let grid = lanes(context, "slots", work, WORKGROUP_SIZE)?;
    steps.push(close(source, "moe_soft_slots", WORKGROUP_SIZE, 0, grid));
    Ok(steps)
}

pub(super) fn combine(context: &Context<'_>) -> Result<Step, PlanError> {
    let e = &context.problem.extents;
    let mut source = kernel(WORKGROUP_SIZE);
    source.const_u32("DIM_VECS", padded(e.model_dim) / 4);
    source.params.u32("tokens", e.tokens);
    source.bind("given", "vec4<f32>", false, context.scratch(Scratch::Given)?);
    bind_out(context, &mut source)?;
    shared_part(context, &mut source)?;
    let (entry, file, text) = if e.slots > 0 {
        bind_logits(context, &mut source)?;
        source.bind("stats", "f32", false, context.scratch(Scratch::Stats)?);
        source.params.u32("slots", e.router_columns());
        source.params.u32("stats_first", 2 * e.router_columns());
        let text = include_str!("../../shaders/moe/soft_combine.wgsl");
        ("moe_soft_combine", "moe/soft_combine.wgsl", text)
    } else {
        bind_routing(context, &mut source, false)?;
        source.bind("weights", "f32", false, context.scratch(Scratch::Weights)?);
        source.const_u32("TOP_K", e.top_k);
        let on_input = context.problem.spec.weight_on == WeightOn::Input;
        source.const_bool("WEIGHT_ON_INPUT", on_input);
        let text = include_str!("../../shaders/moe/combine.wgsl");
        ("moe_combine", "moe/combine.wgsl", text)
    };
    source.fragment(file, text);
    let work = u64::from(e.tokens) * u64::from(padded(e.model_dim) / 4);
    let grid = lanes(context, "combining", work, WORKGROUP_SIZE)?;
    Ok(close(source, entry, WORKGROUP_SIZE, 0, grid))
}

fn bind_out(context: &Context<'_>, source: &mut KernelSource) -> Result<(), PlanError> {
    let out = &context.problem.tensors["out"];
    let (bound, first) = context.tensor("out")?;
    let access = Access::of(out);
    source.bind("out", KernelSource::written_element(out.dtype, access), true, bound);
    source.row_writer("out", out.dtype, access, context.problem.extents.model_dim);
    source.params.u32("out_first", first);
    source.params.u32("out_stride", out.layout.strides[0] as u32);
    Ok(())
}

/// `shared_part(token, vec)`: what the shared expert adds.
fn shared_part(context: &Context<'_>, source: &mut KernelSource) -> Result<(), PlanError> {
    if context.problem.extents.shared_dim == 0 {
        let text = "fn shared_part(token: u32, vec: u32) -> vec4<f32> { return vec4(0.0); }\n";
        source.accessor(text);
        return Ok(());
    }
    let bind = |source: &mut KernelSource, name: &str, element: &str, which| {
        context.scratch(which).map(|bound: Bound| {
            debug_assert!(matches!(bound.slot, Slot::Scratch(_)));
            source.bind(name, element, false, bound)
        })
    };
    bind(source, "shared_given", "vec4<f32>", Scratch::Shared)?;
    let gate = if context.problem.has("shared_gate_w") {
        bind(source, "shared_gate", "f32", Scratch::SharedGate)?;
        " / (1.0 + exp(min(-shared_gate[token], 88.0)))"
    } else {
        ""
    };
    source.accessor(&format!(
        "fn shared_part(token: u32, vec: u32) -> vec4<f32> {{ return shared_given[token * DIM_VECS + vec]{gate}; }}\n"
    ));
    Ok(())
}
