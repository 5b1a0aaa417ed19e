//! `tilewise tune`: which tiles this device likes best, measured and stored.

mod report;

use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;
use indicatif::ProgressBar;

use self::report::{Outcome, Report};
use super::common::{CliError, Common, device_line};
use super::output::{print, print_json, progress_bar, read_text, tell, write_text};
use super::spec::{asked, read_spec};
use crate::any::{AnyProblem, with_problem};
use crate::cache::CachePlace;
use crate::engine::Engine;
use crate::operator::Operator;
use crate::problems::{find, usual_problems};
use crate::tune::{Progress, Store, Tunings};

#[derive(Args)]
pub(super) struct TuneArgs {
    /// Problems by name, or specs: JSON files, or JSON. All named problems but the suites `large` and `masks` without one.
    #[arg(value_name = "PROBLEM|SPEC")]
    problems: Vec<String>,
    /// Tensors to take a spec's extents from; without them the spec must say all.
    #[arg(long, value_name = "SAFETENSORS")]
    input: Option<PathBuf>,
    /// Seconds for each problem: nothing is started after them, and what was not measured is told.
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
    let measured =
        if args.problems.is_empty() && copies_only { None } else { Some(measure(common, args)?) };
    if let Some(path) = &args.export {
        let all = match &measured {
            Some((engine, _)) => engine.tunings(),
            None => store.as_ref().map(Store::load).unwrap_or_default(),
        };
        write_text(path, &all.to_json())?;
        tell(format_args!("{} tunings written to {}", all.len(), path.display()));
    }
    match measured.and_then(|(_, report)| report.failure(args.export.is_some())) {
        Some(message) => Err(CliError::Failed(message)),
        None => Ok(()),
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
    tell(format_args!("{count} tunings added to {}", store.path().display()));
    Ok(())
}

/// Measures what was named and prints the results.
fn measure(common: &Common, args: &TuneArgs) -> Result<(Engine, Report), CliError> {
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
    let show = |text: &str| if args.json { Ok(()) } else { bar.suspend(|| print(text)) };
    show(&format!("{}\n\n", device_line(engine.adapter())))?;
    let mut results = Vec::new();
    for named in &named {
        let outcome = named.tune(&engine, budget, &bar)?;
        show(&outcome.text())?;
        results.push(outcome);
        bar.inc(1);
    }
    bar.finish_and_clear();
    let report = Report { adapter: engine.adapter().clone(), floor: common.floor, results };
    show(&report.summary())?;
    if args.json {
        print_json(&report)?;
    }
    Ok((engine, report))
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
