//! The `tilewise` program: its commands and how they end.

mod bench;
mod common;
mod demo;
mod explain;
mod info;
mod measure;
mod output;
mod run;
mod spec;
mod tensors;
mod tune;
mod verify;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

use common::{CliError, Common};
use output::tell;

/// Fused attention on every GPU.
#[derive(Parser)]
#[command(name = "tilewise", version, about)]
struct Cli {
    #[command(flatten)]
    common: Common,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Compute what a spec asks for, from a safetensors file to a safetensors file.
    Run(run::RunArgs),
    /// Show what a spec becomes: tiles, dispatches, bytes, and the WGSL of its kernels.
    Explain(explain::ExplainArgs),
    /// List the tensors of every operator: names, axes, element types, and what asks for them.
    Tensors(tensors::TensorsArgs),
    /// List the adapters of this machine and what they offer.
    Info(info::InfoArgs),
    /// Hold this machine's results against the reference.
    Verify(verify::VerifyArgs),
    /// Check and time named problems.
    Bench(bench::BenchArgs),
    /// Measure which tiles this device likes best, and store them.
    Tune(tune::TuneArgs),
    /// Do a real job and show the result.
    Demo(demo::DemoArgs),
}

/// Runs the program; 0 done, 1 the run or a check failed, 2 the request was wrong.
pub fn main() -> ExitCode {
    let Cli { common, command } = match Cli::try_parse() {
        Ok(cli) => cli,
        // Help and version too.
        Err(other) => return printed(&other),
    };
    // Another logger is there already only where this is not the program.
    if log::set_logger(&Warnings).is_ok() {
        log::set_max_level(log::LevelFilter::Warn);
    }
    let result = match command {
        Command::Run(args) => run::run(&common, &args),
        Command::Explain(args) => explain::explain(&common, &args),
        Command::Tensors(args) => tensors::tensors(&args),
        Command::Info(args) => info::info(&common, &args),
        Command::Verify(args) => verify::verify(&common, &args),
        Command::Bench(args) => bench::bench(&common, &args),
        Command::Tune(args) => tune::tune(&common, &args),
        Command::Demo(args) => demo::demo(&common, &args),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(CliError::NoReader) => ExitCode::from(1),
        Err(error) => {
            tell(format_args!("error: {error}"));
            ExitCode::from(if matches!(error, CliError::Request(_)) { 2 } else { 1 })
        }
    }
}

/// Prints what clap has to say; 1 where that fails.
fn printed(message: &clap::Error) -> ExitCode {
    match message.print() {
        Ok(()) => ExitCode::from(message.exit_code() as u8),
        Err(_) => ExitCode::from(1),
    }
}

/// Warnings of this crate, on stderr.
struct Warnings;

impl log::Log for Warnings {
    fn enabled(&self, metadata: &log::Metadata<'_>) -> bool {
        metadata.level() <= log::Level::Warn && metadata.target().starts_with("tilewise")
    }

    fn log(&self, record: &log::Record<'_>) {
        if self.enabled(record.metadata()) {
            tell(format_args!("warning: {}", record.args()));
        }
    }

    fn flush(&self) {}
}
