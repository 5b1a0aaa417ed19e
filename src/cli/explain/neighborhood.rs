//! `tilewise explain` of a neighborhood: its tiles and what they waste.

use super::super::common::{CliError, Common};
use super::super::output::print;
use super::{Device, ExplainArgs};
use crate::neighborhood::{
    NeighborhoodProblem, NeighborhoodTiles, search_boxes, search_strides, simulate,
};
use crate::operator::Operator;

/// Boxes that `--simulate` lists.
const LISTED_BOXES: usize = 8;

pub(super) fn explain(
    common: &Common,
    args: &ExplainArgs,
    problem: &NeighborhoodProblem,
) -> Result<(), CliError> {
    let device = Device::of(common, args)?;
    let forced: Option<NeighborhoodTiles> = common.tiles()?;
    let candidates = problem.candidates(&device.limits)?;
    let tiles = forced.unwrap_or(candidates[0]);
    let plan = problem.plan(&device.limits, &tiles)?;
    let mut text = format!("{problem}\ndevice {}\n\ntiles {tiles}\n", device.name);
    for step in &plan.steps {
        text += &format!("{} in {} workgroups\n", step.shader.entry, step.grid);
    }
    if args.all_tiles {
        text += "\nworth trying here:\n";
        for tiles in &candidates {
            let waste = simulate(problem, tiles).waste;
            text += &format!("  waste {waste:5.2} x  {tiles}\n");
        }
    }
    text += &format!("\n{}\n", simulate(problem, &tiles));
    if args.simulate {
        let (tile_q, tile_kv) = (tiles.fused.tile_q(), tiles.fused.tile_kv());
        text += &format!("\nboxes for {tile_q} rows by {tile_kv} keys, fewest visits first:\n");
        for choice in search_boxes(problem, tile_q, tile_kv).iter().take(LISTED_BOXES) {
            text += &format!("  {choice}\n");
        }
        text += "\nstrides that are faster than every finer one:\n";
        for choice in search_strides(problem, tile_q, tile_kv) {
            text += &format!("  {choice}\n");
        }
    }
    print(text.trim_end())?;
    match (&device.engine, args.compile) {
        (Some(engine), true) => {
            engine.prepare(problem, Some(tiles))?;
            Ok(())
        }
        _ => Ok(()),
    }
}
