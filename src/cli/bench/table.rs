//! The figures as a table.

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
    let [first, third] = wall.quartiles_ms.map(digits);
    row[4] = format!("{} ({first} to {third})", digits(wall.median_ms));
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
    let mut notes = format!(
        "Every output was held against the f64 reference before it was timed. ms: a call by the clock, median of {} runs (first\n\
         to third quartile). CPU ms: a call's CPU time in all threads of this process. GFLOP: of the pairs that the mask keeps.\n\
         GB: every tensor once, of experts' weights those that some token needs. ",
        report.runs
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
