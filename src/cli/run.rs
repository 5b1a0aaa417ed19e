//! `tilewise run`: a spec and a file of tensors in, a file of tensors out.

use std::collections::BTreeMap;
use std::path::PathBuf;

use clap::{Args, ValueEnum};

use super::common::{CliError, Common};
use super::spec::{asked_of, read_inputs, read_spec};
use crate::any::{AnyProblem, with_problem};
use crate::attention::{AttentionProblem, MergeProblem, QueryStorage, merge_reference, reference};
use crate::matmul;
use crate::moe::reference_tensors;
use crate::neighborhood::{self, NeighborhoodProblem};
use crate::operator::Operator;
use crate::tensor::{HostTensor, TensorDescs, write_safetensors};

#[derive(Args)]
pub(super) struct RunArgs {
    /// The spec: a JSON file, or JSON.
    spec: String,
    /// Input tensors, by their names in the contract.
    #[arg(long, value_name = "SAFETENSORS")]
    input: PathBuf,
    /// Where the outputs go.
    #[arg(long, value_name = "SAFETENSORS")]
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

pub(super) fn run(common: &Common, args: &RunArgs) -> Result<(), CliError> {
    let spec = read_spec(&args.spec)?;
    let (mut inputs, descs) = read_inputs(&args.input)?;
    let problem = asked_of(common, &spec, &descs)?;
    let asked = with_problem!(&problem, problem => Operator::tensors(problem));
    inputs.retain(|name, _| asked.iter().any(|(asked, _)| asked == name));
    with_problem!(&problem, problem => problem.check_values(&inputs)?);
    let outputs = match args.backend {
        Backend::Gpu => with_problem!(&problem, problem => {
            common.open()?.run(problem, common.tiles()?, &inputs)?
        }),
        Backend::Cpu if common.tiles.is_some() => {
            let message = "--tiles does not apply: the reference has none";
            return Err(CliError::Request(message.to_owned()));
        }
        Backend::Cpu => on_cpu(&problem, &inputs)?,
    };
    write_safetensors(&args.output, &outputs).map_err(|error| CliError::Failed(error.to_string()))
}

/// The reference's results, in the order and the types that the spec asks for.
fn on_cpu(
    problem: &AnyProblem,
    inputs: &BTreeMap<String, HostTensor>,
) -> Result<BTreeMap<String, HostTensor>, CliError> {
    let only = |(name, host): (String, HostTensor)| BTreeMap::from([(name, host)]);
    Ok(match problem {
        AnyProblem::Attention(problem) => attention_on_cpu(problem, inputs)?,
        AnyProblem::AttentionMerge(problem) => merge_on_cpu(problem, inputs)?,
        AnyProblem::Neighborhood(problem) => neighborhood_on_cpu(problem, inputs)?,
        AnyProblem::NeighborhoodScores(problem) => {
            let scores = neighborhood::scores_reference(problem, inputs, false)?;
            only(named(problem.tensors(), "scores", &scores))
        }
        AnyProblem::NeighborhoodAggregate(problem) => {
            let result = neighborhood::aggregate_reference(problem, inputs, false)?;
            only(named(problem.tensors(), "out", &result.out))
        }
        AnyProblem::Moe(problem) => reference_tensors(problem, inputs)?,
        AnyProblem::Matmul(problem) => {
            only(named(&problem.tensors, "out", &matmul::reference(problem, inputs)?))
        }
    })
}

fn attention_on_cpu(
    problem: &AttentionProblem,
    inputs: &BTreeMap<String, HostTensor>,
) -> Result<BTreeMap<String, HostTensor>, CliError> {
    let result = reference(problem, inputs)?;
    let mut outputs = BTreeMap::new();
    for (name, desc) in problem.tensors() {
        let axes = problem.spec.layout.axes();
        let values = match name {
            "out" if problem.storage().queries == QueryStorage::Packed => {
                let shape = problem.tensors["out"].shape();
                permuted(&result.out, &[0, 1, 2, 3].map(|axis| shape[axis] as usize), [0, 2, 1, 3])
            }
            "out" => permuted(&result.out, &axes.map(|axis| desc.shape()[axis] as usize), axes),
            "lse" => result.lse.clone(),
            _ => continue,
        };
        outputs.insert(name.to_owned(), HostTensor::from_f64(desc.dtype, desc.shape(), &values));
    }
    Ok(outputs)
}

fn merge_on_cpu(
    problem: &MergeProblem,
    inputs: &BTreeMap<String, HostTensor>,
) -> Result<BTreeMap<String, HostTensor>, CliError> {
    let values = |name: &str| inputs.get(name).map(HostTensor::to_f64).unwrap_or_default();
    let shape = problem.tensors["outs"].shape();
    let rows: u64 = shape[1..4].iter().product();
    let merged = merge_reference(
        &values("outs"),
        &values("lses"),
        shape[0] as usize,
        rows as usize,
        shape[4] as usize,
    )?;
    let host = |name: &str, values: &[f64]| named(&problem.tensors, name, values);
    Ok(BTreeMap::from([host("out", &merged.out), host("lse", &merged.lse)]))
}

/// A result under its name, in the type that the problem gives it.
fn named(tensors: &TensorDescs, name: &str, values: &[f64]) -> (String, HostTensor) {
    let desc = &tensors[name];
    (name.to_owned(), HostTensor::from_f64(desc.dtype, desc.shape(), values))
}

/// The reference's results, in the types that the spec asks for.
fn neighborhood_on_cpu(
    problem: &NeighborhoodProblem,
    inputs: &BTreeMap<String, HostTensor>,
) -> Result<BTreeMap<String, HostTensor>, CliError> {
    let result = neighborhood::reference(problem, inputs)?;
    let mut outputs = BTreeMap::new();
    for (name, values) in [("out", result.out), ("lse", result.lse)] {
        if problem.tensors.contains_key(name) {
            outputs.extend([named(&problem.tensors, name, &values)]);
        }
    }
    Ok(outputs)
}

/// Row-major elements of `shape` in another order: axis `i` of the result is axis `order[i]`.
fn permuted(values: &[f64], shape: &[usize; 4], order: [usize; 4]) -> Vec<f64> {
    let strides = [shape[1] * shape[2] * shape[3], shape[2] * shape[3], shape[3], 1];
    let extents = order.map(|axis| shape[axis]);
    let strides = order.map(|axis| strides[axis]);
    (0..values.len())
        .map(|index| {
            let (mut rest, mut at) = (index, 0);
            for axis in (0..4).rev() {
                at += rest % extents[axis] * strides[axis];
                rest /= extents[axis];
            }
            values[at]
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn heads_first_becomes_heads_last() {
        let values: Vec<f64> = (0..24).map(f64::from).collect();
        let moved = permuted(&values, &[1, 2, 3, 4], [0, 2, 1, 3]);
        assert_eq!(moved[..8], [0.0, 1.0, 2.0, 3.0, 12.0, 13.0, 14.0, 15.0]);
        assert_eq!(permuted(&moved, &[1, 3, 2, 4], [0, 2, 1, 3]), values);
    }
}
