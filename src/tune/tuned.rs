//! What tuning a problem gave.

use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// When tiles are measured, and whether measured ones are used. Tiles that the caller names always win.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum TunePolicy {
    /// The heuristic's tiles, always.
    Off,
    /// Tiles that were measured before or imported, else the heuristic's. Nothing is measured unasked.
    #[default]
    Stored,
    /// The same; problems for which nothing is stored get the heuristic's tiles at once and are remembered, until the
    /// app measures them by [`Engine::tune_asked`](crate::Engine::tune_asked).
    Measure {
        /// Milliseconds for each problem.
        budget_ms: u32,
    },
}

/// What became of a candidate.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
#[non_exhaustive]
pub enum Verdict {
    /// It is right, and was timed.
    Timed {
        /// Milliseconds of a call, the median of the runs. By the processor's time on a software adapter, by the
        /// device's own clock where it has timestamps, else by the clock on the wall.
        ms: f64,
        /// How many runs; one that is slow is not run often.
        runs: u32,
    },
    /// Its result is not that of the heuristic's tiles: it is never used.
    Wrong(String),
    /// It did not run.
    Failed(String),
    /// The budget ended before it.
    Untried,
}

/// A candidate and what became of it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Timing<T> {
    /// The tiles.
    pub tiles: T,
    /// What became of them.
    pub verdict: Verdict,
}

/// What tuning a problem gave.
#[derive(Clone, Debug, PartialEq)]
pub struct Tuned<T> {
    /// The fastest tiles; the heuristic's where those are as fast, or where too little was measured to tell.
    pub tiles: T,
    /// Every candidate, the heuristic's choice first.
    pub timings: Vec<Timing<T>>,
    /// How long it took.
    pub took: Duration,
    /// Where the tiles are kept for later calls.
    pub stored: Stored,
}

/// Where tiles that were measured are kept.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Stored {
    /// Nowhere: too little was timed to choose, or there is nothing to choose from.
    Nowhere,
    /// In memory, as long as the engine lives, which has no place for files.
    InMemory,
    /// In this file.
    InFile(PathBuf),
    /// In memory alone: the file could not be written.
    NotWritten {
        /// The file.
        path: PathBuf,
        /// What the system says.
        message: String,
    },
}

impl<T: PartialEq> Tuned<T> {
    /// Milliseconds of a call with these tiles, if they were timed.
    pub fn ms(&self, tiles: &T) -> Option<f64> {
        let timing = self.timings.iter().find(|timing| timing.tiles == *tiles)?;
        match timing.verdict {
            Verdict::Timed { ms, .. } => Some(ms),
            _ => None,
        }
    }

    /// How many candidates the budget did not reach.
    pub fn untried(&self) -> usize {
        self.timings.iter().filter(|timing| timing.verdict == Verdict::Untried).count()
    }

    /// How many times the fastest candidate's time the heuristic's choice takes; `None` where less than two candidates
    /// were timed.
    pub fn heuristic_ratio(&self) -> Option<f64> {
        let timed = self.timings.iter().filter_map(|timing| self.ms(&timing.tiles));
        let (count, best) =
            timed.fold((0, f64::INFINITY), |(count, best), ms| (count + 1, best.min(ms)));
        let heuristic = self.ms(&self.timings.first()?.tiles)?;
        (count > 1).then(|| heuristic / best)
    }
}
