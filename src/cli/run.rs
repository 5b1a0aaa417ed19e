//! `tilewise run`: a spec and a file of tensors in, a file of tensors out.

use std::collections::BTreeMap;
use std::path::PathBuf;

use clap::{Args, ValueEnum};
use serde::Deserialize;

use super::{CliError, Common, read_text};
use crate::attention::{AttentionProblem, AttentionSpec, MergeProblem, MergeSpec, TensorDescs};
use crate::engine::{Engine, EngineOptions};
use crate::moe::{MoeProblem, MoeSpec, reference_tensors};
use crate::operator::Operator;
use crate::tensor::{HostTensor, read_safetensors, write_safetensors};

#[derive(Args)]
pub(crate) struct RunArgs {
    /// The spec, as JSON.
    spec: PathBuf,
    /// Input tensors, by their names in the contract.
    #[arg(long)]
    input: PathBuf,
    /// Where the outputs go.
    #[arg(long)]
    output: PathBuf,
    /// What computes: a GPU, or the f64 reference.
    #[arg(long, value_enum, default_value = "gpu")]
    backend: Backend,
}

#[derive(Clone, Copy, ValueEnum)]
enum Backend {
    Gpu,
    Cpu,
}

/// A spec of any operator, as a file has it.
#[derive(Deserialize)]
#[serde(tag = "op", rename_all = "snake_case")]
pub(crate) enum OperatorSpec {
    Attention(AttentionSpec),
    AttentionMerge(MergeSpec),
    Moe(MoeSpec),
}

pub(crate) fn run(common: &Common, args: &RunArgs) -> Result<(), CliError> {
    let text = read_text(&args.spec)?;
    let spec: OperatorSpec = serde_json::from_str(&text)
        .map_err(|error| CliError::Request(format!("{}: {error}", args.spec.display())))?;
    let inputs = read_safetensors(&args.input)?;
    let descs: TensorDescs =
        inputs.iter().map(|(name, host)| (name.clone(), host.desc())).collect();
    let outputs = match spec {
        OperatorSpec::Attention(spec) => {
            compute(common, args.backend, &AttentionProblem::new(&spec, &descs)?, &inputs)?
        }
        OperatorSpec::AttentionMerge(spec) => {
            compute(common, args.backend, &MergeProblem::new(&spec, &descs)?, &inputs)?
        }
        OperatorSpec::Moe(spec) => {
            let problem = MoeProblem::new(&spec, &descs)?;
            match args.backend {
                Backend::Cpu => reference_tensors(&problem, &inputs)?,
                Backend::Gpu => compute(common, args.backend, &problem, &inputs)?,
            }
        }
    };
    Ok(write_safetensors(&args.output, &outputs)?)
}

fn compute<O: Operator>(
    common: &Common,
    backend: Backend,
    operator: &O,
    inputs: &BTreeMap<String, HostTensor>,
) -> Result<BTreeMap<String, HostTensor>, CliError> {
    let tiles = common
        .tiles
        .as_deref()
        .map(|text| serde_json::from_str(text))
        .transpose()
        .map_err(|error| CliError::Request(format!("--tiles: {error}")))?;
    match backend {
        Backend::Gpu => {
            let adapter = common.adapter.clone().unwrap_or_default();
            let engine = Engine::open(&EngineOptions { adapter, ..EngineOptions::default() })?;
            Ok(engine.run(operator, tiles, inputs)?)
        }
        Backend::Cpu => Err(CliError::Failed("not yet".into())),
    }
}
