//! `tilewise run`: a spec and a file of tensors in, a file of tensors out.

use std::collections::BTreeMap;
use std::path::PathBuf;

use clap::{Args, ValueEnum};
use serde::Deserialize;

use super::{CliError, Common, read_text};
use crate::attention::{
    AttentionProblem, AttentionReference, AttentionSpec, MergeProblem, MergeSpec, TensorDescs,
    merge_reference, reference,
};
use crate::engine::{Engine, EngineOptions};
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

/// Tensors by name.
type Tensors = BTreeMap<String, HostTensor>;

/// A spec of any operator, as a file has it.
#[derive(Deserialize)]
#[serde(tag = "op", rename_all = "snake_case")]
pub(crate) enum OperatorSpec {
    Attention(Box<AttentionSpec>),
    AttentionMerge(MergeSpec),
}

pub(crate) fn run(common: &Common, args: &RunArgs) -> Result<(), CliError> {
    let text = read_text(&args.spec)?;
    let spec: OperatorSpec = serde_json::from_str(&text)
        .map_err(|error| CliError::Request(format!("{}: {error}", args.spec.display())))?;
    let inputs = read_safetensors(&args.input)?;
    let descs: TensorDescs =
        inputs.iter().map(|(name, host)| (name.clone(), host.desc())).collect();
    let outputs = match (spec, args.backend) {
        (OperatorSpec::Attention(spec), backend) => {
            let problem = AttentionProblem::new(&spec, &descs)?;
            match backend {
                Backend::Gpu => compute(common, &problem, &inputs)?,
                Backend::Cpu => attention_on_cpu(&problem, &inputs)?,
            }
        }
        (OperatorSpec::AttentionMerge(spec), backend) => {
            let problem = MergeProblem::new(&spec, &descs)?;
            match backend {
                Backend::Gpu => compute(common, &problem, &inputs)?,
                Backend::Cpu => merge_on_cpu(&problem, &inputs)?,
            }
        }
    };
    Ok(write_safetensors(&args.output, &outputs)?)
}

fn compute<O: Operator>(
    common: &Common,
    operator: &O,
    inputs: &Tensors,
) -> Result<Tensors, CliError> {
    let tiles = common.tiles()?;
    let adapter = common.adapter.clone().unwrap_or_default();
    let engine = Engine::open(&EngineOptions { adapter, ..EngineOptions::default() })?;
    Ok(engine.run(operator, tiles, inputs)?)
}

fn attention_on_cpu(problem: &AttentionProblem, inputs: &Tensors) -> Result<Tensors, CliError> {
    let AttentionReference { out, lse, .. } = reference(problem, inputs)?;
    let mut outputs = Tensors::new();
    for (name, values) in [("out", out), ("lse", lse)] {
        let Some(desc) = problem.tensors.get(name) else { continue };
        let host = HostTensor::from_f64(desc.dtype, desc.shape(), &values);
        let host = if name == "out" { host.permuted(&problem.spec.layout.axes()) } else { host };
        outputs.insert(name.to_owned(), host);
    }
    Ok(outputs)
}

fn merge_on_cpu(problem: &MergeProblem, inputs: &Tensors) -> Result<Tensors, CliError> {
    let values = |name: &str| {
        let missing = || CliError::Request(format!("tensor {name} is missing"));
        inputs.get(name).map(HostTensor::to_f64).ok_or_else(missing)
    };
    let [parts, batch, heads, seq, dim] = problem.tensors["outs"].shape()[..] else {
        return Err(CliError::Request("outs: expected 5 axes".to_owned()));
    };
    let rows = (batch * heads * seq) as usize;
    let (outs, lses) = (values("outs")?, values("lses")?);
    let merged = merge_reference(&outs, &lses, parts as usize, rows, dim as usize)?;
    let host = |name: &str, values: &[f64]| {
        let desc = &problem.tensors[name];
        (name.to_owned(), HostTensor::from_f64(desc.dtype, desc.shape(), values))
    };
    Ok(Tensors::from([host("out", &merged.out), host("lse", &merged.lse)]))
}
