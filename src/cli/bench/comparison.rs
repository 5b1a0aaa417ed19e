//! Figures against those of an earlier run, as they are told.

use serde::Serialize;

use super::sample::Summary;
use crate::cli::output::{digits, table};

/// A change of the median below this share is none.
const LEAST_CHANGE: f64 = 0.05;

/// What became of each problem.
#[derive(Serialize)]
pub(super) struct Comparison {
    /// What the earlier run was measured on, where that is another device, driver or limits: no verdicts then.
    pub measured_on: Option<String>,
    pub rows: Vec<Row>,
}

/// A problem before and now.
#[derive(Serialize)]
pub(super) struct Row {
    pub problem: &'static str,
    pub old_ms: Option<f64>,
    pub new_ms: Option<f64>,
    pub verdict: Verdict,
}

/// How a problem's time changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Verdict {
    Faster,
    Slower,
    Same,
    /// The earlier run has no time of it, or this one has none.
    NotCompared,
    /// Measured on something else.
    AnotherDevice,
}

impl Verdict {
    /// Beyond the noise: the medians apart by more than [`LEAST_CHANGE`], and the middle halves of the runs apart.
    pub fn of(old: Summary, new: Summary) -> Self {
        let changed = new.median_ms / old.median_ms;
        let [old_first, old_third] = old.quartiles_ms;
        let [new_first, new_third] = new.quartiles_ms;
        if changed > 1.0 + LEAST_CHANGE && new_first > old_third {
            Self::Slower
        } else if changed < 1.0 / (1.0 + LEAST_CHANGE) && new_third < old_first {
            Self::Faster
        } else {
            Self::Same
        }
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
        assert_eq!(Verdict::of(runs(10.0, 0.1), runs(12.0, 0.1)), Verdict::Slower);
        assert_eq!(Verdict::of(runs(10.0, 0.1), runs(8.0, 0.1)), Verdict::Faster);
        assert_eq!(Verdict::of(runs(10.0, 0.1), runs(10.4, 0.1)), Verdict::Same);
        assert_eq!(Verdict::of(runs(10.0, 1.5), runs(12.0, 1.5)), Verdict::Same);
    }
}
