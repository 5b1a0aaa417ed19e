//! A plan as text.

use std::fmt::Write as _;

use comfy_table::Table;

use super::Kernel;
use crate::attention::AttentionProblem;
use crate::cli::common::CliError;
use crate::cli::output::{bytes, digits, table};
use crate::fused::FusedTiles;
use crate::gpu::limits::GpuLimits;
use crate::gpu::recording::{Plan, Slot};
use crate::operator::{Operator, Tiles};

/// What is reported.
pub(super) struct Report<'a> {
    pub problem: &'a AttentionProblem,
    /// Those of a command line that shows the same.
    pub options: String,
    pub device: &'a str,
    pub limits: &'a GpuLimits,
    pub chosen: FusedTiles,
    pub forced: bool,
    pub candidates: &'a [FusedTiles],
}

impl Report<'_> {
    /// The plan with the chosen tiles, then the WGSL of these kernels.
    pub fn text(&self, kernels: &[Kernel]) -> Result<String, CliError> {
        let plan = self.problem.plan(self.limits, &self.chosen)?;
        let how = if self.forced { "as asked" } else { "the heuristic's choice" };
        let mut text = String::new();
        let mut line = |name: &str, value: &str| {
            let _ = writeln!(text, "{name:<14}{value}");
        };
        line("reproduce", &format!("{}{}", self.problem, self.options));
        line("planned for", self.device);
        line("tiles", &format!("{} ({how})\n{:14}{}", self.chosen.label(), "", self.chosen));
        line("reads", &bytes(tensor_bytes(self.problem, false)));
        line("writes", &bytes(tensor_bytes(self.problem, true)));
        line("scratch", &bytes(plan.scratch_bytes()));
        line("params", &bytes(plan.params_bytes(self.limits)));
        line("work", &format!("{} GFLOP before masking", digits(self.problem.dense_flops() / 1e9)));
        let _ = writeln!(text, "\n{}\n", tensor_table(self.problem, self.limits, &plan));
        let _ = writeln!(text, "{}\n", step_table(&plan));
        let _ = writeln!(text, "{}\n", self.candidate_table());
        for Kernel { name, shader } in kernels {
            let _ = writeln!(text, "// ==== kernel {name}\n{}", shader.text());
        }
        Ok(text)
    }

    fn candidate_table(&self) -> Table {
        let mut table = table(&["candidate", "lanes", "workgroup memory", "rows", "keys"], 1);
        let shape = self.problem.fused_shape();
        for tiles in self.candidates {
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
}

/// Bytes of the tensors that are read or written, each once.
pub(super) fn tensor_bytes<O: Operator>(problem: &O, written: bool) -> u64 {
    let outputs = problem.outputs();
    let tensors = problem.tensors().into_iter();
    let wanted = tensors.filter(|(name, _)| outputs.contains(name) == written);
    wanted.map(|(_, desc)| desc.layout.len() * desc.dtype.bytes()).sum()
}

/// The caller's tensors, then what the engine holds for the call.
pub(super) fn tensor_table<O: Operator>(problem: &O, limits: &GpuLimits, plan: &Plan) -> Table {
    let mut table = table(&["tensor", "", "dtype", "shape", "bytes"], 4);
    let outputs = problem.outputs();
    for (name, desc) in problem.tensors() {
        table.add_row([
            name,
            if outputs.contains(&name) { "written" } else { "read" },
            &desc.dtype.to_string(),
            &format!("{:?}", desc.shape()),
            &bytes(desc.layout.len() * desc.dtype.bytes()),
        ]);
    }
    for scratch in plan.scratch.iter().filter(|scratch| scratch.bytes > 0) {
        table.add_row([scratch.name, "scratch", "", "", &bytes(scratch.bytes)]);
    }
    table.add_row(["params", "of each step", "", "", &bytes(plan.params_bytes(limits))]);
    table
}

pub(super) fn step_table(plan: &Plan) -> Table {
    let headings = ["step", "kernel", "grid", "lanes", "workgroup memory", "bindings"];
    let mut table = table(&headings, 6);
    for (index, step) in plan.steps.iter().enumerate() {
        let mut bindings = vec![format!("params {}", bytes(step.params.len() as u64))];
        for (declared, bound) in step.shader.bindings.iter().zip(&step.bindings) {
            let arrow = if declared.writes { "-> " } else { "" };
            let source = match &bound.slot {
                Slot::Tensor(name) if *name == declared.name => String::new(),
                Slot::Tensor(name) => format!(" = {name}"),
                Slot::Scratch(index) => format!(" = {}", plan.scratch[*index].name),
            };
            bindings.push(format!("{arrow}{}{source} {}", declared.name, bytes(bound.size)));
        }
        table.add_row([
            index.to_string(),
            step.shader.entry.to_owned(),
            step.grid.to_string(),
            step.shader.workgroup_size.to_string(),
            bytes(step.shader.workgroup_bytes.into()),
            bindings.join("\n"),
        ]);
    }
    table
}
