//! One problem on one device.

use indicatif::ProgressBar;

use super::BenchArgs;
use super::report::Figures;
use super::sample::{Candidate, Summary, time_interleaved};
use crate::any::AnyProblem;
use crate::cli::common::CliError;
use crate::cli::output::tell;
use crate::engine::Engine;
use crate::operator::{Operator, Tiles};
use crate::problems::{NamedProblem, Resident, work};
use crate::tune::TilesFrom;
use crate::verify::Expected;

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
        any: &AnyProblem,
        problem: &O,
        forced: Option<O::Tiles>,
    ) -> Result<Vec<Figures>, CliError> {
        let tiles = self.tile_sets(problem, forced)?;
        let heuristic = tiles.first().copied().flatten().filter(|_| forced.is_none());
        self.say("the f64 reference");
        let inputs = self.named.sample(any, self.args.seed);
        let expected = Expected::new(any, &inputs)?;
        let work = work(any, &inputs)?;
        let software = self.engine.adapter().is_software();
        let (mut candidates, mut figures, mut wrong) = (Vec::new(), Vec::new(), Vec::new());
        for tiles in tiles {
            let call = Resident::new(self.engine, problem, tiles, &inputs)?;
            let tiles = call.prepared.tiles;
            let from = match call.prepared.tiles_from {
                TilesFrom::Forced if Some(tiles) == heuristic => TilesFrom::Heuristic,
                from => from,
            };
            let mut of = Figures::new(self.named, any, (&tiles, from), work);
            self.check(&expected, &call, &mut of)?;
            if of.checked.is_some() {
                candidates.push(Candidate::new(call, software)?);
                figures.push(of);
            } else {
                wrong.push(of);
            }
        }
        self.time(&candidates, &mut figures)?;
        let median = |of: &Figures| of.time(software).map_or(f64::INFINITY, |time| time.median_ms);
        figures.sort_by(|a, b| median(a).total_cmp(&median(b)));
        figures.extend(wrong);
        Ok(figures)
    }

    /// The tile sets that are timed; `None` is the engine's choice.
    fn tile_sets<O: Operator>(
        &self,
        problem: &O,
        forced: Option<O::Tiles>,
    ) -> Result<Vec<Option<O::Tiles>>, CliError> {
        if forced.is_some() || !self.args.all_tiles {
            return Ok(vec![forced]);
        }
        Ok(problem.candidates(self.engine.limits())?.into_iter().map(Some).collect())
    }

    /// Runs a call once and notes how right its outputs are. Where they are wrong, the worst elements go to stderr.
    fn check<O: Operator>(
        &self,
        expected: &Expected,
        call: &Resident<O>,
        of: &mut Figures,
    ) -> Result<(), CliError> {
        let tiles = call.prepared.tiles.label();
        self.say(&format!("checking {tiles}"));
        call.run(1)?; // also compiles
        of.scratch_bytes = call.prepared.plan.scratch_bytes();
        of.checked = expected
            .check(&call.outputs()?)
            .map_err(|mismatch| {
                self.progress
                    .suspend(|| tell(format_args!("{} {tiles}: {mismatch}", self.named.name)));
            })
            .ok();
        Ok(())
    }

    /// Times the calls, interleaved, and their steps where they were asked for.
    fn time<O: Operator>(
        &self,
        candidates: &[Candidate<O>],
        figures: &mut [Figures],
    ) -> Result<(), CliError> {
        self.say("timing");
        let samples = time_interleaved(candidates, self.args.runs)?;
        for (of, samples) in figures.iter_mut().zip(&samples) {
            of.wall = Some(Summary::of(samples.iter().map(|sample| sample.elapsed.wall)));
            of.cpu = Some(Summary::of(samples.iter().map(|sample| sample.elapsed.cpu)));
            let device: Option<Vec<_>> = samples.iter().map(|sample| sample.device).collect();
            of.device = device.map(|times| Summary::of(times.into_iter()));
        }
        if self.args.steps {
            for (of, candidate) in figures.iter_mut().zip(candidates) {
                let none =
                    || CliError::Request("--steps: this device writes no timestamps".to_owned());
                of.steps = candidate.steps(self.args.runs)?.ok_or_else(none)?;
            }
        }
        Ok(())
    }
}
