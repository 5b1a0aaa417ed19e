//! What a problem's outputs should be.

use super::inputs::Inputs;
use super::judge::{JudgeReport, Mismatch, Tolerance, judge, lse_scale};
use super::place;
use super::scale::{self, Product};
use crate::any::AnyProblem;
use crate::attention::{self, AttentionReference, MergeProblem, TensorDescs, merge_reference};
use crate::error::SpecError;
use crate::matmul::{self, MatmulProblem};
use crate::moe::{self, MoeProblem};
use crate::neighborhood::{
    self, NeighborhoodAggregateProblem, NeighborhoodReference, NeighborhoodScoresProblem,
};
use crate::tensor::{Dtype, HostTensor, TensorDesc};

/// An output as it should be.
#[derive(Clone, Debug)]
pub(crate) struct ExpectedOutput {
    pub name: &'static str,
    pub desc: TensorDesc,
    pub exact: Vec<f64>,
    pub plain: Vec<f64>,
    pub row_scale: Vec<f64>,
}

impl ExpectedOutput {
    /// Holds what an output's buffer has against it. Gives the first byte beside its elements that was written, too.
    /// A buffer that is too short has no elements.
    ///
    /// # Errors
    /// [`Mismatch`] with the worst elements.
    pub fn judged(&self, bytes: &[u8]) -> Result<(JudgeReport, Option<usize>), Mismatch> {
        let Self { name, desc, exact, plain, row_scale } = self;
        let whole = bytes.len() as u64 >= desc.bytes();
        let (got, overwritten) = match whole.then(|| place::take(bytes, desc)) {
            Some((host, overwritten)) => (host.to_f64(), overwritten),
            None => (Vec::new(), None),
        };
        let tolerance = Tolerance { dtype: desc.dtype, plain, row_scale };
        Ok((judge(name, &got, exact, tolerance)?, overwritten))
    }
}

/// Every output of a problem, in f64 and by a plain implementation.
///
/// # Errors
/// As the operators' references.
pub(crate) fn expected(
    problem: &AnyProblem,
    inputs: &Inputs,
) -> Result<Vec<ExpectedOutput>, SpecError> {
    match problem {
        AnyProblem::Attention(problem) => {
            let exact = attention::reference(problem, inputs)?;
            let plain = attention::plain(problem, inputs)?;
            Ok(out_and_lse(&problem.tensors, exact, plain))
        }
        AnyProblem::AttentionMerge(problem) => of_merge(problem, inputs),
        AnyProblem::Neighborhood(problem) => {
            let as_attention = |NeighborhoodReference { out, lse, value_max }| AttentionReference {
                out,
                lse,
                value_max,
            };
            let exact = as_attention(neighborhood::reference(problem, inputs)?);
            let plain = as_attention(neighborhood::plain(problem, inputs)?);
            Ok(out_and_lse(&problem.tensors, exact, plain))
        }
        AnyProblem::NeighborhoodScores(problem) => of_scores(problem, inputs),
        AnyProblem::NeighborhoodAggregate(problem) => of_aggregate(problem, inputs),
        AnyProblem::Moe(problem) => of_moe(problem, inputs),
        AnyProblem::Matmul(problem) => of_matmul(problem, inputs),
    }
}

fn of_scores(
    problem: &NeighborhoodScoresProblem,
    inputs: &Inputs,
) -> Result<Vec<ExpectedOutput>, SpecError> {
    let exact = neighborhood::scores_reference(problem, inputs, false)?;
    let plain = neighborhood::scores_reference(problem, inputs, true)?;
    // What a score sums: the sum of its terms' sizes, which are those of the tensors' sizes.
    let sums = neighborhood::scores_reference(problem, &scale::sizes(inputs), false)?;
    let desc = problem.tensors()["scores"].clone();
    let row_scale = scale::of_rows(&sums, &desc);
    Ok(vec![ExpectedOutput { name: "scores", desc, row_scale, exact, plain }])
}

fn of_aggregate(
    problem: &NeighborhoodAggregateProblem,
    inputs: &Inputs,
) -> Result<Vec<ExpectedOutput>, SpecError> {
    let exact = neighborhood::aggregate_reference(problem, inputs, false)?;
    let plain = neighborhood::aggregate_reference(problem, inputs, true)?.out;
    let desc = problem.tensors()["out"].clone();
    Ok(vec![ExpectedOutput {
        name: "out",
        desc,
        exact: exact.out,
        plain,
        row_scale: exact.magnitude,
    }])
}

fn of_matmul(problem: &MatmulProblem, inputs: &Inputs) -> Result<Vec<ExpectedOutput>, SpecError> {
    let (exact, plain) = (matmul::reference(problem, inputs)?, matmul::plain(problem, inputs)?);
    let scales = inputs.get("w_scales").filter(|_| problem.tensors.contains_key("w_scales"));
    let format = problem.spec.weight_format();
    let product = Product {
        x: inputs["x"].to_f64(),
        w: matmul::weights::numbers(format, &inputs["w"], scales)?,
        bias: problem.tensors.contains_key("bias").then(|| inputs["bias"].to_f64()),
        inner: problem.extents.inner as usize,
    };
    let (row_scale, desc) = (product.scale_of_rows(&exact), problem.tensors["out"].clone());
    Ok(vec![ExpectedOutput { name: "out", desc, exact, plain, row_scale }])
}

/// Every output of a mixture of experts. Integers are exact.
fn of_moe(problem: &MoeProblem, inputs: &Inputs) -> Result<Vec<ExpectedOutput>, SpecError> {
    let (exact, mut plain) = (moe::reference(problem, inputs)?, moe::plain(problem, inputs)?);
    let expected = |(name, values): (&&'static str, &Vec<f64>)| {
        let desc = problem.tensors[*name].clone();
        let row_scale = match *name {
            "out" => exact.row_scale.clone(),
            "router_logits" => logits_scale(problem, inputs, values, &desc),
            "load_balancing_loss" | "z_loss" => lse_scale(values),
            _ if desc.dtype == Dtype::I32 => vec![0.0],
            _ => scale::of_rows(values, &desc),
        };
        let plain = plain.outputs.remove(name).unwrap_or_default();
        ExpectedOutput { name, desc, exact: values.clone(), plain, row_scale }
    };
    Ok(exact.outputs.iter().map(expected).collect())
}

/// The rows' scale of a router's logits, which are given or a product of x.
fn logits_scale(
    problem: &MoeProblem,
    inputs: &Inputs,
    logits: &[f64],
    desc: &TensorDesc,
) -> Vec<f64> {
    let Some(w) = ["router_w", "phi"].into_iter().find(|name| problem.has(name)) else {
        return scale::of_rows(logits, desc);
    };
    let product = Product {
        x: inputs["x"].to_f64(),
        w: inputs[w].to_f64(),
        bias: problem.has("router_b").then(|| inputs["router_b"].to_f64()),
        inner: problem.extents.model_dim as usize,
    };
    product.scale_of_rows(logits)
}

/// Out and lse of a merge. Rounding is all the error that a plain one has.
fn of_merge(problem: &MergeProblem, inputs: &Inputs) -> Result<Vec<ExpectedOutput>, SpecError> {
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
    Ok(out_and_lse(&problem.tensors, exact, plain))
}

fn out_and_lse(
    tensors: &TensorDescs,
    exact: AttentionReference,
    plain: AttentionReference,
) -> Vec<ExpectedOutput> {
    let mut outputs = Vec::new();
    let lse_scale = lse_scale(&exact.lse);
    let rows =
        [("out", exact.out, plain.out, exact.value_max), ("lse", exact.lse, plain.lse, lse_scale)];
    for (name, exact, plain, row_scale) in rows {
        if let Some(desc) = tensors.get(name) {
            outputs.push(ExpectedOutput { name, desc: desc.clone(), exact, plain, row_scale });
        }
    }
    outputs
}
