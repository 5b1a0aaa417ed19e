//! The figures as a table.

use comfy_table::Table;

use super::report::{Figures, Report};
use crate::cli::common::device_line;
use crate::cli::output::{bytes, digits, table};
use crate::problems::Counted;
use crate::tune::TilesFrom;

/// The report for people.
pub(super) fn text(report: &Report) -> String {
    let mut table = table(&HEADINGS, 2);
    for figures in &report.results {
        table.add_row(row(report, figures));
    }
    let floor = if report.floor { ", WebGPU's default limits" } else { "" };
    let mut text =
        format!("{}{floor}\n\n{table}\n\n{}", device_line(&report.adapter), notes(report));
    if report.results.iter().any(|figures| !figures.steps.is_empty()) {
        text += &format!("\n{}\n\n{STEPS_NOTE}\n", steps(report));
    }
    if let Some(comparison) = &report.comparison {
        text += &format!("\n{}", comparison.text());
    }
    text
}

pub(super) const HEADINGS: [&str; 11] = [
    "problem",
    "tiles",
    "max error",
    "GFLOP",
    "ms",
    "CPU ms",
    "GFLOP/s",
    "of most",
    "GB/s",
    "of most",
    "scratch",
];

const STEPS_NOTE: &str =
    "A step's ms: by the device's own clock, alone: nothing of one step overlaps the next.";

/// The steps of each call.
fn steps(report: &Report) -> Table {
    let mut table = table(&["problem", "step", "workgroups", "ms", "share"], 3);
    for figures in &report.results {
        let all: f64 = figures.steps.iter().map(|step| step.ms.median_ms).sum();
        for (index, step) in figures.steps.iter().enumerate() {
            let problem = if index == 0 { figures.problem } else { "" };
            let share = format!("{:.0} %", step.ms.median_ms / all * 100.0);
            let ms = digits(step.ms.median_ms);
            table.add_row([problem, step.kernel, &step.workgroups, &ms, &share]);
        }
    }
    table
}

/// A row of the table; of a wrong result without times.
pub(super) fn row(report: &Report, figures: &Figures) -> [String; 11] {
    let software = report.is_software();
    let from = match figures.tiles_from {
        TilesFrom::Heuristic => "heuristic",
        TilesFrom::Stored => "stored",
        TilesFrom::Forced => "forced",
    };
    let mark = if figures.counted == Counted::AllPairs { " *" } else { "" };
    let blank = String::new;
    let mut row: [String; 11] = std::array::from_fn(|_| blank());
    row[0] = figures.problem.to_owned();
    row[1] = format!("{} ({from})", figures.label);
    row[3] = format!("{}{mark}", digits(figures.gflop));
    row[10] = bytes(figures.scratch_bytes);
    let (Some(wall), Some(cpu), Some(checked)) = (figures.wall, figures.cpu, &figures.checked)
    else {
        row[2] = "WRONG".to_owned();
        return row;
    };
    row[2] = format!("{:.1e}", checked.max_error);
    let clock = figures.device.unwrap_or(wall);
    let [first, third] = clock.quartiles_ms.map(digits);
    row[4] = format!("{} ({first} to {third})", digits(clock.median_ms));
    row[5] = digits(cpu.median_ms);
    let rates = [figures.gflops(software), figures.gb_per_s(software)];
    for ((rate, most), column) in rates.into_iter().zip(report.most()).zip([6, 8]) {
        let rate = rate.unwrap_or(f64::NAN);
        row[column] = digits(rate);
        row[column + 1] = format!("{:.0} %", rate / most * 100.0);
    }
    row
}

/// How the figures are to be read.
pub(super) fn notes(report: &Report) -> String {
    let [flops, copy] = report.most().map(digits);
    let by_device = report.results.iter().any(|figures| figures.device.is_some());
    let clock = if by_device { "the device's own clock" } else { "the clock" };
    let mut notes = format!(
        "Every output was held against the f64 reference before it was timed. ms: a call by {}, median of {} runs (first\n\
         to third quartile). CPU ms: a call's CPU time in all threads of this process. GFLOP: of the pairs that the mask keeps.\n\
         GB: every tensor once, of experts' weights those that some token needs. ",
        clock, report.runs
    );
    notes += &if report.is_software() {
        format!(
            "Seconds are of CPU time here: this adapter is software on\n\
             processor cores that others use too, and none of this says anything about GPUs. Most: {flops} GFLOP and {copy} GB a\n\
             CPU-second, of the device's own multiply-add loop and copy.\n"
        )
    } else {
        format!(
            "Most: {flops} GFLOP/s and {copy} GB/s, of the device's own\nmultiply-add loop and copy.\n"
        )
    };
    if report.results.iter().any(|figures| figures.counted == Counted::AllPairs) {
        notes += "* of all pairs: this mask is not counted cheaply.\n";
    }
    notes
}
