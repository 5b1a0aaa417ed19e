//! The figures as a page, complete in itself: charts, and the table.

use std::fmt::Write as _;

use super::chart::{Chart, Point, Scale, Series, Style, escaped};
use super::report::{Figures, Report};
use super::table;
use crate::cli::common::device_line;
use crate::cli::output::digits;
use crate::problems::{Along, SUITES, Suite};

/// The whole page.
pub(super) fn page(report: &Report) -> String {
    let mut html = format!(
        "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width\">\n<title>tilewise bench</title>\n\
         <style>\n{STYLE}</style>\n</head>\n<body>\n<h1>tilewise bench</h1>\n<p>{}{}. tilewise {}.</p>\n",
        escaped(&device_line(&report.adapter)),
        if report.floor { ", WebGPU's default limits" } else { "" },
        crate::cache::VERSION,
    );
    for (along, title) in
        [(Along::Length, "Speed against length"), (Along::Window, "Speed against window")]
    {
        html += &growing(report, along, title).unwrap_or_default();
    }
    html += &roofline(report);
    html += &figures_table(report);
    if let Some(comparison) = &report.comparison {
        let _ = writeln!(
            html,
            "<h2>Against an earlier run</h2>\n<pre>{}</pre>",
            escaped(&comparison.text())
        );
    }
    html + "</body>\n</html>\n"
}

/// A chart of the suites along which something grows, if any has two points.
fn growing(report: &Report, along: Along, title: &str) -> Option<String> {
    let value = |figures: &Figures| match along {
        Along::Length => figures.length,
        Along::Window => figures.window,
    };
    let of_suite = |suite: &Suite| -> Vec<Point> {
        let fastest = |name: &&str| report.results.iter().find(|f| f.problem == *name);
        let point = |figures: &Figures| {
            let y = figures.gflops(report.is_software())?;
            Some(Point { x: value(figures)?, y, word: digits(y), title: title_of(report, figures) })
        };
        suite.problems.iter().filter_map(fastest).filter_map(point).collect()
    };
    let suites = SUITES.iter().filter(|suite| suite.along == Some(along));
    let series: Vec<Series> = suites
        .map(|suite| (suite, of_suite(suite)))
        .filter(|(_, points)| points.len() > 1)
        .enumerate()
        .map(|(index, (suite, points))| {
            let name = format!("{}: {}", suite.name, suite.about);
            Series { name, points, style: Style::Line(index) }
        })
        .collect();
    if series.is_empty() {
        return None;
    }
    let points = || series.iter().flat_map(|series| &series.points);
    let label = match along {
        Along::Length => "keys",
        Along::Window => "window on each axis, keys",
    };
    let x = Scale::logarithmic(label, 2.0, points().map(|point| point.x));
    let y = Scale::linear(&rate_unit(report), points().map(|point| point.y));
    Some(section(title, &Chart { x, y, series }))
}

/// Arithmetic intensity against speed, under the device's ceilings.
fn roofline(report: &Report) -> String {
    let [most_flops, most_bytes] = report.most();
    let mut series = by_operator(report);
    let points = || series.iter().flat_map(|series| &series.points);
    let ridge = most_flops / most_bytes;
    let x = Scale::logarithmic(
        "arithmetic intensity, FLOP a byte",
        10.0,
        points().map(|p| p.x).chain([ridge]),
    );
    let y = Scale::logarithmic(&rate_unit(report), 10.0, points().map(|p| p.y).chain([most_flops]));
    let [low, high] = x.range();
    let limit = |x: f64| {
        let y = (x * most_bytes).min(most_flops);
        Point { x, y, word: String::new(), title: String::new() }
    };
    // The slope is cut where it enters the chart.
    let enters = low.max(y.range()[0] / most_bytes);
    let limits = [enters, ridge.clamp(low, high), high].map(limit).to_vec();
    let second = if report.is_software() { "CPU-second" } else { "second" };
    let name = format!(
        "the device's own: {} GFLOP and {} GB a {second}",
        digits(most_flops),
        digits(most_bytes)
    );
    series.insert(0, Series { name, points: limits, style: Style::Limit });
    section("Roofline (numbers are the table's rows)", &Chart { x, y, series })
}

/// The table's rows as points of the roofline, those of an operator together.
fn by_operator(report: &Report) -> Vec<Series> {
    let mut all: Vec<Series> = Vec::new();
    for (index, figures) in report.results.iter().enumerate() {
        let Some(y) = figures.gflops(report.is_software()) else { continue };
        let x = figures.gflop * 1e9 / figures.bytes.max(1.0);
        let title = title_of(report, figures);
        let point = Point { x, y, word: (index + 1).to_string(), title };
        match all.iter_mut().find(|series| series.name == figures.operator) {
            Some(known) => known.points.push(point),
            None => {
                let (name, style) = (figures.operator.to_owned(), Style::Points(all.len()));
                all.push(Series { name, points: vec![point], style });
            }
        }
    }
    all
}

fn rate_unit(report: &Report) -> String {
    let unit = if report.is_software() { "GFLOP a CPU-second" } else { "GFLOP/s" };
    unit.to_owned()
}

fn title_of(report: &Report, figures: &Figures) -> String {
    let rate = figures.gflops(report.is_software()).map(digits).unwrap_or_default();
    format!(
        "{}: {rate} {}\n{}\n{}",
        figures.problem,
        rate_unit(report),
        figures.origin,
        figures.label
    )
}

/// A chart with its heading and its legend.
fn section(title: &str, chart: &Chart) -> String {
    let mut html = format!("<section>\n<h2>{}</h2>\n<ul class=\"legend\">\n", escaped(title));
    for series in &chart.series {
        let class = series.style.class();
        let _ = writeln!(
            html,
            "<li><span class=\"mark {class}\"></span>{}</li>",
            escaped(&series.name)
        );
    }
    html + "</ul>\n" + &chart.svg(title) + "</section>\n"
}

fn figures_table(report: &Report) -> String {
    let mut html = "<h2>Figures</h2>\n<div class=\"wide\">\n<table>\n<tr><th></th>".to_owned();
    for heading in table::HEADINGS {
        let _ = write!(html, "<th>{}</th>", escaped(heading));
    }
    html += "</tr>\n";
    for (index, figures) in report.results.iter().enumerate() {
        let _ = write!(html, "<tr title=\"{}\"><td>{}</td>", escaped(figures.origin), index + 1);
        for cell in table::row(report, figures) {
            let _ = write!(html, "<td>{}</td>", escaped(&cell));
        }
        html += "</tr>\n";
    }
    format!("{html}</table>\n</div>\n<p>{}</p>\n", escaped(&table::notes(report)))
}

const STYLE: &str = include_str!("page.css");
