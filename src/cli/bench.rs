//! `tilewise bench`: named problems, checked, then timed.

mod chart;
mod compare;
mod comparison;
mod page;
mod report;
mod run;
mod sample;
mod table;

use std::path::PathBuf;

use clap::Args;

use self::compare::Old;
use self::report::Report;
use self::run::Run;
use super::common::{CliError, Common};
use super::measure::ceilings;
use super::output::{print, print_json, progress_bar, table, write_text};
use crate::any::with_problem;
use crate::problems::{NamedProblem, SUITES, find_all, problems, usual_problems};

#[derive(Args)]
pub(super) struct BenchArgs {
    /// Problems or suites by name, as --list has them; without one all but the suites `large` and `masks`.
    #[arg(value_name = "PROBLEM|SUITE")]
    problems: Vec<String>,
    /// Name the problems and the suites, and measure nothing.
    #[arg(long)]
    list: bool,
    /// Timed runs of each tile set, interleaved.
    #[arg(long, default_value_t = 7, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    runs: u32,
    /// Compare every tile set that the device is worth trying.
    #[arg(long, conflicts_with = "tiles")]
    all_tiles: bool,
    /// Time each step of a call as well, alone.
    #[arg(long)]
    steps: bool,
    /// Seed of the inputs.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// JSON instead of a table.
    #[arg(long)]
    json: bool,
    /// Write the JSON to a file as well.
    #[arg(long, value_name = "JSON")]
    output: Option<PathBuf>,
    /// Compare with what --output wrote before; a problem that is slower beyond the noise fails the command.
    #[arg(long, value_name = "JSON")]
    compare: Option<PathBuf>,
    /// Write a page with charts, complete in itself.
    #[arg(long, value_name = "HTML")]
    html: Option<PathBuf>,
}

pub(super) fn bench(common: &Common, args: &BenchArgs) -> Result<(), CliError> {
    if args.list {
        return print(&list());
    }
    // Wrong names and files are told before anything is measured.
    let problems = asked(&args.problems)?;
    let old = args.compare.as_deref().map(Old::read).transpose()?;
    let engine = common.open()?;
    let progress = progress_bar(problems.len());
    progress.set_message("measuring the device");
    let ceilings = ceilings(&engine)?;
    let mut report =
        Report::new(engine.adapter(), ceilings, common.floor, [args.runs.into(), args.seed]);
    for named in problems {
        let run = Run { engine: &engine, args, named, progress: &progress };
        let any = named.problem()?;
        report.results.extend(with_problem!(&any, problem => {
            run.figures(&any, problem, common.tiles()?)?
        }));
        progress.inc(1);
    }
    progress.finish_and_clear();
    report.comparison = old.map(|old| old.compared(&report));
    told(args, &report)?;
    report.verdict()
}

/// The problems that names stand for, each once.
fn asked(names: &[String]) -> Result<Vec<&'static NamedProblem>, CliError> {
    if names.is_empty() {
        return Ok(usual_problems().collect());
    }
    let mut asked: Vec<&NamedProblem> = Vec::new();
    for name in names {
        for named in find_all(name)? {
            if asked.iter().all(|known| known.name != named.name) {
                asked.push(named);
            }
        }
    }
    Ok(asked)
}

/// Prints the report, and writes it where it was asked for.
fn told(args: &BenchArgs, report: &Report) -> Result<(), CliError> {
    if let Some(path) = &args.output {
        let json = serde_json::to_string_pretty(report)
            .map_err(|error| CliError::Failed(error.to_string()))?;
        write_text(path, &(json + "\n"))?;
    }
    if let Some(path) = &args.html {
        write_text(path, &page::page(report))?;
    }
    match args.json {
        true => print_json(report),
        false => print(&table::text(report)),
    }
}

fn list() -> String {
    let mut suites = table(&["suite", "what it holds", "problems"], 2);
    for suite in SUITES {
        suites.add_row([suite.name, suite.about, &suite.problems.len().to_string()]);
    }
    let mut named = table(&["problem", "where it comes from"], 2);
    for problem in problems() {
        named.add_row([problem.name, problem.origin]);
    }
    format!("{suites}\n\n{named}\n")
}
