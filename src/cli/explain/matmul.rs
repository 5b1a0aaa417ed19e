//! `tilewise explain` of a matmul: its dispatches and the tile sets worth trying.

use super::super::common::{CliError, Common};
use super::{ExplainArgs, Planned};
use crate::matmul::MatmulProblem;

pub(super) fn explain(
    common: &Common,
    args: &ExplainArgs,
    problem: &MatmulProblem,
) -> Result<(), CliError> {
    let planned = Planned::of(common, args, problem)?;
    let mut text =
        format!("{problem}\ndevice {}\n\ntiles {}\n", planned.device.name, planned.tiles);
    for step in &planned.plan(problem)?.steps {
        text += &format!("{} in {} workgroups\n", step.shader.entry, step.grid);
    }
    text += "\nworth trying here:\n";
    for tiles in &planned.candidates {
        text += &format!("  {tiles}\n");
    }
    planned.tell(args, problem, &(text + "\n"), |_| String::new())
}
