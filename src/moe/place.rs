//! The kernels that give every pair of token and expert its row, and the matmuls their tiles.

use super::context::{BLOCK_PAIRS, Context, Scratch};
use super::kernel::{WORKGROUP_SIZE, bind_routing, close, kernel, lanes, optional_output};
use super::route::{selectors, sequences};
use super::spec::MoeOutput;
use crate::error::PlanError;
use crate::fused::source::add_fragment;
use crate::gpu::recording::Step;

pub(super) fn count(context: &Context<'_>) -> Result<Step, PlanError> {
    let mut source = kernel(BLOCK_PAIRS);
    bind_routing(context, &mut source, true)?;
    source.const_u32("CHOICES", context.problem.extents.choices());
    add_fragment!(source, "moe/count.wgsl");
    let grid = lanes(context, "counting", u64::from(context.pairs()), BLOCK_PAIRS)?;
    let bytes = 4 * context.problem.extents.choices();
    Ok(close(source, "moe_count", BLOCK_PAIRS, bytes, grid))
}

pub(super) fn blocks(context: &Context<'_>) -> Result<Step, PlanError> {
    let mut source = kernel(WORKGROUP_SIZE);
    bind_routing(context, &mut source, true)?;
    add_fragment!(source, "moe/scan.wgsl");
    add_fragment!(source, "moe/blocks.wgsl");
    let grid = [context.problem.extents.choices(), 1, 1];
    Ok(close(source, "moe_blocks", WORKGROUP_SIZE, 4 * WORKGROUP_SIZE, grid))
}

pub(super) fn offsets(context: &Context<'_>) -> Result<Step, PlanError> {
    let e = &context.problem.extents;
    let mut source = kernel(WORKGROUP_SIZE);
    bind_routing(context, &mut source, true)?;
    source.const_u32("EXPERTS", e.experts);
    source.const_u32("CHOICES", e.choices());
    source.const_u32("TILE_ROWS", context.tiles.tile_rows());
    let parts = if context.problem.spec.activation.is_gated() { 2 } else { 1 };
    let tiles = |columns: u32, parts: u32| columns.div_ceil(context.tiles.part_columns(parts));
    source.params.u32("up_columns", tiles(e.expert_dim, parts));
    source.params.u32("down_columns", tiles(e.model_dim, 1));
    source.params.u32("most_workgroups", context.limits.workgroups_per_dimension);
    let cuts = &context.cuts;
    source.params.u32("dispatches", cuts.count());
    source.params.u32("slice_experts", cuts.slice_experts);
    source.params.u32("windows", cuts.windows);
    source.params.u32("window_tiles", cuts.window_tiles);
    let selections =
        if e.tokens == 0 { 0 } else { selectors(context).len() as u32 * sequences(context) };
    source.params.u32("selections", selections);
    optional_output(context, &mut source, "counts", MoeOutput::Counts, "u32")?;
    optional_output(context, &mut source, "drop_count", MoeOutput::Dropped, "u32")?;
    optional_output(context, &mut source, "first_rows", MoeOutput::ExpertOffsets, "u32")?;
    add_fragment!(source, "moe/scan.wgsl");
    add_fragment!(source, "moe/offsets.wgsl");
    Ok(close(source, "moe_offsets", WORKGROUP_SIZE, 4 * WORKGROUP_SIZE, [1, 1, 1]))
}

pub(super) fn permute(context: &Context<'_>) -> Result<Step, PlanError> {
    let mut source = kernel(BLOCK_PAIRS);
    bind_routing(context, &mut source, true)?;
    source.const_u32("EXPERTS", context.problem.extents.experts);
    optional_output(context, &mut source, "row_tokens", MoeOutput::RowTokens, "u32")?;
    optional_output(context, &mut source, "pair_rows", MoeOutput::PairRows, "u32")?;
    source.const_u32("TOP_K", context.problem.extents.top_k);
    add_fragment!(source, "moe/permute.wgsl");
    let grid = lanes(context, "placing", u64::from(context.pairs()), BLOCK_PAIRS)?;
    Ok(close(source, "moe_permute", BLOCK_PAIRS, 4 * BLOCK_PAIRS, grid))
}

pub(super) fn tile_list(context: &Context<'_>) -> Result<Step, PlanError> {
    let mut source = kernel(WORKGROUP_SIZE);
    bind_routing(context, &mut source, true)?;
    source.const_u32("EXPERTS", context.problem.extents.experts);
    source.const_u32("TILE_ROWS", context.tiles.tile_rows());
    add_fragment!(source, "moe/tiles.wgsl");
    let local = u64::from(context.problem.extents.local_experts());
    let tiles = context.problem.most_tiles(context.tiles.tile_rows(), local);
    let grid = lanes(context, "tile list", tiles, WORKGROUP_SIZE)?;
    Ok(close(source, "moe_tiles", WORKGROUP_SIZE, 0, grid))
}

/// token_ids and token_weights of expert choice, where they were asked for.
pub(super) fn token_lists(context: &Context<'_>) -> Result<Option<Step>, PlanError> {
    let problem = context.problem;
    if !problem.wants(MoeOutput::TokenIds) && !problem.wants(MoeOutput::TokenWeights) {
        return Ok(None);
    }
    let e = &problem.extents;
    let capacity = problem.capacity().map_or(0, |capacity| capacity.rows);
    let mut source = kernel(WORKGROUP_SIZE);
    bind_routing(context, &mut source, false)?;
    source.bind("weights", "f32", false, context.scratch(Scratch::Weights)?);
    source.const_u32("CHOICES", e.choices());
    source.params.u32("entries", e.experts * capacity);
    source.params.u32("first_entry", e.expert_start * capacity);
    source.params.u32("rows", e.local_experts() * capacity);
    optional_output(context, &mut source, "ids", MoeOutput::TokenIds, "u32")?;
    optional_output(context, &mut source, "weights", MoeOutput::TokenWeights, "f32")?;
    add_fragment!(source, "moe/token_lists.wgsl");
    let entries = u64::from(e.experts) * u64::from(capacity);
    let grid = lanes(context, "token lists", entries, WORKGROUP_SIZE)?;
    Ok(Some(close(source, "moe_token_lists", WORKGROUP_SIZE, 0, grid)))
}
