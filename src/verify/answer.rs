//! What a case's outputs should be.

use super::inputs::Inputs;
use super::judge::lse_scale;
use crate::attention::{
    AttentionProblem, AttentionReference, MergeProblem, TensorDescs, merge_reference, plain,
    reference,
};
use crate::error::SpecError;
use crate::moe::{self, MoeProblem};
use crate::neighborhood::{self, NeighborhoodProblem, NeighborhoodReference};
use crate::tensor::{Dtype, HostTensor, TensorDesc};

/// An output as it should be.
#[derive(Clone, Debug)]
pub(super) struct Expected {
    pub name: &'static str,
    pub desc: TensorDesc,
    pub exact: Vec<f64>,
    pub plain: Vec<f64>,
    pub row_scale: Vec<f64>,
}

/// Out and lse of an attention.
pub(super) fn expected_attention(
    problem: &AttentionProblem,
    inputs: &Inputs,
) -> Result<Vec<Expected>, SpecError> {
    let (exact, plain) = (reference(problem, inputs)?, plain(problem, inputs)?);
    Ok(expected(&problem.tensors, exact, plain))
}

/// Out and lse of a neighborhood.
pub(super) fn expected_neighborhood(
    problem: &NeighborhoodProblem,
    inputs: &Inputs,
) -> Result<Vec<Expected>, SpecError> {
    let as_attention =
        |NeighborhoodReference { out, lse, value_max }| AttentionReference { out, lse, value_max };
    let exact = as_attention(neighborhood::reference(problem, inputs)?);
    let plain = as_attention(neighborhood::plain(problem, inputs)?);
    Ok(expected(&problem.tensors, exact, plain))
}

/// Every output of a mixture of experts; integers are exact.
pub(super) fn expected_moe(
    problem: &MoeProblem,
    inputs: &Inputs,
) -> Result<Vec<Expected>, SpecError> {
    let (exact, mut plain) = (moe::reference(problem, inputs)?, moe::plain(problem, inputs)?);
    let row_scale = |name: &str, dtype: Dtype| match name {
        "out" => exact.row_scale.clone(),
        _ if dtype == Dtype::I32 => vec![0.0],
        _ => vec![1.0],
    };
    let expected = |(name, values): (&&'static str, &Vec<f64>)| {
        let desc = problem.tensors[*name].clone();
        Expected {
            name,
            exact: values.clone(),
            plain: plain.outputs.remove(name).unwrap_or_default(),
            row_scale: row_scale(name, desc.dtype),
            desc,
        }
    };
    Ok(exact.outputs.iter().map(expected).collect())
}

/// Out and lse of a merge; rounding is all the error that a plain one has.
pub(super) fn expected_merge(
    problem: &MergeProblem,
    inputs: &Inputs,
) -> Result<Vec<Expected>, SpecError> {
    let [parts, batch, heads, seq, dim] = problem.tensors["outs"].shape()[..] else {
        return Ok(Vec::new()); // unreachable: the problem was checked
    };
    let rows = (batch * heads * seq) as usize;
    let (outs, lses) = (inputs["outs"].to_f64(), inputs["lses"].to_f64());
    let exact = merge_reference(&outs, &lses, parts as usize, rows, dim as usize)?;
    let rounded = |dtype, values: &[f64]| {
        HostTensor::from_f64(dtype, &[values.len() as u64], values).to_f64()
    };
    let plain = AttentionReference {
        out: rounded(problem.spec.dtype, &exact.out),
        lse: rounded(Dtype::F32, &exact.lse),
        value_max: Vec::new(),
    };
    Ok(expected(&problem.tensors, exact, plain))
}

fn expected(
    tensors: &TensorDescs,
    exact: AttentionReference,
    plain: AttentionReference,
) -> Vec<Expected> {
    let mut outputs = Vec::new();
    let lse_scale = lse_scale(&exact.lse);
    let rows =
        [("out", exact.out, plain.out, exact.value_max), ("lse", exact.lse, plain.lse, lse_scale)];
    for (name, exact, plain, row_scale) in rows {
        if let Some(desc) = tensors.get(name) {
            outputs.push(Expected { name, desc: desc.clone(), exact, plain, row_scale });
        }
    }
    outputs
}
