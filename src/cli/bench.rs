//! `tilewise bench`: named problems, checked, then timed.

mod report;
mod sample;

use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};

use self::report::{Figures, Report};
use self::sample::{Candidate, Summary, time_interleaved};
use super::common::{CliError, Common};
use super::measure::ceilings;
use super::output::{print, print_json};
use crate::engine::Engine;
use crate::operator::{Operator, Tiles};
use crate::problems::{Expected, NamedProblem, Resident, find, problems, work};
use crate::question::{Question, with_problem};
use crate::tune::TilesFrom;
use crate::verify::judge::JudgeReport;

#[derive(Args)]
pub(super) struct BenchArgs {
    /// Problems by name; all of them without one. A wrong name lists them.
    #[arg(value_name = "PROBLEM")]
    problems: Vec<String>,
    /// Timed runs of each tile set, interleaved.
    #[arg(long, default_value_t = 7, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    runs: u32,
    /// Compare every tile set that the device is worth trying.
    #[arg(long, conflicts_with = "tiles")]
    all_tiles: bool,
    /// Seed of the inputs.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// JSON instead of a table.
    #[arg(long)]
    json: bool,
}

pub(super) fn bench(common: &Common, args: &BenchArgs) -> Result<(), CliError> {
    let problems: Vec<&NamedProblem> = if args.problems.is_empty() {
        problems().collect()
    } else {
        args.problems.iter().map(|name| find(name)).collect::<Result<_, _>>()?
    };
    let engine = common.open()?;
    let progress = progress_bar(problems.len() as u64);
    progress.set_message("measuring the device");
    let mut report =
        Report::new(&engine, ceilings(&engine)?, common.floor).sampled(args.runs, args.seed);
    for named in problems {
        let run = Run { engine: &engine, args, named, progress: &progress };
        let question = named.question()?;
        report.results.extend(with_problem!(&question, problem => {
            run.figures(&question, problem, common.tiles()?)?
        }));
        progress.inc(1);
    }
    progress.finish_and_clear();
    if args.json {
        print_json(&report)?;
    } else {
        print(&report.text())?;
    }
    match report.wrong() {
        0 => Ok(()),
        wrong => Err(CliError::Failed(format!("{wrong} results are wrong and were not timed"))),
    }
}

fn progress_bar(length: u64) -> ProgressBar {
    let bar = ProgressBar::new(length);
    if let Ok(style) = ProgressStyle::with_template("{bar:20} {pos}/{len} {elapsed} {msg}") {
        bar.set_style(style);
    }
    bar
}

/// One problem on one device.
struct Run<'a> {
    engine: &'a Engine,
    args: &'a BenchArgs,
    named: &'a NamedProblem,
    progress: &'a ProgressBar,
}

impl Run<'_> {
    fn say(&self, what: &str) {
        self.progress.set_message(format!("{}: {what}", self.named.name));
        self.progress.tick();
    }

    /// The figures of each tile set, fastest first; those of wrong ones last, without times.
    fn figures<O: Operator>(
        &self,
        question: &Question,
        problem: &O,
        forced: Option<O::Tiles>,
    ) -> Result<Vec<Figures>, CliError> {
        let candidates = problem.candidates(self.engine.limits())?;
        let heuristic = candidates[0];
        let tiles: Vec<Option<O::Tiles>> = match forced {
            None if self.args.all_tiles => candidates.into_iter().map(Some).collect(),
            forced => vec![forced],
        };
        self.say("the f64 reference");
        let inputs = problem.sample(self.args.seed);
        let expected = Expected::new(question, &inputs)?;
        let work = work(question, &inputs)?;
        let (mut candidates, mut figures, mut wrong) = (Vec::new(), Vec::new(), Vec::new());
        for tiles in tiles {
            let call = Resident::new(self.engine, problem, tiles, &inputs)?;
            let tiles = call.prepared.tiles;
            self.say(&format!("checking {}", tiles.label()));
            let from = match call.prepared.tiles_from {
                TilesFrom::Forced if forced.is_none() && tiles == heuristic => TilesFrom::Heuristic,
                from => from,
            };
            call.run(1)?; // also compiles
            let checked = self.checked(&expected, &call)?;
            let of = Figures::new(self.named, question, (&tiles, from), work, checked);
            if of.checked.is_some() {
                candidates.push(Candidate::new(call)?);
                figures.push(of);
            } else {
                wrong.push(of);
            }
        }
        self.say("timing");
        let samples = time_interleaved(&candidates, self.args.runs)?;
        for (of, samples) in figures.iter_mut().zip(&samples) {
            of.wall = Some(Summary::of(samples.iter().map(|elapsed| elapsed.wall)));
            of.cpu = Some(Summary::of(samples.iter().map(|elapsed| elapsed.cpu)));
        }
        let counts =
            |of: &Figures| if self.engine.adapter().is_software() { of.cpu } else { of.wall };
        let median = |of: &Figures| counts(of).map_or(f64::INFINITY, |time| time.median_ms);
        figures.sort_by(|a, b| median(a).total_cmp(&median(b)));
        figures.extend(wrong);
        Ok(figures)
    }

    /// How right the outputs are; `None`, and the worst elements on stderr, where they are wrong.
    fn checked<O: Operator>(
        &self,
        expected: &Expected,
        call: &Resident<O>,
    ) -> Result<Option<JudgeReport>, CliError> {
        let checked = expected.check(&call.outputs()?);
        Ok(checked
            .map_err(|mismatch| {
                let tiles = call.prepared.tiles.label();
                self.progress.suspend(|| eprintln!("{} {tiles}: {mismatch}", self.named.name));
            })
            .ok())
    }
}
