//! Figures against those of an earlier run.

use std::path::Path;

use serde::{Deserialize, Serialize};

use super::report::{Figures, Report};
use super::sample::Summary;
use crate::cli::common::CliError;
use crate::cli::output::{digits, read_text, table};

/// A change of the median below this share is none.
const LEAST_CHANGE: f64 = 0.05;

/// What an earlier run wrote, as far as it is compared.
#[derive(Deserialize)]
pub(super) struct Old {
    adapter: OldAdapter,
    floor: bool,
    results: Vec<OldFigures>,
}

#[derive(Deserialize)]
struct OldAdapter {
    name: String,
    backend: String,
    driver: String,
}

#[derive(Deserialize)]
struct OldFigures {
    problem: String,
    wall: Option<Summary>,
    cpu: Option<Summary>,
    #[serde(default)]
    device: Option<Summary>,
}

/// What became of each problem.
#[derive(Serialize)]
pub(super) struct Comparison {
    /// What the earlier run was measured on, where that is another device, driver or limits: no verdicts then.
    measured_on: Option<String>,
    rows: Vec<Row>,
}

#[derive(Serialize)]
struct Row {
    problem: &'static str,
    old_ms: Option<f64>,
    new_ms: Option<f64>,
    verdict: Verdict,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
enum Verdict {
    Faster,
    Slower,
    Same,
    /// The earlier run has no time of it, or this one has none.
    NotCompared,
    /// Measured on something else.
    AnotherDevice,
}

impl Old {
    /// Reads what `--output` or `--json` wrote.
    ///
    /// # Errors
    /// A request that is wrong: no such file, or no such report.
    pub fn read(path: &Path) -> Result<Self, CliError> {
        serde_json::from_str(&read_text(path)?).map_err(|error| {
            let message = format!("{}: no report of bench: {error}", path.display());
            CliError::Request(message)
        })
    }

    /// The fastest tiles of each problem of a report against the fastest here.
    pub fn compared(&self, report: &Report) -> Comparison {
        let describe = |name: &str, backend: &str, driver: &str, floor: bool| {
            let floor = if floor { ", WebGPU's default limits" } else { "" };
            format!("{name}, {backend}, {driver}{floor}")
        };
        let OldAdapter { name, backend, driver } = &self.adapter;
        let old = describe(name, backend, driver, self.floor);
        let adapter = &report.adapter;
        let new = describe(&adapter.name, &adapter.backend, &adapter.driver, report.floor);
        let measured_on = (old != new).then_some(old);
        let mut rows: Vec<Row> = Vec::new();
        for figures in &report.results {
            if rows.iter().all(|row| row.problem != figures.problem) {
                rows.push(self.row(figures, report.is_software(), measured_on.is_none()));
            }
        }
        Comparison { measured_on, rows }
    }

    fn row(&self, figures: &Figures, software: bool, same_device: bool) -> Row {
        let old = self.results.iter().find(|old| old.problem == figures.problem);
        let (old, new) = match old {
            None => (None, figures.time(software)),
            Some(old) if software => (old.cpu, figures.cpu),
            Some(old) if old.device.is_some() && figures.device.is_some() => {
                (old.device, figures.device)
            }
            Some(old) => (old.wall, figures.wall),
        };
        let verdict = match (old, new) {
            (Some(_), Some(_)) if !same_device => Verdict::AnotherDevice,
            (Some(old), Some(new)) => verdict(old, new),
            _ => Verdict::NotCompared,
        };
        let ms = |time: Option<Summary>| time.map(|time| time.median_ms);
        Row { problem: figures.problem, old_ms: ms(old), new_ms: ms(new), verdict }
    }
}

/// Beyond the noise: the medians apart by more than [`LEAST_CHANGE`], and the middle halves of the runs apart.
fn verdict(old: Summary, new: Summary) -> Verdict {
    let changed = new.median_ms / old.median_ms;
    let [old_first, old_third] = old.quartiles_ms;
    let [new_first, new_third] = new.quartiles_ms;
    if changed > 1.0 + LEAST_CHANGE && new_first > old_third {
        Verdict::Slower
    } else if changed < 1.0 / (1.0 + LEAST_CHANGE) && new_third < old_first {
        Verdict::Faster
    } else {
        Verdict::Same
    }
}

impl Comparison {
    /// How many problems became slower.
    pub fn slower(&self) -> usize {
        self.rows.iter().filter(|row| row.verdict == Verdict::Slower).count()
    }

    pub fn text(&self) -> String {
        let mut table = table(&["problem", "before, ms", "now, ms", "now / before", ""], 1);
        let number = |value: Option<f64>| value.map(digits).unwrap_or_default();
        for Row { problem, old_ms, new_ms, verdict } in &self.rows {
            let ratio = old_ms.zip(*new_ms).map(|(old, new)| format!("{:.2} x", new / old));
            let verdict = match verdict {
                Verdict::Faster => "faster",
                Verdict::Slower => "SLOWER",
                Verdict::Same => "same",
                Verdict::NotCompared => "not compared: no time of it on one side",
                Verdict::AnotherDevice => "no verdict",
            };
            let ratio = ratio.unwrap_or_default();
            table.add_row([*problem, &number(*old_ms), &number(*new_ms), &ratio, verdict]);
        }
        let note = match &self.measured_on {
            Some(other) => format!(
                "The earlier run was measured on something else, {other}: these ratios compare devices or drivers, not versions.\n"
            ),
            None => format!(
                "Faster or slower: the medians differ by more than {:.0} %, and the middle halves of the runs do not touch.\n",
                LEAST_CHANGE * 100.0
            ),
        };
        format!("{table}\n\n{note}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_beyond_the_noise_is_a_change() {
        let runs = |median_ms: f64, spread: f64| Summary {
            median_ms,
            least_ms: median_ms - 2.0 * spread,
            most_ms: median_ms + 2.0 * spread,
            quartiles_ms: [median_ms - spread, median_ms + spread],
        };
        assert_eq!(verdict(runs(10.0, 0.1), runs(12.0, 0.1)), Verdict::Slower);
        assert_eq!(verdict(runs(10.0, 0.1), runs(8.0, 0.1)), Verdict::Faster);
        assert_eq!(verdict(runs(10.0, 0.1), runs(10.4, 0.1)), Verdict::Same);
        assert_eq!(verdict(runs(10.0, 1.5), runs(12.0, 1.5)), Verdict::Same);
    }
}
