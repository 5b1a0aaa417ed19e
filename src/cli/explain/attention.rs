//! `tilewise explain` of attention: its tiles, dispatches and kernels.

use comfy_table::Table;

use super::super::common::{CliError, Common};
use super::super::output::{bytes, digits, table};
use super::report::Report;
use super::{ExplainArgs, Planned, trips};
use crate::attention::AttentionProblem;
use crate::fused::FusedTiles;
use crate::operator::Tiles;

pub(super) fn explain(
    common: &Common,
    args: &ExplainArgs,
    problem: &AttentionProblem,
) -> Result<(), CliError> {
    let planned = Planned::of(common, args, problem)?;
    let report = Report {
        problem,
        options: planned.options(common, args),
        device: &planned.device,
        plan: &planned.plan(problem)?,
        tiles: planned.chosen(),
        work: format!("{} GFLOP before masking", digits(problem.dense_flops() / 1e9)),
    };
    let candidates = candidate_table(problem, &planned.candidates);
    let text = format!("{}{candidates}\n\n", report.text());
    planned.tell(args, problem, &text, |tiles| trips(tiles, problem.fused_shape()))
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
