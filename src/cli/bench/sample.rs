//! Timed runs, interleaved, and what is told of them.

use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use crate::cli::common::CliError;
use crate::cli::measure::Elapsed;
use crate::operator::Operator;
use crate::problems::Resident;
use crate::tune::WARMING;

/// A timed run lasts about this long: short calls are repeated within one submission.
const RUN: Duration = Duration::from_millis(20);

/// A call that is warm, and how often it is repeated in a run.
pub(super) struct Candidate<O: Operator> {
    call: Resident<O>,
    calls: u32,
    software: bool,
}

/// Time of a call.
#[derive(Clone, Copy)]
pub(super) struct Sample {
    pub elapsed: Elapsed,
    /// By the device's own clock, which a software adapter shares with all other programs and which is not asked there.
    pub device: Option<Duration>,
}

impl<O: Operator> Candidate<O> {
    /// Warms a call that is compiled already, and looks how long it takes.
    pub fn new(call: Resident<O>, software: bool) -> Result<Self, CliError> {
        let first = Elapsed::of(|| call.run(1))?;
        let calls = (RUN.as_secs_f64() / first.wall.as_secs_f64().max(1e-6)).ceil();
        Ok(Self { call, calls: (calls as u32).clamp(1, 1000), software })
    }

    fn timed(&self) -> Result<Sample, CliError> {
        let mut device = None;
        let Elapsed { wall, cpu } = Elapsed::of(|| {
            if !self.software {
                device = self.call.run_timed(self.calls)?;
            }
            if device.is_none() { self.call.run(self.calls) } else { Ok(()) }
        })?;
        let device = device.map(|ms| Duration::from_secs_f64(ms / 1e3 / f64::from(self.calls)));
        let elapsed = Elapsed { wall: wall / self.calls, cpu: cpu / self.calls };
        Ok(Sample { elapsed, device })
    }

    /// Milliseconds of each step of the call; `None` where the device writes no timestamps.
    pub fn steps(&self, runs: u32) -> Result<Option<Vec<StepFigures>>, CliError> {
        let mut samples = Vec::new();
        for _ in 0..runs {
            let Some(steps) = self.call.run_steps()? else { return Ok(None) };
            samples.push(steps);
        }
        let steps = self.call.prepared.plan.steps.iter().enumerate();
        let figures = steps.map(|(index, step)| StepFigures {
            kernel: step.shader.entry,
            workgroups: step.grid.to_string(),
            ms: Summary::of(samples.iter().map(|ms| Duration::from_secs_f64(ms[index] / 1e3))),
        });
        Ok(Some(figures.collect()))
    }
}

/// Runs every candidate once, then all of them again: what drifts, drifts for all. A GPU, idle while the reference was
/// computed, is warmed first.
pub(super) fn time_interleaved<O: Operator>(
    candidates: &[Candidate<O>],
    runs: u32,
) -> Result<Vec<Vec<Sample>>, CliError> {
    let start = Instant::now();
    while let Some(first) = candidates.first()
        && !first.software
        && start.elapsed() < WARMING
    {
        first.timed()?;
    }
    let mut samples = vec![Vec::new(); candidates.len()];
    for _ in 0..runs {
        for (candidate, samples) in candidates.iter().zip(&mut samples) {
            samples.push(candidate.timed()?);
        }
    }
    Ok(samples)
}

/// A step of a call, alone on the device.
#[derive(Serialize)]
pub(super) struct StepFigures {
    pub kernel: &'static str,
    pub workgroups: String,
    /// By the device's own clock.
    pub ms: Summary,
}

/// Times of a call over runs, in milliseconds.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(super) struct Summary {
    pub median_ms: f64,
    pub least_ms: f64,
    pub most_ms: f64,
    /// First and third.
    pub quartiles_ms: [f64; 2],
}

impl Summary {
    pub fn of(times: impl Iterator<Item = Duration>) -> Self {
        let mut ms: Vec<f64> = times.map(|time| time.as_secs_f64() * 1e3).collect();
        ms.sort_by(f64::total_cmp);
        let at = |index: usize| ms.get(index).copied().unwrap_or(f64::NAN);
        let last = ms.len().saturating_sub(1);
        let quantile = |quarters: usize| {
            let (whole, rest) = (last * quarters / 4, (last * quarters % 4) as f64 / 4.0);
            at(whole) * (1.0 - rest) + at((whole + 1).min(last)) * rest
        };
        Self {
            median_ms: quantile(2),
            least_ms: at(0),
            most_ms: at(last),
            quartiles_ms: [quantile(1), quantile(3)],
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_stands_in_the_middle() {
        let of = |ms: &[u64]| Summary::of(ms.iter().map(|&ms| Duration::from_millis(ms)));
        let odd = of(&[9, 1, 3]);
        assert_eq!((odd.median_ms, odd.least_ms, odd.most_ms), (3.0, 1.0, 9.0));
        assert_eq!(of(&[4, 2]).median_ms, 3.0);
        assert_eq!(of(&[5, 1, 2, 3, 4]).quartiles_ms, [2.0, 4.0]);
        assert!(of(&[]).median_ms.is_nan());
    }
}
