//! An earlier run, and how this one's figures compare with it.

use std::path::Path;

use serde::Deserialize;

use super::comparison::{Comparison, Row, Verdict};
use super::report::{Figures, Report};
use super::sample::Summary;
use crate::cli::common::CliError;
use crate::cli::output::read_text;

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
            (Some(old), Some(new)) => Verdict::of(old, new),
            _ => Verdict::NotCompared,
        };
        let ms = |time: Option<Summary>| time.map(|time| time.median_ms);
        Row { problem: figures.problem, old_ms: ms(old), new_ms: ms(new), verdict }
    }
}
