//! `tilewise explain` of attention: its tiles, dispatches and kernels.

use comfy_table::Table;

use super::super::common::{CliError, Common};
use super::super::output::{bytes, digits, print, table};
use super::report::{Report, chosen, kernel_text};
use super::{Device, ExplainArgs, compile, kernels, options, trips};
use crate::attention::AttentionProblem;
use crate::fused::FusedTiles;
use crate::operator::{Operator, Tiles};

pub(super) fn explain(
    common: &Common,
    args: &ExplainArgs,
    problem: &AttentionProblem,
) -> Result<(), CliError> {
    let device = Device::of(common, args)?;
    let candidates = problem.candidates(&device.limits)?;
    let forced: Option<FusedTiles> = common.tiles()?;
    let tiles = forced.unwrap_or(candidates[0]);
    let report = Report {
        problem,
        options: options(common, args, forced),
        device: &device,
        plan: &problem.plan(&device.limits, &tiles)?,
        tiles: chosen(&tiles, forced.is_some()),
        work: format!("{} GFLOP before masking", digits(problem.dense_flops() / 1e9)),
    };
    let wanted = if args.all_tiles { candidates.clone() } else { vec![tiles] };
    let shape = problem.fused_shape();
    let kernels = kernels(problem, &device.limits, &wanted, |tiles| trips(tiles, shape))?;
    let candidates = candidate_table(problem, &candidates);
    print(&format!("{}{candidates}\n\n{}", report.text(), kernel_text(&kernels)))?;
    match (&device.engine, args.compile) {
        (Some(engine), true) => compile(engine, &kernels),
        _ => Ok(()),
    }
}

fn candidate_table(problem: &AttentionProblem, candidates: &[FusedTiles]) -> Table {
    let mut table = table(&["candidate", "lanes", "workgroup memory", "rows", "keys"], 1);
    let shape = problem.fused_shape();
    for tiles in candidates {
        table.add_row([
            tiles.label(),
            tiles.workgroup_size().to_string(),
            bytes(tiles.workgroup_bytes(shape).into()),
            tiles.tile_q().to_string(),
            tiles.tile_kv().to_string(),
        ]);
    }
    table
}
