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

/// What pairs are given rows for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Purpose {
    /// Experts' lists of pairs, for the capacity.
    Lists,
    /// What the caller asks for alone.
    Outputs,
    /// The same, and the matmuls.
    Rows,
    /// The matmuls of a part of the tokens alone.
    PartRows,
}

impl Purpose {
    const fn has_outputs(self) -> bool {
        matches!(self, Self::Outputs | Self::Rows)
    }

    const fn has_matmuls(self) -> bool {
        matches!(self, Self::Rows | Self::PartRows)
    }
}

/// All steps of this file but the token lists, and [`super::given::given`], as one; none where the pairs are several
/// blocks or parts, or it would bind more than the device can.
pub(super) fn at_once(context: &Context<'_>) -> Result<Option<Step>, PlanError> {
    if context.blocks() != 1 || context.is_empty() || context.is_cut() {
        return Ok(None);
    }
    let mut source = placing(context, BLOCK_PAIRS, true)?;
    if given::is_known(context) {
        bind_given(context, &mut source)?;
    } else {
        source.accessor("fn give(pair: u32) {}\n");
    }
    add_fragment!(source, "moe/count.wgsl");
    bind_offsets(context, &mut source, Purpose::Rows)?;
    bind_permute(context, &mut source, Purpose::Rows)?;
    add_fragment!(source, "moe/tiles.wgsl");
    add_fragment!(source, "moe/place.wgsl");
    entry(&mut source, "moe_place", "place(lane);");
    let bytes = 4 * (context.problem.extents.choices() + 2 * BLOCK_PAIRS);
    let limits = context.limits;
    let fits = source.binding_count() <= limits.storage_buffers && bytes <= limits.workgroup_bytes;
    Ok(fits.then(|| close(source, "moe_place", BLOCK_PAIRS, bytes, [1, 1, 1])))
}

/// The steps from counting to the list of tiles, each alone.
pub(super) fn apart(context: &Context<'_>, purpose: Purpose) -> Result<Vec<Step>, PlanError> {
    let wants = |output| context.problem.wants(output);
    // Without tokens there are still counts to give.
    if context.is_empty() {
        return Ok(vec![blocks(context)?, offsets(context, purpose)?]);
    }
    let mut steps = vec![count(context)?, blocks(context)?, offsets(context, purpose)?];
    if purpose == Purpose::Lists || PLACED.into_iter().any(wants) {
        steps.push(permute(context, purpose)?);
    }
    if purpose.has_matmuls() && wants(MoeOutput::Out) {
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
    source.params.u32("pair_first", context.pair_range().start);
    source.params.u32("pair_end", context.pair_range().end);
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
    let grid = lanes(context, "counting", context.pair_range().len() as u64, BLOCK_PAIRS)?;
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
fn offsets(context: &Context<'_>, purpose: Purpose) -> Result<Step, PlanError> {
    let mut source = placing(context, WORKGROUP_SIZE, false)?;
    bind_offsets(context, &mut source, purpose)?;
    entry(&mut source, "moe_offsets", "find_offsets(lane);");
    Ok(close(source, "moe_offsets", WORKGROUP_SIZE, 4 * WORKGROUP_SIZE, [1, 1, 1]))
}

/// `find_offsets(lane)`.
fn bind_offsets(
    context: &Context<'_>,
    source: &mut KernelSource,
    purpose: Purpose,
) -> Result<(), PlanError> {
    let e = &context.problem.extents;
    let cuts = &context.cuts;
    let up = if context.problem.spec.activation.is_gated() { 2 } else { 1 };
    let [up_parts, down_parts] = cuts.parts(context.problem);
    for (name, columns, tile, parts, part) in [
        ("up", e.expert_dim, context.tiles.part_columns(up), up_parts, cuts.part_columns[0]),
        ("down", e.model_dim, context.tiles.part_columns(1), down_parts, cuts.part_columns[1]),
    ] {
        source.params.u32(format!("{name}_columns"), columns.div_ceil(tile));
        source.params.u32(format!("{name}_parts"), parts);
        source.params.u32(format!("{name}_part_columns"), part.min(columns).div_ceil(tile));
    }
    source.params.u32("most_workgroups", context.limits.workgroups_per_dimension);
    source.params.u32("dispatches", if purpose.has_matmuls() { cuts.count() } else { 0 });
    source.params.u32("slice_experts", cuts.slice_experts);
    source.params.u32("windows", cuts.windows);
    source.params.u32("window_tiles", cuts.window_tiles);
    let counts_drops = purpose.has_outputs() && e.tokens > 0;
    let selections =
        if counts_drops { selectors(context).len() as u32 * sequences(context) } else { 0 };
    source.params.u32("selections", selections);
    for (name, output) in [
        ("counts", MoeOutput::Counts),
        ("drop_count", MoeOutput::Dropped),
        ("first_rows", MoeOutput::ExpertOffsets),
    ] {
        place_output(context, source, name, output, purpose)?;
    }
    add_fragment!(source, "moe/scan.wgsl");
    add_fragment!(source, "moe/offsets.wgsl");
    Ok(())
}

/// An output that is written where outputs are.
fn place_output(
    context: &Context<'_>,
    source: &mut KernelSource,
    name: &str,
    output: MoeOutput,
    purpose: Purpose,
) -> Result<(), PlanError> {
    if purpose.has_outputs() {
        return optional_output(context, source, name, output, "u32");
    }
    source.accessor(&format!("fn {name}_out(i: u32, value: u32) {{ }}\n"));
    Ok(())
}

/// A row for every pair.
fn permute(context: &Context<'_>, purpose: Purpose) -> Result<Step, PlanError> {
    let mut source = placing(context, BLOCK_PAIRS, false)?;
    bind_permute(context, &mut source, purpose)?;
    entry(&mut source, "moe_permute", "permute_block(index, lane);");
    let grid = lanes(context, "placing", context.pair_range().len() as u64, BLOCK_PAIRS)?;
    Ok(close(source, "moe_permute", BLOCK_PAIRS, 4 * BLOCK_PAIRS, grid))
}

/// `permute_block(block, lane)`.
fn bind_permute(
    context: &Context<'_>,
    source: &mut KernelSource,
    purpose: Purpose,
) -> Result<(), PlanError> {
    place_output(context, source, "row_tokens", MoeOutput::RowTokens, purpose)?;
    place_output(context, source, "pair_rows", MoeOutput::PairRows, purpose)?;
    add_fragment!(source, "moe/permute.wgsl");
    Ok(())
}

/// The list of row tiles.
fn tile_list(context: &Context<'_>) -> Result<Step, PlanError> {
    let mut source = placing(context, WORKGROUP_SIZE, false)?;
    add_fragment!(source, "moe/tiles.wgsl");
    entry(&mut source, "moe_tiles", "list_tile(index * WORKGROUP_SIZE + lane);");
    let local = u64::from(context.problem.extents.local_experts());
    let tokens = context.span.len() as u32;
    let tiles = context.problem.most_tiles(context.tiles.tile_rows(), local, tokens);
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
