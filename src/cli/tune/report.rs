//! What tuning gave, as tables and JSON, and what of it makes the command fail.

use serde::Serialize;
use serde_json::Value;

use crate::cli::output::{digits, table};
use crate::gpu::device::AdapterDescription;
use crate::tune::{Stored, Timing, Tuned, Verdict};

/// What tuning a problem gave.
#[derive(Serialize)]
pub(super) struct Outcome {
    problem: String,
    /// The tiles that were chosen.
    tiles: Value,
    stored: Stored,
    /// Tile sets that the budget did not reach.
    untried: usize,
    /// How many times the fastest candidate's time the heuristic's choice takes.
    heuristic_ratio: Option<f64>,
    seconds: f64,
    /// The heuristic's choice first.
    candidates: Vec<Timing<Value>>,
}

impl Outcome {
    pub fn new<T: Serialize + PartialEq>(name: &str, tuned: &Tuned<T>) -> Self {
        let value = |tiles: &T| serde_json::to_value(tiles).unwrap_or_default();
        let candidate = |timing: &Timing<T>| Timing {
            tiles: value(&timing.tiles),
            verdict: timing.verdict.clone(),
        };
        Self {
            problem: name.to_owned(),
            tiles: value(&tuned.tiles),
            stored: tuned.stored.clone(),
            untried: tuned.untried(),
            heuristic_ratio: tuned.heuristic_ratio(),
            seconds: tuned.took.as_secs_f64(),
            candidates: tuned.timings.iter().map(candidate).collect(),
        }
    }

    pub fn text(&self) -> String {
        let mut rows = table(&["tiles", "", "ms", "runs", "of the fastest"], 2);
        let ms = |timing: &Timing<Value>| match timing.verdict {
            Verdict::Timed { ms, .. } => ms,
            _ => f64::INFINITY,
        };
        let best = self.candidates.iter().map(ms).fold(f64::INFINITY, f64::min);
        let mut order: Vec<usize> = (0..self.candidates.len()).collect();
        order.sort_by(|&a, &b| ms(&self.candidates[a]).total_cmp(&ms(&self.candidates[b])));
        for index in order {
            let timing = &self.candidates[index];
            let marks = [(index == 0, "heuristic"), (timing.tiles == self.tiles, "chosen")];
            let marks: Vec<&str> =
                marks.into_iter().filter(|(holds, _)| *holds).map(|(_, mark)| mark).collect();
            let [first, second, third] = match &timing.verdict {
                Verdict::Timed { ms, runs } => {
                    [digits(*ms), runs.to_string(), format!("{:.2} x", ms / best)]
                }
                Verdict::Wrong(message) => {
                    [format!("WRONG: {message}"), String::new(), String::new()]
                }
                Verdict::Failed(message) => [message.clone(), String::new(), String::new()],
                Verdict::Untried => ["not tried".to_owned(), String::new(), String::new()],
            };
            rows.add_row([short(&timing.tiles), marks.join(", "), first, second, third]);
        }
        let all = self.candidates.len();
        let mut ratio = match self.heuristic_ratio {
            Some(ratio) => format!("the heuristic's tiles take {ratio:.2} x the fastest's time"),
            None if all == 1 => "there is one tile set, nothing to choose".to_owned(),
            None if self.untried > 0 => "too little was timed to choose".to_owned(),
            None => "no other tile set is right and runs".to_owned(),
        };
        if self.untried > 0 {
            ratio += &format!("; the budget ended before {} of {all} tile sets", self.untried);
        }
        format!("{} ({:.1} s): {ratio}\n\n{rows}\n\n", self.problem, self.seconds)
    }
}

/// Tiles in a line: the family first, then numbers with their names, then what is on.
fn short(tiles: &Value) -> String {
    match tiles {
        Value::Object(fields) => {
            let part = |(name, value): (&String, &Value)| match value {
                Value::Bool(false) | Value::Null => None,
                Value::Bool(true) => Some((2, name.clone())),
                Value::String(word) => Some((0, word.clone())),
                Value::Object(_) => Some((0, short(value))),
                _ => Some((1, format!("{name} {value}"))),
            };
            let mut parts: Vec<(u8, String)> = fields.iter().filter_map(part).collect();
            parts.sort_by_key(|(rank, _)| *rank);
            parts.into_iter().map(|(_, part)| part).collect::<Vec<_>>().join(" ")
        }
        other => other.to_string(),
    }
}

/// What tuning all problems gave.
#[derive(Serialize)]
pub(super) struct Report {
    pub adapter: AdapterDescription,
    pub floor: bool,
    pub results: Vec<Outcome>,
}

impl Report {
    /// What makes the command fail: a wrong result, or a problem whose tiles are not kept although they were to be.
    /// `exported` where a file has them all, whatever the engine's place is.
    pub fn failure(&self, exported: bool) -> Option<String> {
        let all = self.results.iter().flat_map(|outcome| &outcome.candidates);
        let wrong = all.filter(|timing| matches!(timing.verdict, Verdict::Wrong(_))).count();
        if wrong > 0 {
            return Some(format!("{wrong} candidates gave wrong results"));
        }
        let why = |outcome: &Outcome| {
            Some(match &outcome.stored {
                Stored::NotWritten { path, message } => {
                    format!("not stored, {}: {message}", path.display())
                }
                Stored::InMemory if !exported => {
                    "not stored, there is no cache folder (TILEWISE_CACHE is empty)".to_owned()
                }
                Stored::Nowhere if outcome.untried > 0 => {
                    "not measured within --budget, nothing is stored".to_owned()
                }
                _ => return None,
            })
        };
        let failures = self.results.iter().filter_map(|outcome| {
            why(outcome).map(|message| format!("{}: {message}", outcome.problem))
        });
        let failures: Vec<String> = failures.collect();
        (!failures.is_empty()).then(|| failures.join("\n       "))
    }

    pub fn summary(&self) -> String {
        let mut text = String::new();
        let ratios: Vec<f64> =
            self.results.iter().filter_map(|outcome| outcome.heuristic_ratio).collect();
        if !ratios.is_empty() {
            let mean =
                (ratios.iter().map(|ratio| ratio.ln()).sum::<f64>() / ratios.len() as f64).exp();
            let worst = ratios.iter().copied().fold(1.0, f64::max);
            text = format!(
                "heuristic's time / fastest's: geometric mean {mean:.3} over {} problems, at most {worst:.2}\n\
                 Each result was held against that of the heuristic's tiles before it was timed; ms: median of the runs,\n\
                 slow ones left early.\n",
                ratios.len()
            );
        }
        let mut files = self.results.iter().filter_map(|outcome| match &outcome.stored {
            Stored::InFile(path) => Some(path),
            _ => None,
        });
        let (count, all) = (files.clone().count(), self.results.len());
        match files.next_back() {
            Some(path) => {
                let path = path.display();
                text += &format!(
                    "The chosen tiles of {count} of {all} problems are stored in {path}, and used from now on.\n"
                );
            }
            None => text += "Nothing is stored.\n",
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn tiles_are_told_in_a_line() {
        let tiles = json!({"family": "stream", "rows": 2, "hold_q": false, "subgroup": true});
        assert_eq!(short(&tiles), "stream rows 2 subgroup");
        let tiles = json!({"fused": {"family": "stream", "rows": 2}, "key_box": [1, 8]});
        assert_eq!(short(&tiles), "stream rows 2 key_box [1,8]");
    }
}
