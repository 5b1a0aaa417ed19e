//! One problem on one device.

use indicatif::ProgressBar;

use super::BenchArgs;
use super::report::Figures;
use super::sample::{Candidate, Summary, time_interleaved};
use crate::cli::common::CliError;
use crate::engine::Engine;
use crate::operator::{Operator, Tiles};
use crate::problems::{Expected, NamedProblem, Resident, work};
use crate::question::Question;
use crate::tune::TilesFrom;
use crate::verify::judge::JudgeReport;

pub(super) struct Run<'a> {
    pub engine: &'a Engine,
    pub args: &'a BenchArgs,
    pub named: &'a NamedProblem,
    pub progress: &'a ProgressBar,
}

impl Run<'_> {
    fn say(&self, what: &str) {
        self.progress.set_message(format!("{}: {what}", self.named.name));
        self.progress.tick();
    }

    /// The figures of each tile set, fastest first; those of wrong ones last, without times.
    pub fn figures<O: Operator>(
        &self,
        question: &Question,
        problem: &O,
        forced: Option<O::Tiles>,
    ) -> Result<Vec<Figures>, CliError> {
        let tiles: Vec<Option<O::Tiles>> = match forced {
            None if self.args.all_tiles => {
                problem.candidates(self.engine.limits())?.into_iter().map(Some).collect()
            }
            forced => vec![forced],
        };
        let heuristic = tiles.first().copied().flatten().filter(|_| forced.is_none());
        self.say("the f64 reference");
        let inputs = problem.sample(self.args.seed);
        let expected = Expected::new(question, &inputs)?;
        let work = work(question, &inputs)?;
        let software = self.engine.adapter().is_software();
        let (mut candidates, mut figures, mut wrong) = (Vec::new(), Vec::new(), Vec::new());
        for tiles in tiles {
            let call = Resident::new(self.engine, problem, tiles, &inputs)?;
            let tiles = call.prepared.tiles;
            self.say(&format!("checking {}", tiles.label()));
            let from = match call.prepared.tiles_from {
                TilesFrom::Forced if Some(tiles) == heuristic => TilesFrom::Heuristic,
                from => from,
            };
            call.run(1)?; // also compiles
            let mut of = Figures::new(self.named, question, (&tiles, from), work);
            of.scratch_bytes = call.prepared.plan.scratch_bytes();
            of.checked = self.checked(&expected, &call)?;
            if of.checked.is_some() {
                candidates.push(Candidate::new(call, software)?);
                figures.push(of);
            } else {
                wrong.push(of);
            }
        }
        self.say("timing");
        let samples = time_interleaved(&candidates, self.args.runs)?;
        for (of, samples) in figures.iter_mut().zip(&samples) {
            of.wall = Some(Summary::of(samples.iter().map(|sample| sample.elapsed.wall)));
            of.cpu = Some(Summary::of(samples.iter().map(|sample| sample.elapsed.cpu)));
            let device: Option<Vec<_>> = samples.iter().map(|sample| sample.device).collect();
            of.device = device.map(|times| Summary::of(times.into_iter()));
        }
        if self.args.steps {
            for (of, candidate) in figures.iter_mut().zip(&candidates) {
                let none =
                    || CliError::Request("--steps: this device writes no timestamps".to_owned());
                of.steps = candidate.steps(self.args.runs)?.ok_or_else(none)?;
            }
        }
        let median = |of: &Figures| of.time(software).map_or(f64::INFINITY, |time| time.median_ms);
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
