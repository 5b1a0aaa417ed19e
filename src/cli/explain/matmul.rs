//! `tilewise explain` of a matmul: its dispatches and the tile sets worth trying.

use super::super::common::{CliError, Common};
use super::super::output::print;
use super::{Device, ExplainArgs, Kernel, compile, kernels};
use crate::matmul::{MatmulProblem, MatmulTiles};
use crate::operator::Operator;

pub(super) fn explain(
    common: &Common,
    args: &ExplainArgs,
    problem: &MatmulProblem,
) -> Result<(), CliError> {
    let device = Device::of(common, args)?;
    let candidates = problem.candidates(&device.limits)?;
    let forced: Option<MatmulTiles> = common.tiles()?;
    let chosen = forced.unwrap_or(candidates[0]);
    let mut text = format!("{problem}\ndevice {}\n\ntiles {chosen}\n", device.name);
    for step in &problem.plan(&device.limits, &chosen)?.steps {
        text += &format!("{} in {} workgroups\n", step.shader.entry, step.grid);
    }
    text += "\nworth trying here:\n";
    for tiles in &candidates {
        text += &format!("  {tiles}\n");
    }
    let wanted = if args.all_tiles { candidates } else { vec![chosen] };
    let kernels = kernels(problem, &device.limits, &wanted, |_| String::new())?;
    for Kernel { name, shader } in &kernels {
        text += &format!("\n// ==== kernel {name}\n{}", shader.text());
    }
    print(text.trim_end())?;
    match (&device.engine, args.compile) {
        (Some(engine), true) => compile(engine, &kernels),
        _ => Ok(()),
    }
}
