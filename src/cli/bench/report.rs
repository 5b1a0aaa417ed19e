//! The figures, as a table and as JSON.

use serde::Serialize;
use serde_json::Value;

use super::sample::Summary;
use crate::cli::common::device_line;
use crate::cli::measure::Ceilings;
use crate::cli::output::{digits, table};
use crate::engine::Engine;
use crate::gpu::device::AdapterDescription;
use crate::operator::Tiles;
use crate::problems::{Counted, NamedProblem, Work};
use crate::question::Question;
use crate::tune::TilesFrom;
use crate::verify::judge::JudgeReport;

/// All figures of a run, with what they were measured on.
#[derive(Serialize)]
pub(super) struct Report {
    adapter: AdapterDescription,
    /// Whether only WebGPU's default limits were used.
    floor: bool,
    ceilings: Ceilings,
    runs: u32,
    seed: u64,
    pub results: Vec<Figures>,
}

/// The figures of a problem with a tile set.
#[derive(Serialize)]
pub(super) struct Figures {
    problem: &'static str,
    origin: &'static str,
    dtype: String,
    tiles: Value,
    #[serde(skip)]
    label: String,
    tiles_from: TilesFrom,
    gflop: f64,
    counted: Counted,
    /// `None` where the output is wrong: such a call is not timed.
    #[serde(serialize_with = "checked_json")]
    pub checked: Option<JudgeReport>,
    pub wall: Option<Summary>,
    /// CPU time of all threads of this process.
    pub cpu: Option<Summary>,
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
            "share_of_budget": report.worst_share,
        })
    });
    fields.serialize(serializer)
}

impl Figures {
    pub fn new(
        named: &NamedProblem,
        question: &Question,
        (tiles, tiles_from): (&impl Tiles, TilesFrom),
        work: Work,
        checked: Option<JudgeReport>,
    ) -> Self {
        Self {
            problem: named.name,
            origin: named.origin,
            dtype: question.dtype().to_string(),
            tiles: serde_json::to_value(tiles).unwrap_or_default(),
            label: tiles.label(),
            tiles_from,
            gflop: work.flops / 1e9,
            counted: work.counted,
            checked,
            wall: None,
            cpu: None,
        }
    }

    fn row(&self, ceilings: &Ceilings) -> [String; 8] {
        let name = self.problem.to_owned();
        let from = match self.tiles_from {
            TilesFrom::Heuristic => "heuristic",
            TilesFrom::Stored => "stored",
            TilesFrom::Forced => "forced",
        };
        let tiles = format!("{} ({from})", self.label);
        let mark = if self.counted == Counted::AllPairs { " *" } else { "" };
        let gflop = format!("{}{mark}", digits(self.gflop));
        let (Some(wall), Some(cpu), Some(checked)) = (self.wall, self.cpu, &self.checked) else {
            let blank = String::new;
            let wrong = "WRONG".to_owned();
            return [name, tiles, wrong, gflop, blank(), blank(), blank(), blank()];
        };
        let gflops = self.gflop / wall.median_ms * 1e3;
        let share = match ceilings.by_cpu_time {
            Some(by_cpu) => self.gflop / cpu.median_ms * 1e3 / by_cpu.multiply_add_gflop_per_cpu_s,
            None => gflops / ceilings.multiply_add_gflops,
        };
        let spread = format!("{} to {}", digits(wall.least_ms), digits(wall.most_ms));
        [
            name,
            tiles,
            format!("{:.1e}", checked.max_error),
            gflop,
            format!("{} ({spread})", digits(wall.median_ms)),
            digits(cpu.median_ms),
            digits(gflops),
            format!("{:.0} %", share * 100.0),
        ]
    }
}

impl Report {
    pub fn new(engine: &Engine, ceilings: Ceilings, floor: bool) -> Self {
        let adapter = engine.adapter().clone();
        Self { adapter, floor, ceilings, runs: 0, seed: 0, results: Vec::new() }
    }

    /// Says how the figures were got.
    pub fn sampled(self, runs: u32, seed: u64) -> Self {
        Self { runs, seed, ..self }
    }

    /// How many results are wrong.
    pub fn wrong(&self) -> usize {
        self.results.iter().filter(|figures| figures.checked.is_none()).count()
    }

    pub fn text(&self) -> String {
        let headings =
            ["problem", "tiles", "max error", "GFLOP", "ms", "CPU ms", "GFLOP/s", "of ceiling"];
        let mut table = table(&headings, 2);
        for figures in &self.results {
            table.add_row(figures.row(&self.ceilings));
        }
        let floor = if self.floor { ", WebGPU's default limits" } else { "" };
        format!("{}{floor}\n\n{table}\n\n{}", device_line(&self.adapter), self.notes())
    }

    fn notes(&self) -> String {
        let Ceilings { multiply_add_gflops, by_cpu_time, .. } = self.ceilings;
        let runs = self.runs;
        let mut notes = format!(
            "Every output was held against the f64 reference before it was timed. ms: a call by the clock, median of {runs} runs\n\
             (least to most). CPU ms: a call's CPU time in all threads of this process. GFLOP: of the pairs that the mask keeps.\n"
        );
        notes += &match by_cpu_time {
            Some(by_cpu) => format!(
                "of ceiling: GFLOP a CPU-second against the {} of the device's own multiply-add loop. This adapter is software: it\n\
                 runs on processor cores that others use too, its CPU times count, and none of this says anything about GPUs.\n",
                digits(by_cpu.multiply_add_gflop_per_cpu_s)
            ),
            None => format!(
                "of ceiling: against the {} GFLOP/s of the device's own f32 multiply-add loop.\n",
                digits(multiply_add_gflops)
            ),
        };
        if self.results.iter().any(|figures| figures.counted == Counted::AllPairs) {
            notes += "* of all pairs: this mask is not counted cheaply.\n";
        }
        notes
    }
}
