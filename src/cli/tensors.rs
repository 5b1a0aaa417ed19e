//! `tilewise tensors`: the tensors of every operator, as tables.
//!
//! Nothing is said twice. `groups` holds specs, and tensors beside which operators take them; the rest is what operators
//! answer to those: which element types they take in a place, whether they do without a tensor, and what they write.

mod groups;
mod row;

use clap::Args;
use serde::Serialize;

use self::groups::{GROUPS, OperatorGroups};
use self::row::{Row, rows_of};
use super::common::CliError;
use super::output::{print, print_json, table};

#[derive(Args)]
pub(super) struct TensorsArgs {
    /// An operator, as a spec's `op` names it; all of them without one.
    #[arg(value_name = "OP")]
    op: Option<String>,
    /// JSON instead of tables.
    #[arg(long)]
    json: bool,
    /// Markdown instead of tables.
    #[arg(long, conflicts_with = "json")]
    markdown: bool,
}

/// The tensors of an operator.
#[derive(Serialize)]
struct Index {
    op: &'static str,
    tensors: Vec<Row>,
}

pub(super) fn tensors(args: &TensorsArgs) -> Result<(), CliError> {
    let asked = |operator: &&OperatorGroups| args.op.as_ref().is_none_or(|op| op == operator.op);
    let index = |operator: &OperatorGroups| -> Result<Index, CliError> {
        Ok(Index { op: operator.op, tensors: rows_of(operator)? })
    };
    let all: Vec<Index> = GROUPS.iter().filter(asked).map(index).collect::<Result<_, _>>()?;
    if all.is_empty() {
        let known: Vec<&str> = GROUPS.iter().map(|operator| operator.op).collect();
        let expected = format!("OP: expected one of {}", known.join(", "));
        let got = args.op.as_deref().unwrap_or_default();
        return Err(CliError::Request(format!("{expected}, got {got}")));
    }
    match (args.json, args.markdown) {
        (true, _) => print_json(&all),
        (_, true) => print(&markdown(&all)),
        _ => print(&tables(&all)),
    }
}

const HEADINGS: [&str; 5] = ["tensor", "", "axes", "element type", "when"];

fn tables(all: &[Index]) -> String {
    let of = |index: &Index| {
        let mut rows = table(&HEADINGS, HEADINGS.len());
        index.tensors.iter().for_each(|row| {
            rows.add_row(row.cells());
        });
        format!("{}\n\n{rows}\n\n", index.op)
    };
    all.iter().map(of).collect::<String>() + LEGEND + "\n"
}

fn markdown(all: &[Index]) -> String {
    let mut text = format!(
        "# Tensors\n\nThe tensors of every operator, by name. {LEGEND}\n`tilewise tensors --markdown` writes this page.\n"
    );
    for index in all {
        text += &format!("\n## `{}`\n\n|", index.op);
        HEADINGS.iter().for_each(|heading| text += &format!(" {heading} |"));
        text += "\n|---|---|---|---|---|\n";
        for row in &index.tensors {
            // A pipe ends a cell of Markdown.
            let [name, direction, axes, dtypes, when] =
                row.cells().map(|cell| cell.replace('|', "\\|"));
            text += &format!("| `{name}` | {direction} | `{axes}` | {dtypes} | {when} |\n");
        }
    }
    text
}

const LEGEND: &str = "\
in: read; out: written. An axis `a|1` may have the extent 1, and then counts for all of `a`.\n\
`dtype` is the spec's; `out_dtype`, where a spec has it, replaces it. Tensors that a field names may have other names.\n";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_that_an_operator_knows_has_a_row() {
        for operator in GROUPS {
            let rows = rows_of(operator).unwrap();
            let known = row::known_names(operator).unwrap();
            let missing: Vec<_> =
                known.iter().filter(|name| !rows.iter().any(|row| row.name == **name)).collect();
            assert!(missing.is_empty(), "{}: {missing:?}", operator.op);
        }
    }
}
