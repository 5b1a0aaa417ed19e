//! `tilewise explain` of neighborhoods: tiles and what they waste; and of scores and aggregate apart.

use std::fmt::Write as _;

use comfy_table::Table;

use super::super::common::{CliError, Common};
use super::super::output::{bytes, digits, table};
use super::report::Report;
use super::{ExplainArgs, Planned, trips};
use crate::neighborhood::{
    NeighborhoodProblem, NeighborhoodTiles, SlotTiles, search_boxes, search_strides, simulate,
};
use crate::operator::{Operator, Tiles};

/// Boxes that `--simulate` lists.
const LISTED_BOXES: usize = 8;

pub(super) fn explain(
    common: &Common,
    args: &ExplainArgs,
    problem: &NeighborhoodProblem,
) -> Result<(), CliError> {
    let planned = Planned::of(common, args, problem)?;
    let report = Report {
        problem,
        options: planned.options(common, args),
        device: &planned.device,
        plan: &planned.plan(problem)?,
        tiles: planned.chosen(),
        work: format!("{} GFLOP of the keys that windows hold", digits(problem.flops() / 1e9)),
    };
    let mut text = report.text();
    let _ = writeln!(text, "{}\n", simulate(problem, &planned.tiles));
    let _ = writeln!(text, "{}\n", candidate_table(problem, &planned.candidates));
    if args.simulate {
        text += &choices(problem, &planned.tiles);
    }
    planned.tell(args, problem, &text, |tiles| trips(&tiles.fused, problem.fused_shape()))
}

fn candidate_table(problem: &NeighborhoodProblem, candidates: &[NeighborhoodTiles]) -> Table {
    let headings = ["candidate", "lanes", "workgroup memory", "visits a box", "waste"];
    let mut table = table(&headings, 1);
    let shape = problem.fused_shape();
    for tiles in candidates {
        let simulation = simulate(problem, tiles);
        table.add_row([
            tiles.label(),
            tiles.fused.workgroup_size().to_string(),
            bytes(tiles.fused.workgroup_bytes(shape).into()),
            format!("{:.1}", simulation.visits_a_block),
            format!("{:.2} x", simulation.waste),
        ]);
    }
    table
}

/// Boxes and strides that `--simulate` adds.
fn choices(problem: &NeighborhoodProblem, tiles: &NeighborhoodTiles) -> String {
    let (tile_q, tile_kv) = (tiles.fused.tile_q(), tiles.fused.tile_kv());
    let mut text = format!("boxes for {tile_q} rows by {tile_kv} keys, fewest visits first:\n");
    for choice in search_boxes(problem, tile_q, tile_kv).iter().take(LISTED_BOXES) {
        let _ = writeln!(text, "  {choice}");
    }
    text += "\nstrides that are faster than every finer one:\n";
    for choice in search_strides(problem, tile_q, tile_kv) {
        let _ = writeln!(text, "  {choice}");
    }
    text + "\n"
}

/// Scores or aggregate, whose work is cut in one way.
pub(super) fn explain_slots<O: Operator<Tiles = SlotTiles>>(
    common: &Common,
    args: &ExplainArgs,
    problem: &O,
    flops: f64,
) -> Result<(), CliError> {
    let planned = Planned::of(common, args, problem)?;
    let report = Report {
        problem,
        options: planned.options(common, args),
        device: &planned.device,
        plan: &planned.plan(problem)?,
        tiles: "one way".to_owned(),
        work: format!("{} GFLOP", digits(flops / 1e9)),
    };
    planned.tell(args, problem, &report.text(), |_| String::new())
}
