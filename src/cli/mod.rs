//! The `tilewise` program: its commands and how they end.

mod run;
mod verify;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};
use serde::de::DeserializeOwned;

use crate::gpu::device::AdapterChoice;
use crate::tensor::TensorFileError;

/// Fused attention on every GPU.
#[derive(Parser)]
#[command(name = "tilewise", version, about)]
struct Cli {
    #[command(flatten)]
    common: Common,
    #[command(subcommand)]
    command: Command,
}

/// What every command takes.
#[derive(Args)]
pub(crate) struct Common {
    /// Adapter to use: an index or a part of its name, as `tilewise info` lists them.
    #[arg(long, global = true, value_name = "NAME-OR-INDEX")]
    adapter: Option<AdapterChoice>,
    /// Tile set to use, as JSON, instead of the one that is chosen.
    #[arg(long, global = true, value_name = "JSON")]
    tiles: Option<String>,
}

impl Common {
    /// The tile set asked for.
    fn tiles<T: DeserializeOwned>(&self) -> Result<Option<T>, CliError> {
        let parsed = self.tiles.as_deref().map(serde_json::from_str).transpose();
        parsed.map_err(|error| CliError::Request(format!("--tiles: {error}")))
    }
}

#[derive(Subcommand)]
enum Command {
    /// Compute what a spec asks for, from a safetensors file to a safetensors file.
    Run(run::RunArgs),
    /// Hold this machine's results against the reference.
    Verify(verify::VerifyArgs),
}

/// How a command fails.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CliError {
    /// The request was wrong: exit code 2.
    #[error("{0}")]
    Request(String),
    /// The run or a check failed: exit code 1.
    #[error("{0}")]
    Failed(String),
}

impl From<crate::Error> for CliError {
    fn from(error: crate::Error) -> Self {
        match error {
            crate::Error::Spec(error) => Self::Request(error.to_string()),
            crate::Error::Plan(error) => Self::Request(error.to_string()),
            crate::Error::Gpu(error) => error.into(),
        }
    }
}

impl From<crate::SpecError> for CliError {
    fn from(error: crate::SpecError) -> Self {
        Self::Request(error.to_string())
    }
}

impl From<crate::GpuError> for CliError {
    fn from(error: crate::GpuError) -> Self {
        match error {
            crate::GpuError::NoAdapter { .. } => Self::Request(error.to_string()),
            other => Self::Failed(other.to_string()),
        }
    }
}

impl From<TensorFileError> for CliError {
    fn from(error: TensorFileError) -> Self {
        Self::Request(error.to_string())
    }
}

/// Runs the program; 0 done, 1 the run or a check failed, 2 the request was wrong.
pub fn main() -> ExitCode {
    let Cli { common, command } = Cli::parse();
    let result = match command {
        Command::Run(args) => run::run(&common, &args),
        Command::Verify(args) => verify::verify(&common, &args),
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

/// Reads a file of text.
pub(crate) fn read_text(path: &PathBuf) -> Result<String, CliError> {
    std::fs::read_to_string(path)
        .map_err(|error| CliError::Request(format!("{}: {error}", path.display())))
}
