//! A plan as text.

use std::fmt::Write as _;

use comfy_table::Table;

use super::{Device, Kernel};
use crate::cli::output::{bytes, table};
use crate::gpu::limits::GpuLimits;
use crate::gpu::recording::{Plan, Slot};
use crate::operator::Operator;

/// What is reported of an operator's plan.
pub(super) struct Report<'a, O: Operator> {
    pub problem: &'a O,
    /// Of a command line that shows the same.
    pub options: String,
    pub device: &'a Device,
    pub plan: &'a Plan,
    /// The tiles, and who chose them.
    pub tiles: String,
    pub work: String,
}

impl<O: Operator> Report<'_, O> {
    /// The plan: what it takes, its tensors, its steps.
    pub fn text(&self) -> String {
        let Self { problem, options, device, plan, tiles, work } = self;
        let mut text = String::new();
        let mut line = |name: &str, value: &str| {
            let _ = writeln!(text, "{name:<14}{value}");
        };
        line("reproduce", &format!("{problem}{options}"));
        line("planned for", &device.name);
        line("tiles", tiles);
        line("reads", &bytes(tensor_bytes(*problem, false)));
        line("writes", &bytes(tensor_bytes(*problem, true)));
        line("scratch", &bytes(plan.scratch_bytes()));
        line("params", &bytes(plan.params_bytes(&device.limits)));
        line("work", work);
        let _ = writeln!(text, "\n{}\n", tensor_table(*problem, &device.limits, plan));
        let _ = writeln!(text, "{}\n", step_table(plan));
        text
    }
}

/// The WGSL of kernels.
pub(super) fn kernel_text(kernels: &[Kernel]) -> String {
    let text =
        |kernel: &Kernel| format!("// ==== kernel {}\n{}\n", kernel.name, kernel.shader.text());
    kernels.iter().map(text).collect()
}

/// Bytes of the tensors that are read or written, each once.
pub(super) fn tensor_bytes<O: Operator>(problem: &O, written: bool) -> u64 {
    let outputs = problem.outputs();
    let tensors = problem.tensors().into_iter();
    let wanted = tensors.filter(|(name, _)| outputs.contains(name) == written);
    wanted.map(|(_, desc)| desc.element_bytes()).sum()
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
            &bytes(desc.element_bytes()),
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
