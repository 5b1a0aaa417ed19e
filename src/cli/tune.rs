//! `tilewise tune`: which tiles this device likes best, measured and stored.

use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;
use indicatif::ProgressBar;
use serde::Serialize;
use serde_json::Value;

use super::common::{CliError, Common, device_line};
use super::output::{digits, print, print_json, progress_bar, read_text, table, write_text};
use super::spec::{asked, read_spec};
use crate::any::{AnyProblem, with_problem};
use crate::cache::CachePlace;
use crate::engine::Engine;
use crate::gpu::device::AdapterDescription;
use crate::operator::Operator;
use crate::problems::{find, usual_problems};
use crate::tune::{Progress, Store, Timing, Tuned, Tunings, Verdict};

#[derive(Args)]
pub(super) struct TuneArgs {
    /// Problems by name, or specs: JSON files, or JSON. All named problems but the suite `large` without one.
    #[arg(value_name = "PROBLEM|SPEC")]
    problems: Vec<String>,
    /// Tensors to take a spec's extents from; without them the spec must say all.
    #[arg(long, value_name = "SAFETENSORS")]
    input: Option<PathBuf>,
    /// Seconds for each problem.
    #[arg(long, default_value_t = 20.0, value_parser = seconds)]
    budget: f64,
    /// Write all stored tunings to a file, for an app to ship. Measures nothing where no problem is named.
    #[arg(long, value_name = "JSON")]
    export: Option<PathBuf>,
    /// Add the tunings of a file to the stored ones. Measures nothing where no problem is named.
    #[arg(long, value_name = "JSON")]
    import: Option<PathBuf>,
    /// JSON instead of tables.
    #[arg(long)]
    json: bool,
}

fn seconds(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(seconds) if (0.0..=86_400.0).contains(&seconds) => Ok(seconds),
        _ => Err("expected a number of seconds up to a day".to_owned()),
    }
}

pub(super) fn tune(common: &Common, args: &TuneArgs) -> Result<(), CliError> {
    if common.tiles.is_some() {
        return Err(CliError::Request(
            "--tiles does not apply: tune compares all tiles".to_owned(),
        ));
    }
    let store = Store::of(&CachePlace::User);
    if let Some(path) = &args.import {
        import(store.as_ref(), path)?;
    }
    let copies_only = args.import.is_some() || args.export.is_some();
    let tunings = if args.problems.is_empty() && copies_only {
        None
    } else {
        Some(measure(common, args)?.tunings())
    };
    match (&args.export, tunings) {
        (None, _) => Ok(()),
        (Some(path), tunings) => {
            let stored = || store.as_ref().map(Store::load).unwrap_or_default();
            let all = tunings.unwrap_or_else(stored);
            write_text(path, &all.to_json())?;
            eprintln!("{} tunings written to {}", all.len(), path.display());
            Ok(())
        }
    }
}

fn import(store: Option<&Store>, path: &Path) -> Result<(), CliError> {
    let tunings = Tunings::from_json(&read_text(path)?)
        .map_err(|error| CliError::Request(format!("{}: {error}", path.display())))?;
    let Some(store) = store else {
        let message = "there is no cache folder to import to (TILEWISE_CACHE is empty)";
        return Err(CliError::Request(message.to_owned()));
    };
    let count = tunings.len();
    store.add(tunings)?;
    eprintln!("{count} tunings added to {}", store.path().display());
    Ok(())
}

/// Measures what was named and prints the results.
fn measure(common: &Common, args: &TuneArgs) -> Result<Engine, CliError> {
    let engine = common.open()?;
    let names: Vec<&str> = match args.problems.is_empty() {
        true => usual_problems().map(|named| named.name).collect(),
        false => args.problems.iter().map(String::as_str).collect(),
    };
    // A wrong name is told before anything is measured.
    let named = names.iter().map(|name| Named::new(common, name, args.input.as_deref()));
    let named = named.collect::<Result<Vec<_>, _>>()?;
    let bar = progress_bar(named.len());
    let budget = Duration::from_secs_f64(args.budget);
    let tell = |text: &str| if args.json { Ok(()) } else { bar.suspend(|| print(text)) };
    tell(&format!("{}\n\n", device_line(engine.adapter())))?;
    let mut results = Vec::new();
    for named in &named {
        let outcome = named.tune(&engine, budget, &bar)?;
        tell(&outcome.text())?;
        results.push(outcome);
        bar.inc(1);
    }
    bar.finish_and_clear();
    let report = Report { adapter: engine.adapter().clone(), floor: common.floor, results };
    tell(&report.summary())?;
    if args.json {
        print_json(&report)?;
    }
    match report.wrong() {
        0 => Ok(engine),
        wrong => Err(CliError::Failed(format!("{wrong} candidates gave wrong results"))),
    }
}

/// What is to be measured.
struct Named {
    name: String,
    problem: AnyProblem,
}

impl Named {
    fn new(common: &Common, name: &str, input: Option<&Path>) -> Result<Self, CliError> {
        let is_spec = name.trim_start().starts_with('{') || name.ends_with(".json");
        if !is_spec {
            return Ok(Self { name: name.to_owned(), problem: find(name)?.problem()? });
        }
        let spec = read_spec(name)?;
        if spec.has_one_kernel() {
            let message = "this operator's kernels have one form: there is nothing to tune";
            return Err(CliError::Request(message.to_owned()));
        }
        Ok(Self { name: name.to_owned(), problem: asked(common, &spec, input)? })
    }

    fn tune(
        &self,
        engine: &Engine,
        budget: Duration,
        bar: &ProgressBar,
    ) -> Result<Outcome, CliError> {
        with_problem!(&self.problem, problem => self.race(engine, problem, budget, bar))
    }

    fn race<O: Operator>(
        &self,
        engine: &Engine,
        problem: &O,
        budget: Duration,
        bar: &ProgressBar,
    ) -> Result<Outcome, CliError> {
        let progress = |Progress { verified: [done, all], rounds: [round, rounds] }: Progress| {
            let doing = match done < all {
                true => format!("checking tiles {} of {all}", done + 1),
                false => format!("timing, round {} of {rounds}", round + 1),
            };
            bar.set_message(format!("{}: {doing}", self.name));
            bar.tick();
        };
        Ok(Outcome::new(&self.name, &engine.tune_watched(problem, budget, &progress)?))
    }
}

/// What tuning a problem gave.
#[derive(Serialize)]
struct Outcome {
    problem: String,
    /// The tiles that are stored.
    tiles: Value,
    /// How many times the fastest candidate's time the heuristic's choice takes.
    heuristic_ratio: Option<f64>,
    seconds: f64,
    /// The heuristic's choice first.
    candidates: Vec<Timing<Value>>,
}

impl Outcome {
    fn new<T: Serialize + PartialEq>(name: &str, tuned: &Tuned<T>) -> Self {
        let value = |tiles: &T| serde_json::to_value(tiles).unwrap_or_default();
        let candidate = |timing: &Timing<T>| Timing {
            tiles: value(&timing.tiles),
            verdict: timing.verdict.clone(),
        };
        Self {
            problem: name.to_owned(),
            tiles: value(&tuned.tiles),
            heuristic_ratio: tuned.heuristic_ratio(),
            seconds: tuned.took.as_secs_f64(),
            candidates: tuned.timings.iter().map(candidate).collect(),
        }
    }

    fn text(&self) -> String {
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
        let ratio = self.heuristic_ratio.map_or_else(
            || "too little was timed to choose".to_owned(),
            |ratio| format!("the heuristic's tiles take {ratio:.2} x the fastest's time"),
        );
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

#[derive(Serialize)]
struct Report {
    adapter: AdapterDescription,
    floor: bool,
    results: Vec<Outcome>,
}

impl Report {
    fn wrong(&self) -> usize {
        let all = self.results.iter().flat_map(|outcome| &outcome.candidates);
        all.filter(|timing| matches!(timing.verdict, Verdict::Wrong(_))).count()
    }

    fn summary(&self) -> String {
        let mut text = String::new();
        let ratios: Vec<f64> =
            self.results.iter().filter_map(|outcome| outcome.heuristic_ratio).collect();
        if !ratios.is_empty() {
            let mean =
                (ratios.iter().map(|ratio| ratio.ln()).sum::<f64>() / ratios.len() as f64).exp();
            let worst = ratios.iter().copied().fold(1.0, f64::max);
            text = format!(
                "heuristic's time / fastest's: geometric mean {mean:.3} over {} problems, at most {worst:.2}\n",
                ratios.len()
            );
        }
        text + "Each result was held against that of the heuristic's tiles before it was timed; ms: median of the runs,\n\
                slow ones left early. The chosen tiles are stored and used from now on.\n"
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
