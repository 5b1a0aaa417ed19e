//! `tilewise verify`: the suite of cases on the user's own adapter.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use clap::Args;
use indicatif::ProgressBar;
use rayon::prelude::*;
use serde::Serialize;
use serde_json::json;

use super::common::{CliError, Common, device_line};
use super::output;
use crate::engine::Engine;
use crate::verify::{
    Case, CaseFailure, CaseReport, CaseTiles, CheckedTrial, TileSets, Trial, cases, checked_trials,
    find_cases, run_case,
};

#[derive(Args)]
pub(super) struct VerifyArgs {
    /// Only cases whose name fits, such as 'mask/*'.
    #[arg(long, value_name = "GLOB")]
    only: Option<String>,
    /// Every case, not only the core ones.
    #[arg(long)]
    all: bool,
    /// Small cases of every operator as well, with each tile set and all runtime checks on.
    #[arg(long)]
    checked: bool,
    /// Other random inputs.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Results as JSON.
    #[arg(long)]
    json: bool,
}

/// What is shown of a group of cases.
#[derive(Default, Serialize)]
struct Group {
    cases: usize,
    passed: usize,
    /// The largest error as a share of its tolerance.
    worst: f64,
    tiles: Vec<String>,
}

/// How a case ended.
struct Outcome {
    /// What it is counted with.
    group: String,
    result: Result<CaseReport, String>,
}

pub(super) fn verify(common: &Common, args: &VerifyArgs) -> Result<(), CliError> {
    let tiles = common.tiles()?;
    let cases = selected(args)?;
    let engine = common.open()?;
    let start = Instant::now();
    let mut outcomes = run(&engine, &cases, tiles);
    if args.checked {
        outcomes.extend(run_checked(&common.open_checked()?, args, tiles)?);
    }
    let failures: Vec<&String> =
        outcomes.iter().filter_map(|outcome| outcome.result.as_ref().err()).collect();
    let groups = grouped(&outcomes);
    if args.json {
        print_json(&engine, args.checked, &groups, &failures)?;
    } else {
        print_table(&engine, &groups, start.elapsed())?;
    }
    if failures.is_empty() {
        return Ok(());
    }
    Err(CliError::Failed(format!("{} of {} cases are wrong", failures.len(), outcomes.len())))
}

fn selected(args: &VerifyArgs) -> Result<Vec<Case>, CliError> {
    let mut selected = match &args.only {
        Some(pattern) => find_cases(pattern),
        None => cases().into_iter().filter(|case| args.all || case.core).collect(),
    };
    if selected.is_empty() {
        let pattern = args.only.as_deref().unwrap_or_default();
        return Err(CliError::Request(format!("--only: no case is named like {pattern}")));
    }
    selected.iter_mut().for_each(|case| case.seed = args.seed);
    Ok(selected)
}

/// What may run beside others.
type Job<'a> = dyn Fn() -> Result<CaseReport, Box<CaseFailure>> + Sync + 'a;

/// Cases run side by side, because compiling their kernels takes most of the time.
fn run(engine: &Engine, cases: &[Case], tiles: Option<CaseTiles>) -> Vec<Outcome> {
    let progress = Watched::new(cases.len());
    let outcome = |case: &Case| {
        let group = case.group().to_owned();
        Outcome { group, result: progress.watch(&|| run_case(engine, case, tiles)) }
    };
    cases.par_iter().map(outcome).collect()
}

/// Small cases on an engine whose kernels keep all checks, with each tile set or the one that was asked for.
fn run_checked(
    engine: &Engine,
    args: &VerifyArgs,
    forced: Option<CaseTiles>,
) -> Result<Vec<Outcome>, CliError> {
    let mut trials = checked_trials(engine.limits(), TileSets::Every, args.seed)?;
    if let Some(pattern) = &args.only {
        let asked = find_cases(pattern);
        trials.retain(|checked| asked.iter().any(|case| case.name == checked.trial.case.name));
        if trials.is_empty() {
            let message = format!("--checked: none of its cases is named like {pattern}");
            return Err(CliError::Request(message));
        }
    }
    let jobs: Vec<(&Trial, Option<CaseTiles>)> = trials
        .iter()
        .flat_map(|CheckedTrial { trial, tiles }| {
            let tiles = if forced.is_some() { &[forced][..] } else { tiles };
            tiles.iter().map(|tiles| (trial, *tiles)).collect::<Vec<_>>()
        })
        .collect();
    let progress = Watched::new(jobs.len());
    let outcome = |(trial, tiles): &(&Trial, Option<CaseTiles>)| {
        let group = format!("checked {}", trial.problem.operator());
        let result = progress.watch(&|| trial.run(engine, *tiles));
        Outcome { group, result: result.map_err(|text| format!("with all checks: {text}")) }
    };
    Ok(jobs.par_iter().map(outcome).collect())
}

/// A bar. Failures are told at once, because the suite takes minutes.
struct Watched {
    bar: ProgressBar,
    failed: Mutex<usize>,
}

impl Watched {
    fn new(jobs: usize) -> Self {
        Self { bar: output::progress_bar(jobs), failed: Mutex::new(0) }
    }

    fn watch(&self, job: &Job<'_>) -> Result<CaseReport, String> {
        let result = job().map_err(|failure| failure.to_string());
        if let (Err(failure), Ok(mut failed)) = (&result, self.failed.lock()) {
            *failed += 1;
            self.bar.set_message(format!("{failed} wrong"));
            self.bar.suspend(|| output::tell(format_args!("{failure}\n")));
        }
        self.bar.inc(1);
        result
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}

fn grouped(outcomes: &[Outcome]) -> Vec<(&str, Group)> {
    let mut order: Vec<&str> = Vec::new();
    let mut groups: BTreeMap<&str, Group> = BTreeMap::new();
    for Outcome { group: name, result } in outcomes {
        if !order.contains(&name.as_str()) {
            order.push(name);
        }
        let group = groups.entry(name).or_default();
        group.cases += 1;
        if let Ok(report) = result {
            group.passed += 1;
            group.worst = group.worst.max(report.worst_share());
            if !group.tiles.contains(&report.tiles) {
                group.tiles.push(report.tiles.clone());
            }
        }
    }
    order.into_iter().filter_map(|name| groups.remove_entry(name)).collect()
}

fn print_table(engine: &Engine, groups: &[(&str, Group)], time: Duration) -> Result<(), CliError> {
    let mut table =
        output::table(&["cases of", "passed", "worst error / tolerance", "tile sets"], 1);
    for (name, group) in groups {
        table.add_row([
            (*name).to_owned(),
            format!("{} of {}", group.passed, group.cases),
            format!("{:.2}", group.worst),
            group.tiles.len().to_string(),
        ]);
    }
    let (passed, all) = totals(groups);
    let device = device_line(engine.adapter());
    let seconds = time.as_secs_f64();
    output::print(&format!(
        "{device}\n\n{table}\n\n{passed} of {all} cases are right, in {seconds:.0} s\n"
    ))
}

fn print_json(
    engine: &Engine,
    checked: bool,
    groups: &[(&str, Group)],
    failures: &[&String],
) -> Result<(), CliError> {
    let (passed, all) = totals(groups);
    let groups: BTreeMap<&str, &Group> =
        groups.iter().map(|(name, group)| (*name, group)).collect();
    output::print_json(&json!({
        "adapter": engine.adapter(), "checked": checked, "cases": all, "passed": passed, "groups": groups,
        "failures": failures,
    }))
}

fn totals(groups: &[(&str, Group)]) -> (usize, usize) {
    groups
        .iter()
        .fold((0, 0), |(passed, all), (_, group)| (passed + group.passed, all + group.cases))
}
