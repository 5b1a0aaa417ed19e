//! `tilewise explain` of neighborhoods: tiles and what they waste; and of scores and aggregate apart.

use std::fmt::Write as _;

use comfy_table::Table;

use super::super::common::{CliError, Common};
use super::super::output::{bytes, digits, print, table};
use super::report::{Report, chosen, kernel_text};
use super::{Device, ExplainArgs, compile, kernels, options, trips};
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
    let device = Device::of(common, args)?;
    let candidates = problem.candidates(&device.limits)?;
    let forced: Option<NeighborhoodTiles> = common.tiles()?;
    let tiles = forced.unwrap_or(candidates[0]);
    let e = &problem.extents;
    let flops = 2.0 * problem.needed_scores() * f64::from(e.head_dim + e.value_dim);
    let report = Report {
        problem,
        options: options(common, args, forced),
        device: &device,
        plan: &problem.plan(&device.limits, &tiles)?,
        tiles: chosen(&tiles, forced.is_some()),
        work: format!("{} GFLOP of the keys that windows hold", digits(flops / 1e9)),
    };
    let mut text = report.text();
    let _ = writeln!(text, "{}\n", simulate(problem, &tiles));
    let _ = writeln!(text, "{}\n", candidate_table(problem, &candidates));
    if args.simulate {
        text += &choices(problem, &tiles);
    }
    let wanted = if args.all_tiles { candidates } else { vec![tiles] };
    let shape = problem.fused_shape();
    let kernels = kernels(problem, &device.limits, &wanted, |tiles| trips(&tiles.fused, shape))?;
    print(&(text + &kernel_text(&kernels)))?;
    match (&device.engine, args.compile) {
        (Some(engine), true) => compile(engine, &kernels),
        _ => Ok(()),
    }
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
) -> Result<(), CliError> {
    let device = Device::of(common, args)?;
    let tiles = problem.candidates(&device.limits)?;
    // Both read or write a number for each slot of each row, and multiply it by a row of as many dims.
    let slots =
        problem.tensors().into_iter().find(|(name, _)| matches!(*name, "scores" | "weights"));
    let rows = problem.tensors().into_iter().find(|(name, _)| matches!(*name, "k" | "v"));
    let slots = slots.map_or(0, |(_, desc)| desc.layout.len()) as f64;
    let dims = rows.and_then(|(_, desc)| desc.shape().last().copied()).unwrap_or(0) as f64;
    let report = Report {
        problem,
        options: options(common, args, None::<SlotTiles>),
        device: &device,
        plan: &problem.plan(&device.limits, &tiles[0])?,
        tiles: "one way".to_owned(),
        work: format!("{} GFLOP", digits(2.0 * slots * dims / 1e9)),
    };
    let kernels = kernels(problem, &device.limits, &tiles, |_| String::new())?;
    print(&(report.text() + &kernel_text(&kernels)))?;
    match (&device.engine, args.compile) {
        (Some(engine), true) => compile(engine, &kernels),
        _ => Ok(()),
    }
}
