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
mod tune;
mod verify;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

use common::{CliError, Common};

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
    let Cli { common, command } = Cli::parse();
    // Another logger is there already only where this is not the program.
    if log::set_logger(&Warnings).is_ok() {
        log::set_max_level(log::LevelFilter::Warn);
    }
    let result = match command {
        Command::Run(args) => run::run(&common, &args),
        Command::Explain(args) => explain::explain(&common, &args),
        Command::Info(args) => info::info(&common, &args),
        Command::Verify(args) => verify::verify(&common, &args),
        Command::Bench(args) => bench::bench(&common, &args),
        Command::Tune(args) => tune::tune(&common, &args),
        Command::Demo(args) => demo::demo(&common, &args),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::from(match error {
                CliError::Failed(_) => 1,
                CliError::Request(_) => 2,
            })
        }
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
            eprintln!("warning: {}", record.args());
        }
    }

    fn flush(&self) {}
}
