//! `tilewise info`: the adapters of this machine, what they offer, and what they do at most.

use clap::Args;
use comfy_table::Table;
use serde::Serialize;

use super::common::{CliError, Common, kind_words};
use super::measure::{Ceilings, ceilings};
use super::output::{bytes, digits, print, print_json, table, tell};
use crate::engine::{Engine, EngineOptions};
use crate::gpu::device::{AdapterChoice, AdapterDescription, adapters};
use crate::{Error, GpuError};

#[derive(Args)]
pub(super) struct InfoArgs {
    /// Measure each adapter's ceilings: f32 multiply-adds and a copy.
    #[arg(long)]
    measure: bool,
    /// JSON instead of tables.
    #[arg(long)]
    json: bool,
}

/// An adapter with its place in the list.
#[derive(Serialize)]
struct Listed {
    index: usize,
    #[serde(flatten)]
    adapter: AdapterDescription,
    #[serde(skip_serializing_if = "Option::is_none")]
    measured: Option<Ceilings>,
}

pub(super) fn info(common: &Common, args: &InfoArgs) -> Result<(), CliError> {
    let mut listed = chosen(common)?;
    if args.measure {
        for one in &mut listed {
            tell(format_args!("measuring {}", one.adapter.name));
            let adapter = AdapterChoice::Index(one.index);
            let floor = common.floor;
            let options = EngineOptions { adapter, floor, ..EngineOptions::default() };
            one.measured = Some(ceilings(&Engine::open(&options)?)?);
        }
    }
    if args.json {
        return print_json(&listed);
    }
    let mut text = format!("{}\n\n{}\n", adapter_table(&listed), limit_table(&listed));
    if args.measure {
        text += &format!("\n{}\n{CEILINGS_NOTE}\n", ceiling_table(&listed));
    }
    print(&text)
}

/// The adapter asked for, or all of them.
fn chosen(common: &Common) -> Result<Vec<Listed>, CliError> {
    let all: Vec<Listed> = pollster::block_on(adapters())
        .into_iter()
        .enumerate()
        .map(|(index, adapter)| Listed { index, adapter, measured: None })
        .collect();
    let found: Vec<String> = all.iter().map(|one| one.adapter.name.clone()).collect();
    let lower = |text: &str| text.to_lowercase();
    let fits = |one: &Listed| match &common.adapter {
        Some(AdapterChoice::Index(index)) => one.index == *index,
        Some(AdapterChoice::Name(name)) => lower(&one.adapter.name).contains(&lower(name)),
        _ => true,
    };
    let wanted = match &common.adapter {
        Some(AdapterChoice::Index(index)) => format!("of index {index}"),
        Some(AdapterChoice::Name(name)) => format!("named {name}"),
        _ => "at all".to_owned(),
    };
    let listed: Vec<Listed> = all.into_iter().filter(fits).collect();
    if listed.is_empty() {
        return Err(Error::from(GpuError::NoAdapter { wanted, found }).into());
    }
    Ok(listed)
}

fn adapter_table(listed: &[Listed]) -> Table {
    let mut table = table(&["", "adapter", "kind", "backend", "driver"], 5);
    for Listed { index, adapter, .. } in listed {
        let AdapterDescription { name, backend, driver, .. } = adapter;
        table.add_row([&index.to_string(), name, kind_words(adapter), backend, driver]);
    }
    table
}

/// Limits down, adapters across.
fn limit_table(listed: &[Listed]) -> Table {
    let indices: Vec<String> = listed.iter().map(|one| one.index.to_string()).collect();
    let mut headings = vec!["offers"];
    headings.extend(indices.iter().map(String::as_str));
    let mut table = table(&headings, 1);
    let mut row = |name: &str, value: &dyn Fn(&AdapterDescription) -> String| {
        let values = listed.iter().map(|one| value(&one.adapter));
        table.add_row(std::iter::once(name.to_owned()).chain(values));
    };
    row("workgroup memory", &|a| bytes(a.limits.workgroup_bytes.into()));
    row("invocations a workgroup", &|a| a.limits.workgroup_invocations.to_string());
    row("workgroups a dimension", &|a| a.limits.workgroups_per_dimension.to_string());
    row("storage buffers a kernel", &|a| a.limits.storage_buffers.to_string());
    row("storage binding", &|a| bytes(a.limits.storage_binding_bytes));
    row("uniform binding", &|a| bytes(a.limits.uniform_binding_bytes));
    row("buffer", &|a| bytes(a.limits.buffer_bytes));
    row("alignment of storage, uniform", &|a| {
        format!("{} B, {} B", a.limits.storage_alignment, a.limits.uniform_alignment)
    });
    row("subgroup", &|a| match a.limits.subgroup {
        Some(sizes) if sizes.least == sizes.most => sizes.least.to_string(),
        Some(sizes) => format!("{} to {}", sizes.least, sizes.most),
        None => "none".to_owned(),
    });
    row("matrices, f16 into f32", &|a| match a.limits.matrix {
        Some(size) => format!("{size} x {size}"),
        None => "none".to_owned(),
    });
    row("features", &|a| a.features.join(", "));
    table
}

fn ceiling_table(listed: &[Listed]) -> Table {
    let headings = ["", "measured ceiling", "by the clock", "by CPU time"];
    let mut table = table(&headings, 2);
    for Listed { index, measured, .. } in listed {
        let Some(ceilings) = measured else { continue };
        let cpu = |value: fn(&super::measure::CpuCeilings) -> f64, unit: &str| {
            let value = ceilings.by_cpu_time.as_ref().map(value);
            value.map_or("".to_owned(), |value| format!("{} {unit}", digits(value)))
        };
        table.add_row([
            index.to_string(),
            "f32 multiply-add".to_owned(),
            format!("{} GFLOP/s", digits(ceilings.multiply_add_gflops)),
            cpu(|c| c.multiply_add_gflop_per_cpu_s, "GFLOP per CPU-second"),
        ]);
        table.add_row([
            index.to_string(),
            "copy, read + written".to_owned(),
            format!("{} GB/s", digits(ceilings.copy_gb_per_s)),
            cpu(|c| c.copy_gb_per_cpu_s, "GB per CPU-second"),
        ]);
    }
    table
}

const CEILINGS_NOTE: &str = "The best of five runs. CPU time, of all threads of this process, is given for software adapters: they run on
processor cores that other programs use too, and their figures say nothing about GPUs.";
