//! `tilewise explain` of a mixture of experts: steps, memory, and what experts may expect to do.

use std::fmt::Write as _;

use comfy_table::Table;

use super::super::common::{CliError, Common};
use super::super::output::{bytes, digits, table};
use super::report::{step_table, tensor_bytes, tensor_table};
use super::{ExplainArgs, Planned};
use crate::gpu::limits::GpuLimits;
use crate::gpu::recording::{Grid, Plan};
use crate::matmul::MatmulTiles;
use crate::moe::{Loads, MoeProblem};
use crate::operator::Tiles;

pub(super) fn explain(
    common: &Common,
    args: &ExplainArgs,
    problem: &MoeProblem,
) -> Result<(), CliError> {
    let planned = Planned::of(common, args, problem)?;
    let (device, tiles, plan) = (&planned.device, &planned.tiles, planned.plan(problem)?);
    let mut text = String::new();
    let mut line = |name: &str, value: &str| {
        let _ = writeln!(text, "{name:<14}{value}");
    };
    line("reproduce", &format!("{problem}{}", planned.options(common, args)));
    line("planned for", &device.name);
    line("tiles", &planned.chosen());
    let reads = bytes(tensor_bytes(problem, false));
    line("reads", &format!("{reads} at most: experts without tokens are not read"));
    line("writes", &bytes(tensor_bytes(problem, true)));
    line("scratch", &bytes(plan.scratch_bytes()));
    line("params", &bytes(plan.params_bytes(&device.limits)));
    line("work", &work(problem));
    line("loads", &loads(problem, tiles.tile_rows()));
    line("dispatches", &dispatches(&plan));
    let _ = writeln!(text, "\n{}\n", tensor_table(problem, &device.limits, &plan));
    let _ = writeln!(text, "{}\n", step_table(&plan));
    let candidates = candidate_table(problem, &device.limits, &planned.candidates);
    let _ = writeln!(text, "{candidates}\n");
    planned.tell(args, problem, &text, |_| String::new())
}

fn work(problem: &MoeProblem) -> String {
    let e = problem.extents;
    let gflop = |flops: f64| digits(flops / 1e9);
    let tokens = f64::from(e.tokens) * f64::from(e.model_dim);
    let router = if problem.has("router_w") || problem.has("phi") {
        2.0 * tokens * f64::from(e.router_columns())
    } else {
        0.0
    };
    let matmuls = if problem.spec.activation.is_gated() { 3.0 } else { 2.0 };
    let shared = 2.0 * matmuls * tokens * f64::from(e.shared_dim);
    format!(
        "{} GFLOP of experts if nothing is dropped, {} of the router, {} of the shared expert",
        gflop(problem.expert_flops()),
        gflop(router),
        gflop(shared)
    )
}

/// What an expert may expect, and all that are here together.
fn loads(problem: &MoeProblem, tile_rows: u32) -> String {
    let Loads { rows, busy, tiles } = problem.loads(tile_rows);
    let experts = f64::from(problem.extents.local_experts());
    let filled = if tiles > 0.0 { 100.0 * rows / (tiles * f64::from(tile_rows)) } else { 0.0 };
    let weights: u64 = ["w_gate", "w_up", "w_down"]
        .iter()
        .filter_map(|name| problem.tensors.get(*name))
        .map(|desc| desc.element_bytes())
        .sum();
    let read = (weights as f64 * busy) as u64;
    format!(
        "{} rows an expert where choices are even, {} of {experts} experts busy, {} row tiles, {}% of their rows used\n\
         {:14}{} of weights read at least, of {}",
        digits(rows),
        digits(busy * experts),
        digits(tiles * experts),
        digits(filled),
        "",
        bytes(read),
        bytes(weights)
    )
}

fn dispatches(plan: &Plan) -> String {
    let indirect = plan.steps.iter().filter(|step| matches!(step.grid, Grid::Indirect { .. }));
    format!("{}, of these {} of a size that the device counts", plan.steps.len(), indirect.count())
}

fn candidate_table(problem: &MoeProblem, limits: &GpuLimits, candidates: &[MatmulTiles]) -> Table {
    let headings =
        ["candidate", "lanes", "workgroup memory", "rows", "columns", "row tiles expected"];
    let mut table = table(&headings, 1);
    let experts = f64::from(problem.extents.local_experts());
    for tiles in candidates {
        table.add_row([
            tiles.label(),
            tiles.workgroup_size().to_string(),
            bytes(tiles.workgroup_bytes(limits).into()),
            tiles.tile_rows().to_string(),
            tiles.part_columns(1).to_string(),
            digits(problem.loads(tiles.tile_rows()).tiles * experts),
        ]);
    }
    table
}
