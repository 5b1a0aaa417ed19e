//! Text and tables on stdout, progress on stderr, files of text, numbers for people.

use std::io::{ErrorKind, Write};
use std::path::Path;

use comfy_table::{CellAlignment, ContentArrangement, LineStyle, Table, TableStyle};
use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;

use super::common::CliError;
use crate::cache::write_output;

/// Writes to stdout. A reader that went away (`| head`) ends the program without a word.
pub(super) fn print(text: &str) -> Result<(), CliError> {
    // Tables fill their last column with spaces.
    let lines: String = text.lines().flat_map(|line| [line.trim_end(), "\n"]).collect();
    let mut stdout = std::io::stdout().lock();
    match stdout.write_all(lines.as_bytes()).and_then(|()| stdout.flush()) {
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Err(CliError::NoReader),
        result => result.map_err(|error| CliError::Failed(format!("stdout: {error}"))),
    }
}

/// Writes a line to stderr, if it is there.
pub(super) fn tell(line: impl std::fmt::Display) {
    // There is no other place to tell that stderr is closed.
    writeln!(std::io::stderr(), "{line}").ok();
}

/// Writes JSON to stdout.
pub(super) fn print_json(value: &impl Serialize) -> Result<(), CliError> {
    let text = serde_json::to_string_pretty(value)
        .map_err(|error| CliError::Failed(format!("as JSON: {error}")))?;
    print(&text)
}

/// A bar over so many steps, on stderr.
pub(super) fn progress_bar(steps: usize) -> ProgressBar {
    let bar = ProgressBar::new(steps as u64);
    if let Ok(style) = ProgressStyle::with_template("{bar:20} {pos}/{len} {elapsed} {msg}") {
        bar.set_style(style);
    }
    bar
}

/// The text of a file that a request names.
pub(super) fn read_text(path: &Path) -> Result<String, CliError> {
    std::fs::read_to_string(path)
        .map_err(|error| CliError::Request(format!("{}: {error}", path.display())))
}

/// Writes a file that a request names.
pub(super) fn write_text(path: &Path, text: &str) -> Result<(), CliError> {
    write_file(path, text.as_bytes())
}

/// Writes a file that a request names, of bytes.
pub(super) fn write_file(path: &Path, bytes: &[u8]) -> Result<(), CliError> {
    write_output(path, bytes)
        .map_err(|error| CliError::Failed(format!("{}: {error}", path.display())))
}

/// A rule below the headings, no other line.
const STYLE: TableStyle = TableStyle::new()
    .header_separator(LineStyle::new('\u{2500}', '\u{2500}', '\u{2500}', '\u{2500}'));

/// A table with these headings; the columns from `numbers` on stand right.
pub(super) fn table(headings: &[&str], numbers: usize) -> Table {
    let mut table = Table::new();
    table.load_style(STYLE);
    table.set_content_arrangement(ContentArrangement::Disabled).set_header(headings);
    for column in table.column_iter_mut().skip(numbers) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    table
}

/// Bytes in the largest binary unit that leaves a number of at least 1.
pub(super) fn bytes(count: u64) -> String {
    let units = ["B", "KiB", "MiB", "GiB", "TiB"];
    let mut value = count as f64;
    let mut unit = 0;
    while value >= 1024.0 && unit + 1 < units.len() {
        value /= 1024.0;
        unit += 1;
    }
    if value.fract() == 0.0 {
        format!("{value} {}", units[unit])
    } else {
        format!("{} {}", digits(value), units[unit])
    }
}

/// Three digits that count.
pub(super) fn digits(value: f64) -> String {
    match value.abs() {
        size if !(1e-4..1e7).contains(&size) && size != 0.0 => format!("{value:.2e}"),
        size if size >= 100.0 || size == 0.0 => format!("{value:.0}"),
        size => {
            let decimals = (2 - size.log10().floor() as i32).max(0) as usize;
            format!("{value:.decimals$}")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_three_digits_and_bytes_a_unit() {
        let cases = [(0.0, "0"), (1234.4, "1234"), (99.94, "99.9"), (0.01234, "0.0123")];
        for (value, text) in cases {
            assert_eq!(digits(value), text);
        }
        assert_eq!(bytes(16 << 10), "16 KiB");
        assert_eq!(bytes(1_500), "1.46 KiB");
        assert_eq!(bytes(0), "0 B");
    }
}
