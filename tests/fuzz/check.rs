//! What every plan holds, whatever was asked for.

use std::collections::BTreeMap;

use serde_json::Value;
use tilewise::any::{AnyProblem, AnySpec};
use tilewise::gpu::limits::GpuLimits;
use tilewise::gpu::recording::{Bound, Grid, Plan, Slot, Step};
use tilewise::operator::Operator;
use tilewise::tensor::TensorDesc;

use crate::draw::{Asked, Draw};
use crate::limits::limits;

/// Most dispatches that a call is taken to need.
const MOST_STEPS: usize = 1 << 14;

/// Tile sets of a problem that are planned.
const SETS: usize = 4;

/// Asks; plans what is right for a device, with its own tiles and with forced ones.
pub fn hold_plans(draw: &mut Draw<'_>, asked: &Asked) {
    let Ok(spec) = serde_json::from_value::<AnySpec>(asked.spec.clone()) else { return };
    let Ok(question) = spec.ask(&asked.tensors) else { return };
    let limits = limits(draw);
    match &question {
        AnyProblem::Attention(problem) => hold(draw, &**problem, &limits),
        AnyProblem::AttentionMerge(problem) => hold(draw, &**problem, &limits),
        AnyProblem::Neighborhood(problem) => hold(draw, &**problem, &limits),
        AnyProblem::NeighborhoodScores(problem) => hold(draw, &**problem, &limits),
        AnyProblem::NeighborhoodAggregate(problem) => hold(draw, &**problem, &limits),
        AnyProblem::Moe(problem) => hold(draw, &**problem, &limits),
        AnyProblem::Matmul(problem) => hold(draw, &**problem, &limits),
    }
}

fn hold<O: Operator>(draw: &mut Draw<'_>, problem: &O, limits: &GpuLimits) {
    assert!(!problem.to_string().is_empty());
    let _ = problem.bucket();
    let mut sets = Vec::new();
    if let Ok(candidates) = problem.candidates(limits) {
        assert!(!candidates.is_empty(), "{problem}");
        sets.push(candidates[0]);
        sets.push(draw.pick(&candidates));
    }
    // What another device would take, with a number changed.
    let other = problem.candidates(&GpuLimits { is_cpu: draw.once_in(2), ..GpuLimits::floor() });
    for tiles in other.into_iter().flatten().take(SETS) {
        let mut json = serde_json::to_value(tiles).expect("tiles are JSON");
        change(draw, &mut json);
        sets.extend(serde_json::from_value::<O::Tiles>(json));
    }
    for tiles in sets {
        if let Ok(plan) = problem.plan(limits, &tiles) {
            hold_plan(problem, &plan, limits, &format!("{problem} {tiles} {limits:?}"));
        }
    }
}

/// Changes a number of a tile set.
fn change(draw: &mut Draw<'_>, json: &mut Value) {
    match json {
        Value::Object(fields) if !fields.is_empty() => {
            let at = draw.below(fields.len() as u32) as usize;
            if let Some(field) = fields.values_mut().nth(at) {
                change(draw, field);
            }
        }
        Value::Array(items) if !items.is_empty() => {
            let at = draw.below(items.len() as u32) as usize;
            change(draw, &mut items[at]);
        }
        Value::Number(_) => {
            let usual = [1, 2, 4, 8, 16, 32, 64, 128, 256, 0, 3, 7, 12, 4096, 4097, 1 << 16];
            let most = [1 << 30, 1 << 31, u32::MAX, u32::MAX - 63];
            *json =
                if draw.once_in(5) { draw.pick(&most).into() } else { draw.pick(&usual).into() };
        }
        Value::Bool(value) => *value = !*value,
        _ => {}
    }
}

fn hold_plan<O: Operator>(problem: &O, plan: &Plan, limits: &GpuLimits, of: &str) {
    let tensors: BTreeMap<&str, TensorDesc> = problem.tensors().into_iter().collect();
    assert!(plan.steps().len() <= MOST_STEPS, "{} steps of {of}", plan.steps().len());
    let params = if plan.steps().is_empty() { 0 } else { plan.params_bytes(limits) };
    assert!(params <= limits.buffer_bytes, "params of {of}");
    for scratch in plan.scratch() {
        assert!(scratch.bytes <= limits.buffer_bytes, "{} of {of}", scratch.name);
    }
    for step in plan.steps() {
        hold_kernel(step, limits, of);
        hold_grid(step, plan, limits, of);
        for bound in step.bindings() {
            hold_binding(bound, (plan, &tensors), limits, of);
        }
        hold_writes(step, of);
    }
}

fn hold_kernel(step: &Step, limits: &GpuLimits, of: &str) {
    let shader = step.shader();
    let entry = shader.entry();
    assert_eq!(shader.bindings().len(), step.bindings().len(), "{entry} of {of}");
    assert!(step.bindings().len() <= limits.storage_buffers as usize, "{entry} of {of}");
    assert!(shader.workgroup_size() > 0, "{entry} of {of}");
    assert!(shader.workgroup_size() <= limits.workgroup_invocations, "{entry} of {of}");
    assert!(shader.workgroup_bytes() <= limits.workgroup_bytes, "{entry} of {of}");
    assert!(step.params().len() as u64 <= limits.uniform_binding_bytes, "{entry} of {of}");
}

fn hold_grid(step: &Step, plan: &Plan, limits: &GpuLimits, of: &str) {
    match *step.grid() {
        Grid::Direct(groups) => {
            let most = limits.workgroups_per_dimension;
            assert!(groups.iter().all(|count| *count <= most), "{groups:?} of {of}");
        }
        Grid::Indirect { scratch, offset } => {
            assert!(offset % 4 == 0 && offset + 12 <= plan.scratch()[scratch].bytes, "{of}");
            let writes = step.shader().bindings().iter().zip(step.bindings());
            let shared = |bound: &Bound| bound.slot == Slot::Scratch(scratch);
            assert!(!writes.into_iter().any(|(d, bound)| d.writes && shared(bound)), "{of}");
        }
    }
}

/// A binding fits the device, and lies within its buffer.
fn hold_binding(
    bound: &Bound,
    (plan, tensors): (&Plan, &BTreeMap<&str, TensorDesc>),
    limits: &GpuLimits,
    of: &str,
) {
    let Bound { slot, offset, size } = bound;
    assert!(*size <= limits.storage_binding_bytes && size % 4 == 0, "{bound:?} of {of}");
    assert!(offset % u64::from(limits.storage_alignment.max(1)) == 0, "{bound:?} of {of}");
    let end = match slot {
        Slot::Scratch(index) => plan.scratch()[*index].bytes,
        Slot::Tensor(name) => tensors[name.as_str()].bytes().next_multiple_of(4),
    };
    assert!(*size == 0 || offset + size <= end, "{bound:?} ends behind {end} of {of}");
}

/// What a step writes it binds once; of what stands in for empty tensors it does not bind one to read, one to write.
fn hold_writes(step: &Step, of: &str) {
    let bound: Vec<(bool, &Bound)> = step
        .shader()
        .bindings()
        .iter()
        .zip(step.bindings())
        .map(|(declared, bound)| (declared.writes, bound))
        .collect();
    let same = |a: &Bound, b: &Bound| {
        (a.size == 0 && b.size == 0) || (a.size > 0 && b.size > 0 && a.slot == b.slot)
    };
    for (index, (writes, one)) in bound.iter().enumerate() {
        for (other_writes, other) in &bound[index + 1..] {
            let clash = same(one, other) && (writes != other_writes || (*writes && one.size > 0));
            assert!(!clash, "{one:?} and {other:?} in {} of {of}", step.shader().entry());
        }
    }
}
