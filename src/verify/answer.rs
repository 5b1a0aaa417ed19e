//! What a question's outputs should be.

use super::inputs::Inputs;
use super::judge::{Budget, JudgeReport, Mismatch, judge, lse_scale};
use super::place;
use crate::attention::{self, AttentionReference, MergeProblem, TensorDescs, merge_reference};
use crate::error::SpecError;
use crate::matmul::{self, MatmulProblem};
use crate::moe::{self, MoeProblem};
use crate::neighborhood::{
    self, NeighborhoodAggregateProblem, NeighborhoodReference, NeighborhoodScoresProblem,
};
use crate::question::Question;
use crate::tensor::{Dtype, HostTensor, TensorDesc};

/// An output as it should be.
#[derive(Clone, Debug)]
pub(crate) struct Expected {
    pub name: &'static str,
    pub desc: TensorDesc,
    pub exact: Vec<f64>,
    pub plain: Vec<f64>,
    pub row_scale: Vec<f64>,
}

impl Expected {
    /// Holds what an output's buffer has against it; also the first byte beside its elements that was written, if any.
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
        let budget = Budget { dtype: desc.dtype, plain, row_scale };
        Ok((judge(name, &got, exact, budget)?, overwritten))
    }
}

/// Every output of a question, in f64 and by a plain implementation.
///
/// # Errors
/// As the operators' references.
pub(crate) fn expected(question: &Question, inputs: &Inputs) -> Result<Vec<Expected>, SpecError> {
    match question {
        Question::Attention(problem) => {
            let exact = attention::reference(problem, inputs)?;
            let plain = attention::plain(problem, inputs)?;
            Ok(out_and_lse(&problem.tensors, exact, plain))
        }
        Question::AttentionMerge(problem) => of_merge(problem, inputs),
        Question::Neighborhood(problem) => {
            let as_attention = |NeighborhoodReference { out, lse, value_max }| AttentionReference {
                out,
                lse,
                value_max,
            };
            let exact = as_attention(neighborhood::reference(problem, inputs)?);
            let plain = as_attention(neighborhood::plain(problem, inputs)?);
            Ok(out_and_lse(&problem.tensors, exact, plain))
        }
        Question::NeighborhoodScores(problem) => of_scores(problem, inputs),
        Question::NeighborhoodAggregate(problem) => of_aggregate(problem, inputs),
        Question::Moe(problem) => of_moe(problem, inputs),
        Question::Matmul(problem) => of_matmul(problem, inputs),
    }
}

fn of_scores(
    problem: &NeighborhoodScoresProblem,
    inputs: &Inputs,
) -> Result<Vec<Expected>, SpecError> {
    let exact = neighborhood::scores_reference(problem, inputs, false)?;
    let plain = neighborhood::scores_reference(problem, inputs, true)?;
    let desc = problem.tensors()["scores"].clone();
    Ok(vec![Expected { name: "scores", desc, row_scale: lse_scale(&exact), exact, plain }])
}

fn of_aggregate(
    problem: &NeighborhoodAggregateProblem,
    inputs: &Inputs,
) -> Result<Vec<Expected>, SpecError> {
    let exact = neighborhood::aggregate_reference(problem, inputs, false)?;
    let plain = neighborhood::aggregate_reference(problem, inputs, true)?.out;
    let desc = problem.tensors()["out"].clone();
    Ok(vec![Expected { name: "out", desc, exact: exact.out, plain, row_scale: exact.magnitude }])
}

/// A row's scale is its largest element.
fn of_matmul(problem: &MatmulProblem, inputs: &Inputs) -> Result<Vec<Expected>, SpecError> {
    let (exact, plain) = (matmul::reference(problem, inputs)?, matmul::plain(problem, inputs)?);
    let rows = exact.chunks(problem.extents.columns.max(1) as usize);
    let most = |row: &[f64]| row.iter().fold(0.0_f64, |most, out| most.max(out.abs()));
    let (row_scale, desc) = (rows.map(most).collect(), problem.tensors["out"].clone());
    Ok(vec![Expected { name: "out", desc, exact, plain, row_scale }])
}

/// Every output of a mixture of experts; integers are exact.
fn of_moe(problem: &MoeProblem, inputs: &Inputs) -> Result<Vec<Expected>, SpecError> {
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
fn of_merge(problem: &MergeProblem, inputs: &Inputs) -> Result<Vec<Expected>, SpecError> {
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
