//! The figures, as JSON has them.

use serde::Serialize;
use serde_json::Value;

use super::comparison::Comparison;
use super::sample::{StepFigures, Summary};
use crate::any::AnyProblem;
use crate::cli::common::CliError;
use crate::cli::measure::Ceilings;
use crate::gpu::device::AdapterDescription;
use crate::operator::Tiles;
use crate::problems::{Along, Counted, NamedProblem, Work};
use crate::tune::TilesFrom;
use crate::verify::judge::JudgeReport;

/// All figures of a run, with what they were measured on.
#[derive(Serialize)]
pub(super) struct Report {
    pub adapter: AdapterDescription,
    /// Whether only WebGPU's default limits were used.
    pub floor: bool,
    pub ceilings: Ceilings,
    pub runs: u64,
    pub seed: u64,
    pub results: Vec<Figures>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub comparison: Option<Comparison>,
}

/// The figures of a problem with a tile set.
#[derive(Serialize)]
pub(super) struct Figures {
    pub problem: &'static str,
    pub origin: &'static str,
    pub operator: &'static str,
    dtype: String,
    tiles: Value,
    #[serde(skip)]
    pub label: String,
    pub tiles_from: TilesFrom,
    pub gflop: f64,
    pub counted: Counted,
    /// Bytes that a call moves at least.
    pub bytes: f64,
    pub scratch_bytes: u64,
    /// Keys, tokens or rows.
    pub length: Option<f64>,
    /// Keys that a query sees on each axis.
    pub window: Option<f64>,
    /// `None` where the output is wrong: such a call is not timed.
    #[serde(serialize_with = "checked_json")]
    pub checked: Option<JudgeReport>,
    pub wall: Option<Summary>,
    /// CPU time of all threads of this process.
    pub cpu: Option<Summary>,
    /// By the device's own clock, where it has one and is no software.
    pub device: Option<Summary>,
    /// Where they were asked for.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub steps: Vec<StepFigures>,
}

fn checked_json<S: serde::Serializer>(
    checked: &Option<JudgeReport>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    let fields = checked.as_ref().map(|report| {
        serde_json::json!({
            "elements": report.count,
            "max_error": report.max_error,
            "plain_error": report.plain_error,
            "share_of_tolerance": report.worst_share,
        })
    });
    fields.serialize(serializer)
}

impl Figures {
    pub fn new(
        named: &NamedProblem,
        problem: &AnyProblem,
        (tiles, tiles_from): (&impl Tiles, TilesFrom),
        work: Work,
    ) -> Self {
        Self {
            problem: named.name,
            origin: named.origin,
            operator: problem.operator(),
            dtype: problem.dtype().to_string(),
            tiles: serde_json::to_value(tiles).unwrap_or_default(),
            label: tiles.label(),
            tiles_from,
            gflop: work.flops / 1e9,
            counted: work.counted,
            bytes: work.bytes,
            scratch_bytes: 0,
            length: Along::Length.of(problem),
            window: Along::Window.of(problem),
            checked: None,
            wall: None,
            cpu: None,
            device: None,
            steps: Vec::new(),
        }
    }

    /// The time that counts: of a software adapter the CPU's, since its cores are shared; else the device's own.
    pub fn time(&self, software: bool) -> Option<Summary> {
        if software { self.cpu } else { self.device.or(self.wall) }
    }

    /// GFLOP a second of the time that counts.
    pub fn gflops(&self, software: bool) -> Option<f64> {
        self.time(software).map(|time| self.gflop / time.median_ms * 1e3)
    }

    /// GB a second of the time that counts.
    pub fn gb_per_s(&self, software: bool) -> Option<f64> {
        self.time(software).map(|time| self.bytes / time.median_ms / 1e6)
    }
}

impl Report {
    pub fn new(
        adapter: &AdapterDescription,
        ceilings: Ceilings,
        floor: bool,
        [runs, seed]: [u64; 2],
    ) -> Self {
        let adapter = adapter.clone();
        Self { adapter, floor, ceilings, runs, seed, results: Vec::new(), comparison: None }
    }

    pub fn is_software(&self) -> bool {
        self.adapter.is_software()
    }

    /// GFLOP/s and GB/s that the device does at most, by the time that counts.
    pub fn most(&self) -> [f64; 2] {
        match self.ceilings.by_cpu_time {
            Some(by_cpu) => [by_cpu.multiply_add_gflop_per_cpu_s, by_cpu.copy_gb_per_cpu_s],
            None => [self.ceilings.multiply_add_gflops, self.ceilings.copy_gb_per_s],
        }
    }

    /// # Errors
    /// Where results are wrong, or slower than what they were compared with.
    pub fn verdict(&self) -> Result<(), CliError> {
        let wrong = self.results.iter().filter(|figures| figures.checked.is_none()).count();
        let slower = self.comparison.as_ref().map_or(0, Comparison::slower);
        match (wrong, slower) {
            (0, 0) => Ok(()),
            (0, slower) => Err(CliError::Failed(format!("{slower} problems became slower"))),
            (wrong, _) => {
                Err(CliError::Failed(format!("{wrong} results are wrong and were not timed")))
            }
        }
    }
}
