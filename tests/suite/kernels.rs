//! The texts and plans of all kernels, frozen: `kernels.txt` has a line for each case and named problem on each of three
//! devices. A change that moves code keeps the list to the byte. A change of kernels comes with a new list
//! (`TILEWISE_WRITE_KERNELS=1`), and its diff says what the change reached.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::PathBuf;

use rayon::prelude::*;
use tilewise::any::AnyProblem;
use tilewise::gpu::limits::{GpuLimits, SubgroupSizes};
use tilewise::gpu::recording::{Plan, Step};
use tilewise::operator::Operator;
use tilewise::problems::problems;
use tilewise::verify::cases;
use xxhash_rust::xxh3::Xxh3;

use crate::support::gpu;

/// Devices by what kernels depend on.
fn devices() -> [(&'static str, GpuLimits); 3] {
    let gpu = gpu();
    let processor = SubgroupSizes { least: 8, most: 8 };
    let cpu = GpuLimits { is_cpu: true, subgroup: Some(processor), matrix: Some(8), ..gpu.clone() };
    [("gpu", gpu), ("cpu", cpu), ("floor", GpuLimits::floor())]
}

fn asked() -> Vec<(String, AnyProblem)> {
    let cases = cases().into_iter().map(|case| (case.name.clone(), case.problem().unwrap()));
    let problems =
        problems().map(|named| (format!("problem/{}", named.name), named.problem().unwrap()));
    cases.chain(problems).collect()
}

/// What a problem becomes on a device: how many tile sets, and two hashes.
fn line<O: Operator>(problem: &O, limits: &GpuLimits) -> String {
    let Ok(candidates) = problem.candidates(limits) else { return "refused".to_owned() };
    let mut texts = BTreeSet::new();
    let mut plans = Xxh3::new();
    for tiles in &candidates {
        match problem.plan(limits, tiles) {
            Ok(plan) => add(&plan, &mut texts, &mut plans),
            Err(error) => plans.update(error.to_string().as_bytes()),
        }
    }
    let mut kernels = Xxh3::new();
    texts.iter().for_each(|text| kernels.update(text.as_bytes()));
    let (sets, count) = (candidates.len(), texts.len());
    format!("{sets} sets {count} kernels {:016x} plans {:016x}", kernels.digest(), plans.digest())
}

fn add(plan: &Plan, texts: &mut BTreeSet<String>, hash: &mut Xxh3) {
    let mut last: Option<&Step> = None;
    for step in plan.steps() {
        // A kernel that comes again is written once.
        if last.is_none_or(|last| last.shader() != step.shader()) {
            texts.insert(step.shader().text());
        }
        hash.update(step.params());
        hash.update(format!("{:?} {:?}", step.bindings(), step.grid()).as_bytes());
        last = Some(step);
    }
    hash.update(format!("{:?}", plan.scratch()).as_bytes());
}

fn lines((name, question): &(String, AnyProblem)) -> Vec<String> {
    let of = |(device, limits): (&str, GpuLimits)| {
        let line = match question {
            AnyProblem::Attention(problem) => line(problem.as_ref(), &limits),
            AnyProblem::AttentionMerge(problem) => line(problem.as_ref(), &limits),
            AnyProblem::Neighborhood(problem) => line(problem.as_ref(), &limits),
            AnyProblem::NeighborhoodScores(problem) => line(problem.as_ref(), &limits),
            AnyProblem::NeighborhoodAggregate(problem) => line(problem.as_ref(), &limits),
            AnyProblem::Moe(problem) => line(problem.as_ref(), &limits),
            AnyProblem::Matmul(problem) => line(problem.as_ref(), &limits),
        };
        format!("{name} {device} {line}")
    };
    devices().into_iter().map(of).collect()
}

#[test]
fn kernels_and_plans_are_those_of_the_list() {
    let path: PathBuf = [env!("CARGO_MANIFEST_DIR"), "tests/suite/kernels.txt"].iter().collect();
    let mut now: Vec<String> = asked().par_iter().flat_map_iter(lines).collect();
    now.sort();
    if std::env::var_os("TILEWISE_WRITE_KERNELS").is_some() {
        std::fs::write(&path, now.join("\n") + "\n").unwrap();
        return;
    }
    let list = std::fs::read_to_string(&path).unwrap();
    let listed: BTreeSet<&str> = list.lines().collect();
    let now: BTreeSet<&str> = now.iter().map(String::as_str).collect();
    let mut changed = String::new();
    for line in now.difference(&listed).take(20) {
        let _ = writeln!(changed, "  {line}");
    }
    let (new, gone) = (now.difference(&listed).count(), listed.difference(&now).count());
    assert!(
        new + gone == 0,
        "{new} lines are not in the list, {gone} of the list are gone:\n{changed}"
    );
}
