//! The race: candidates are verified one after the other, then timed in interleaved rounds; the slower half leaves.

use std::sync::Arc;
use std::time::Duration;

use web_time::Instant;

use super::guard::difference;
use super::measure::{Output, Stand};
use super::tuned::{Stored, Timing, Tuned, Verdict};
use crate::error::{Error, GpuError};
use crate::gpu::context::Gpu;
use crate::gpu::shader::Shader;
use crate::gpu::signal::Waiting;
use crate::operator::{Operator, TilesFrom};
use crate::prepared::Prepared;

/// How a problem is to be tuned.
#[derive(Clone, Copy)]
pub(crate) struct Race<'a> {
    /// Nothing is started after this time: no compilation, no run.
    pub budget: Duration,
    /// How the device is waited for.
    pub waiting: Waiting,
    /// Told what is done next.
    pub progress: &'a dyn Fn(Progress),
}

/// Where measuring a problem's candidates stands.
#[derive(Clone, Copy, Debug)]
pub struct Progress {
    /// Candidates verified, of all of them.
    pub verified: [usize; 2],
    /// Rounds timed, of the most there will be.
    pub rounds: [usize; 2],
}

/// Part of the budget after which no further candidate is tried: the rest is for timing.
const TRYING: f64 = 0.7;

/// Work before anything is timed, at most so much and this part of the budget: a GPU that was idle runs at a fraction of its
/// clock for a while.
pub(crate) const WARMING: Duration = Duration::from_millis(500);
const WARMING_SHARE: f64 = 0.15;

/// Candidates that take more than this many times the fastest one's time are not timed again.
const HOPELESS: f64 = 3.0;

/// Rounds in which every candidate left is timed once; the slower half leaves after the first ones named.
const ROUNDS: usize = 9;
const HALVED_AFTER: [usize; 3] = [1, 3, 5];

/// Milliseconds that a timed run lasts about: long enough for the clock, short enough between an app's frames.
const RUN_MS: f64 = 3.0;
const MOST_CALLS: f64 = 64.0;

/// A candidate as fast as the fastest within this share is not worth leaving the heuristic's choice for.
const TIE: f64 = 1.02;

/// A candidate that gave the right result.
struct Runner<O: Operator> {
    /// Its place in the list.
    index: usize,
    prepared: Prepared<O>,
    /// Calls of a timed run.
    calls: u32,
    ms: Vec<f64>,
}

impl<O: Operator> Runner<O> {
    fn median(&self) -> f64 {
        let mut ms = self.ms.clone();
        ms.sort_by(f64::total_cmp);
        let middle = ms.len().saturating_sub(1);
        (ms[middle / 2] + ms[middle.div_ceil(2)]) / 2.0
    }

    fn verdict(&self) -> Verdict {
        Verdict::Timed { ms: self.median(), runs: self.ms.len() as u32 }
    }
}

/// What became of trying a candidate.
enum Tried<O: Operator> {
    /// It gave the right result.
    Right(Box<Runner<O>>),
    /// How its result is wrong.
    Wrong(String),
    /// The budget ended before it was timed.
    TooLate,
}

/// Finds a problem's fastest tiles on a device.
///
/// # Errors
/// Those of running it with the heuristic's tiles, and a lost device.
pub(crate) async fn race<O: Operator>(
    gpu: &Arc<Gpu>,
    operator: &O,
    options: Race<'_>,
) -> Result<Tuned<O::Tiles>, Error> {
    let start = Instant::now();
    let candidates = operator.candidates(gpu.limits())?;
    let untried = |&tiles| Timing { tiles, verdict: Verdict::Untried };
    let mut timings: Vec<Timing<O::Tiles>> = candidates.iter().map(untried).collect();
    let mut winner = 0;
    if candidates.len() > 1 {
        let mut fresh = Fresh { gpu, made: Vec::new() };
        let mut track = Track {
            stand: Stand::new(gpu, operator, options.waiting).await?,
            gpu,
            operator,
            options,
            start,
        };
        let runners = track.verify(&mut timings, &mut fresh).await?;
        let runners = track.time(runners, &mut timings).await?;
        winner = choose(&runners);
        let kept = runners.iter().filter(|runner| [0, winner].contains(&runner.index));
        fresh.keep(kept.flat_map(|runner| &runner.prepared.plan.steps).map(|step| &step.shader));
    }
    let stored = Stored::Nowhere;
    Ok(Tuned { tiles: candidates[winner], timings, took: start.elapsed(), stored })
}

/// The fastest of those that are left; the heuristic's choice where that is about as fast.
fn choose<O: Operator>(runners: &[Runner<O>]) -> usize {
    let fastest = runners.iter().min_by(|a, b| a.median().total_cmp(&b.median()));
    let heuristic = runners.iter().find(|runner| runner.index == 0);
    match (fastest, heuristic) {
        (Some(fastest), Some(first)) if first.median() > fastest.median() * TIE => fastest.index,
        _ => 0,
    }
}

/// The heuristic's choice stays.
fn drop_hopeless<O: Operator>(runners: &mut Vec<Runner<O>>) {
    let best = runners.iter().map(Runner::median).fold(f64::INFINITY, f64::min);
    runners.retain(|runner| runner.index == 0 || runner.median() <= best * HOPELESS);
}

/// Pipelines that were made for the race alone; dropped, it forgets those that nobody keeps.
struct Fresh<'a> {
    gpu: &'a Gpu,
    made: Vec<Arc<Shader>>,
}

impl Fresh<'_> {
    fn note(&mut self, shader: &Arc<Shader>) {
        if !self.gpu.knows(shader) {
            self.made.push(Arc::clone(shader));
        }
    }

    fn keep<'b>(&mut self, shaders: impl Iterator<Item = &'b Arc<Shader>>) {
        let kept: Vec<&Arc<Shader>> = shaders.collect();
        self.made.retain(|made| !kept.contains(&made));
    }
}

impl Drop for Fresh<'_> {
    fn drop(&mut self) {
        self.gpu.forget(&self.made);
    }
}

/// Where candidates run.
struct Track<'a, O: Operator> {
    stand: Stand<'a, O>,
    gpu: &'a Arc<Gpu>,
    operator: &'a O,
    options: Race<'a>,
    start: Instant,
}

impl<O: Operator> Track<'_, O> {
    fn past(&self, share: f64) -> bool {
        self.start.elapsed() > self.options.budget.mul_f64(share)
    }

    /// Runs each candidate once, in the heuristic's order, and keeps those that are right and not hopelessly slow.
    async fn verify(
        &mut self,
        timings: &mut [Timing<O::Tiles>],
        fresh: &mut Fresh<'_>,
    ) -> Result<Vec<Runner<O>>, Error> {
        let all = timings.len();
        let mut expected: Option<Vec<Output>> = None;
        let mut runners: Vec<Runner<O>> = Vec::new();
        for (index, timing) in timings.iter_mut().enumerate() {
            if self.past(if index > 0 { TRYING } else { 1.0 }) {
                break;
            }
            (self.options.progress)(Progress { verified: [index, all], rounds: [0, ROUNDS] });
            let tried = self.try_out(index, timing.tiles, &mut expected, fresh).await;
            match tried {
                Ok(Tried::Right(runner)) => {
                    timing.verdict = runner.verdict();
                    runners.push(*runner);
                }
                Ok(Tried::Wrong(how)) => timing.verdict = Verdict::Wrong(how),
                Ok(Tried::TooLate) => break,
                Err(error) if index == 0 || matches!(error, Error::Gpu(GpuError::Lost { .. })) => {
                    return Err(error);
                }
                Err(error) => timing.verdict = Verdict::Failed(error.to_string()),
            }
        }
        if self.stand.is_steady() {
            drop_hopeless(&mut runners);
        }
        Ok(runners)
    }

    /// Keeps the device at work until its clock is up.
    async fn warm(&self, runner: &Runner<O>) -> Result<(), Error> {
        let start = Instant::now();
        let long = WARMING.min(self.options.budget.mul_f64(WARMING_SHARE));
        while !self.stand.is_steady() && start.elapsed() < long && !self.past(1.0) {
            self.stand.run(&runner.prepared, runner.calls).await?;
        }
        Ok(())
    }

    /// Compiles a candidate, holds its result against the first one's, and times it once.
    async fn try_out(
        &mut self,
        index: usize,
        tiles: O::Tiles,
        expected: &mut Option<Vec<Output>>,
        fresh: &mut Fresh<'_>,
    ) -> Result<Tried<O>, Error> {
        let plan = self.operator.plan(self.gpu.limits(), &tiles)?;
        let mut pipelines = Vec::new();
        for step in &plan.steps {
            if self.past(1.0) {
                return Ok(Tried::TooLate);
            }
            fresh.note(&step.shader);
            pipelines.push(self.gpu.pipeline(&step.shader).await?);
        }
        let chosen = (tiles, TilesFrom::Forced);
        let prepared = Prepared::new(self.gpu, self.operator, chosen, plan, pipelines).await?;
        self.stand.poison()?;
        if self.past(1.0) {
            return Ok(Tried::TooLate);
        }
        self.stand.run(&prepared, 1).await?; // some drivers compile only now
        let results = self.stand.results().await?;
        match expected {
            None => *expected = Some(results),
            Some(expected) => {
                for (got, expected) in results.iter().zip(expected) {
                    if let Some(wrong) = difference(got, expected) {
                        return Ok(Tried::Wrong(wrong));
                    }
                }
            }
        }
        if self.past(1.0) {
            return Ok(Tried::TooLate);
        }
        let first = self.stand.run(&prepared, 1).await?;
        let calls = (RUN_MS / first.max(1e-6)).ceil().clamp(1.0, MOST_CALLS) as u32;
        Ok(Tried::Right(Box::new(Runner { index, prepared, calls, ms: vec![first] })))
    }

    /// Times those that are right, each once a round, while the slower half leaves; the heuristic's choice stays.
    async fn time(
        &mut self,
        mut runners: Vec<Runner<O>>,
        timings: &mut [Timing<O::Tiles>],
    ) -> Result<Vec<Runner<O>>, Error> {
        let verified = [timings.len(), timings.len()];
        if let Some(runner) = runners.first() {
            self.warm(runner).await?;
        }
        'rounds: for round in 0..ROUNDS {
            (self.options.progress)(Progress { verified, rounds: [round, ROUNDS] });
            for runner in &mut runners {
                if self.past(1.0) {
                    break 'rounds;
                }
                let ms = self.stand.run(&runner.prepared, runner.calls).await?;
                if round == 0 && (runner.calls > 1 || !self.stand.is_steady()) {
                    runner.ms.clear(); // a single short call, or one of a device that was idle
                }
                runner.ms.push(ms);
            }
            runners.iter().for_each(|runner| timings[runner.index].verdict = runner.verdict());
            drop_hopeless(&mut runners);
            if HALVED_AFTER.contains(&(round + 1)) && runners.len() > 2 {
                runners.sort_by(|a, b| a.median().total_cmp(&b.median()));
                let half = runners.len().div_ceil(2).max(2);
                let mut place = 0;
                runners.retain(|runner| {
                    place += 1;
                    place <= half || runner.index == 0
                });
            }
        }
        runners.iter().for_each(|runner| timings[runner.index].verdict = runner.verdict());
        Ok(runners)
    }
}
