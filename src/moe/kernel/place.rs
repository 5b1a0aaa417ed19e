//! The kernels that give every pair of token and expert its row, and the matmuls their tiles: each alone, or all as one
//! workgroup where that is enough.

use super::bindings::{bind_routing, optional_output};
use super::capacity::{selectors, sequences};
use super::context::Context;
use super::given::{self, bind_given};
use super::launch::{WORKGROUP_SIZE, close, entry, kernel, lanes};
use super::scratch::Scratch;
use super::sections::BLOCK_PAIRS;
use crate::error::PlanError;
use crate::gpu::recording::Step;
use crate::kernel::source::{KernelSource, add_fragment};
use crate::moe::spec::MoeOutput;

/// Outputs that need every pair's row.
const PLACED: [MoeOutput; 5] = [
    MoeOutput::Out,
    MoeOutput::RowTokens,
    MoeOutput::PairRows,
    MoeOutput::TokenIds,
    MoeOutput::TokenWeights,
];

/// All steps of this file but the token lists, and [`super::given::given`], as one; none where the pairs are several
/// blocks or it would bind more than the device can.
pub(super) fn at_once(context: &Context<'_>) -> Result<Option<Step>, PlanError> {
    if context.blocks() != 1 || context.is_empty() {
        return Ok(None);
    }
    let mut source = placing(context, BLOCK_PAIRS, true)?;
    if given::is_known(context) {
        bind_given(context, &mut source)?;
    } else {
        source.accessor("fn give(pair: u32) {}\n");
    }
    add_fragment!(source, "moe/count.wgsl");
    bind_offsets(context, &mut source)?;
    bind_permute(context, &mut source)?;
    add_fragment!(source, "moe/tiles.wgsl");
    add_fragment!(source, "moe/place.wgsl");
    entry(&mut source, "moe_place", "place(lane);");
    let bytes = 4 * (context.problem.extents.choices() + 2 * BLOCK_PAIRS);
    let limits = context.limits;
    let fits = source.binding_count() <= limits.storage_buffers && bytes <= limits.workgroup_bytes;
    Ok(fits.then(|| close(source, "moe_place", BLOCK_PAIRS, bytes, [1, 1, 1])))
}

/// The steps from counting to the list of tiles, each alone.
pub(super) fn apart(context: &Context<'_>) -> Result<Vec<Step>, PlanError> {
    let wants = |output| context.problem.wants(output);
    // Without tokens there are still counts to give.
    if context.is_empty() {
        return Ok(vec![blocks(context)?, offsets(context)?]);
    }
    let mut steps = vec![count(context)?, blocks(context)?, offsets(context)?];
    if PLACED.into_iter().any(wants) {
        steps.push(permute(context)?);
    }
    if wants(MoeOutput::Out) {
        steps.push(tile_list(context)?);
    }
    Ok(steps)
}

/// A kernel of this file; `one_block`: its workgroup is alone.
fn placing(
    context: &Context<'_>,
    workgroup_size: u32,
    one_block: bool,
) -> Result<KernelSource, PlanError> {
    let e = &context.problem.extents;
    let mut source = kernel(workgroup_size);
    bind_routing(context, &mut source, true)?;
    source.const_u32("EXPERTS", e.experts);
    source.const_u32("CHOICES", e.choices());
    source.const_u32("TOP_K", e.top_k);
    source.const_u32("TILE_ROWS", context.tiles.tile_rows());
    source.const_bool("ONE_BLOCK", one_block);
    Ok(source)
}

/// Pairs of every expert in every block of pairs.
fn count(context: &Context<'_>) -> Result<Step, PlanError> {
    let mut source = placing(context, BLOCK_PAIRS, false)?;
    add_fragment!(source, "moe/count.wgsl");
    entry(&mut source, "moe_count", "count_block(index, lane);");
    let grid = lanes(context, "counting", u64::from(context.pairs()), BLOCK_PAIRS)?;
    let bytes = 4 * context.problem.extents.choices();
    Ok(close(source, "moe_count", BLOCK_PAIRS, bytes, grid))
}

/// Pairs of an expert in the blocks before each.
fn blocks(context: &Context<'_>) -> Result<Step, PlanError> {
    let mut source = placing(context, WORKGROUP_SIZE, false)?;
    add_fragment!(source, "moe/scan.wgsl");
    add_fragment!(source, "moe/blocks.wgsl");
    entry(&mut source, "moe_blocks", "sum_blocks(index, lane);");
    let grid = [context.problem.extents.choices(), 1, 1];
    Ok(close(source, "moe_blocks", WORKGROUP_SIZE, 4 * WORKGROUP_SIZE, grid))
}

/// The first row and the first tile of every expert.
fn offsets(context: &Context<'_>) -> Result<Step, PlanError> {
    let mut source = placing(context, WORKGROUP_SIZE, false)?;
    bind_offsets(context, &mut source)?;
    entry(&mut source, "moe_offsets", "find_offsets(lane);");
    Ok(close(source, "moe_offsets", WORKGROUP_SIZE, 4 * WORKGROUP_SIZE, [1, 1, 1]))
}

/// `find_offsets(lane)`.
fn bind_offsets(context: &Context<'_>, source: &mut KernelSource) -> Result<(), PlanError> {
    let e = &context.problem.extents;
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
    optional_output(context, source, "counts", MoeOutput::Counts, "u32")?;
    optional_output(context, source, "drop_count", MoeOutput::Dropped, "u32")?;
    optional_output(context, source, "first_rows", MoeOutput::ExpertOffsets, "u32")?;
    add_fragment!(source, "moe/scan.wgsl");
    add_fragment!(source, "moe/offsets.wgsl");
    Ok(())
}

/// A row for every pair.
fn permute(context: &Context<'_>) -> Result<Step, PlanError> {
    let mut source = placing(context, BLOCK_PAIRS, false)?;
    bind_permute(context, &mut source)?;
    entry(&mut source, "moe_permute", "permute_block(index, lane);");
    let grid = lanes(context, "placing", u64::from(context.pairs()), BLOCK_PAIRS)?;
    Ok(close(source, "moe_permute", BLOCK_PAIRS, 4 * BLOCK_PAIRS, grid))
}

/// `permute_block(block, lane)`.
fn bind_permute(context: &Context<'_>, source: &mut KernelSource) -> Result<(), PlanError> {
    optional_output(context, source, "row_tokens", MoeOutput::RowTokens, "u32")?;
    optional_output(context, source, "pair_rows", MoeOutput::PairRows, "u32")?;
    add_fragment!(source, "moe/permute.wgsl");
    Ok(())
}

/// The list of row tiles.
fn tile_list(context: &Context<'_>) -> Result<Step, PlanError> {
    let mut source = placing(context, WORKGROUP_SIZE, false)?;
    add_fragment!(source, "moe/tiles.wgsl");
    entry(&mut source, "moe_tiles", "list_tile(index * WORKGROUP_SIZE + lane);");
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
    source.params.u32("capacity", capacity);
    optional_output(context, &mut source, "ids", MoeOutput::TokenIds, "u32")?;
    optional_output(context, &mut source, "weights", MoeOutput::TokenWeights, "f32")?;
    add_fragment!(source, "moe/token_lists.wgsl");
    let entries = u64::from(e.experts) * u64::from(capacity);
    let grid = lanes(context, "token lists", entries, WORKGROUP_SIZE)?;
    Ok(Some(close(source, "moe_token_lists", WORKGROUP_SIZE, 0, grid)))
}
