//! What every command takes, and how a command fails.

use clap::Args;
use serde::de::DeserializeOwned;

use crate::cache::CachePlace;
use crate::engine::{Engine, EngineOptions, Matrices};
use crate::gpu::device::{AdapterChoice, AdapterDescription};
use crate::tensor::TensorFileError;
use crate::tune::TunePolicy;
use crate::{Error, GpuError, PlanError, SpecError};

/// What every command takes.
#[derive(Args)]
pub(super) struct Common {
    /// Adapter to use: an index or a part of its name, as `tilewise info` lists them.
    #[arg(long, global = true, value_name = "NAME-OR-INDEX")]
    pub adapter: Option<AdapterChoice>,
    /// Tile set to use, as JSON, instead of the one that is chosen.
    #[arg(long, global = true, value_name = "JSON")]
    pub tiles: Option<String>,
    /// Use WebGPU's default limits and no features, whatever the adapter has.
    #[arg(long, global = true)]
    pub floor: bool,
    /// Take files that hold more tensors than the spec asks for.
    #[arg(long, global = true)]
    pub ignore_other_tensors: bool,
}

impl Common {
    /// Opens the adapter asked for, or the best.
    pub fn open(&self) -> Result<Engine, CliError> {
        self.open_with(Matrices::Checked)
    }

    /// The same, with matrices as the caller takes them.
    pub fn open_with(&self, matrices: Matrices) -> Result<Engine, CliError> {
        Ok(Engine::open(&EngineOptions { matrices, ..self.options() })?)
    }

    /// The same adapter with all runtime checks in every kernel.
    pub fn open_checked(&self) -> Result<Engine, CliError> {
        Ok(Engine::open(&EngineOptions { checked: true, ..self.options() })?)
    }

    fn options(&self) -> EngineOptions {
        EngineOptions {
            adapter: self.adapter.clone().unwrap_or_default(),
            floor: self.floor,
            tuning: TunePolicy::Stored,
            cache: CachePlace::User,
            ..EngineOptions::default()
        }
    }

    /// The tile set asked for.
    pub fn tiles<T: DeserializeOwned>(&self) -> Result<Option<T>, CliError> {
        let parsed = self.tiles.as_deref().map(serde_json::from_str).transpose();
        parsed.map_err(|error| CliError::Request(format!("--tiles: {error}")))
    }
}

/// An adapter in a line, with a warning where it is none of silicon.
pub(super) fn device_line(adapter: &AdapterDescription) -> String {
    let AdapterDescription { name, backend, driver, .. } = adapter;
    let kind = kind_words(adapter);
    format!("{name}, {kind}, {backend}, {driver}")
}

/// The kind of an adapter, software plainly named as such.
pub(super) fn kind_words(adapter: &AdapterDescription) -> &'static str {
    if adapter.is_software() { "software on processor cores, no GPU" } else { adapter.kind }
}

/// How a command fails.
#[derive(Debug, thiserror::Error)]
pub(super) enum CliError {
    /// The request was wrong: exit code 2.
    #[error("{0}")]
    Request(String),
    /// The run or a check failed: exit code 1.
    #[error("{0}")]
    Failed(String),
    /// Nobody reads what is printed: exit code 1, without a message.
    #[error("stdout is closed")]
    NoReader,
}

impl From<Error> for CliError {
    fn from(error: Error) -> Self {
        match error {
            Error::Spec(error) => error.into(),
            Error::Plan(error) => error.into(),
            Error::Gpu(error) => error.into(),
        }
    }
}

impl From<SpecError> for CliError {
    fn from(error: SpecError) -> Self {
        Self::Request(error.to_string())
    }
}

impl From<PlanError> for CliError {
    fn from(error: PlanError) -> Self {
        match &error {
            // Another device could do it.
            PlanError::Limit { .. } => Self::Failed(error.to_string()),
            PlanError::Tiles { .. } | PlanError::Unsupported { .. } => {
                Self::Request(error.to_string())
            }
        }
    }
}

impl From<GpuError> for CliError {
    fn from(error: GpuError) -> Self {
        match &error {
            // Another adapter would do: the request named one that is not there.
            GpuError::NoAdapter { found, .. } if !found.is_empty() => {
                Self::Request(error.to_string())
            }
            _ => Self::Failed(error.to_string()),
        }
    }
}

impl From<TensorFileError> for CliError {
    fn from(error: TensorFileError) -> Self {
        Self::Request(error.to_string())
    }
}

impl From<std::io::Error> for CliError {
    fn from(error: std::io::Error) -> Self {
        Self::Failed(error.to_string())
    }
}
