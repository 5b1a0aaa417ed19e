//! How much there is to compute, and to move at least.

mod pairs;

use std::collections::BTreeMap;

use self::pairs::kept_pairs;
use crate::any::{AnyProblem, with_problem};
use crate::error::SpecError;
use crate::moe::{MoeProblem, expert_rows};
use crate::operator::Operator;
use crate::tensor::HostTensor;

/// The work of a call.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Work {
    /// Floating-point operations: two for each multiply-add of scores, of sums and of matmuls.
    pub flops: f64,
    /// Bytes of every tensor, each read or written once; of experts' weights those that some token needs.
    pub bytes: f64,
    /// What the operations are counted over.
    pub counted: Counted,
}

/// Which pairs of query and key count.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Counted {
    /// Those that the mask or the windows keep; all there is where an operator has no mask.
    KeptPairs,
    /// All: the mask is not one that is counted cheaply.
    AllPairs,
}

/// Counts what a call computes, and what it moves at least.
///
/// # Errors
/// [`SpecError`] for inputs of a mixture of experts that are not the problem's: its routing is computed.
pub fn work(
    problem: &AnyProblem,
    inputs: &BTreeMap<String, HostTensor>,
) -> Result<Work, SpecError> {
    let mut counted = Counted::KeptPairs;
    let flops = match problem {
        AnyProblem::Attention(problem) => {
            let e = &problem.extents;
            let flops_a_pair = 2.0 * (f64::from(e.head_dim) + f64::from(e.value_dim));
            match kept_pairs(problem, inputs) {
                Some(pairs) => pairs as f64 * flops_a_pair,
                None => {
                    counted = Counted::AllPairs;
                    problem.dense_flops()
                }
            }
        }
        AnyProblem::Neighborhood(problem) => {
            if problem.spec.mask.is_some() {
                counted = Counted::AllPairs;
            }
            problem.flops()
        }
        AnyProblem::Moe(problem) => problem.expert_flops(),
        AnyProblem::Matmul(problem) => problem.flops(),
        AnyProblem::AttentionMerge(problem) => 2.0 * problem.tensors["outs"].layout.len() as f64,
        AnyProblem::NeighborhoodScores(problem) => problem.flops(),
        AnyProblem::NeighborhoodAggregate(problem) => problem.flops(),
    };
    let unread = match problem {
        AnyProblem::Moe(problem) => unread_weights(problem, inputs)?,
        _ => 0.0,
    };
    let tensors = with_problem!(problem, problem => Operator::tensors(problem));
    let bytes: u64 = tensors.iter().map(|(_, desc)| desc.element_bytes()).sum();
    Ok(Work { flops, bytes: bytes as f64 - unread, counted })
}

/// Bytes of the weights of experts that no token goes to.
fn unread_weights(
    problem: &MoeProblem,
    inputs: &BTreeMap<String, HostTensor>,
) -> Result<f64, SpecError> {
    let rows = expert_rows(problem, inputs)?;
    let idle = rows.iter().filter(|rows| **rows == 0.0).count();
    let weights = problem.tensors.iter().filter(|(name, _)| name.starts_with("w_"));
    let bytes: u64 = weights.map(|(_, desc)| desc.element_bytes()).sum();
    Ok(bytes as f64 * idle as f64 / rows.len().max(1) as f64)
}
