//! Attention on the CPU: the contract's formula, literally, in f64; and the same as a plain, unfused implementation
//! would compute it, whose error is the measure for the kernels'.

mod mask;
mod merge;
mod places;
mod row;
mod score;
mod tables;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use rayon::prelude::*;

use self::row::RowReference;
use super::problem::AttentionProblem;
use crate::error::SpecError;
use crate::fused::arithmetic::Arithmetic;
use crate::tensor::HostTensor;

pub use self::merge::merge_reference;

/// What attention gives, on the CPU.
#[derive(Clone, Debug, PartialEq)]
pub struct AttentionReference {
    /// `[batch, q_heads, seq_len_q, value_dim]`, whatever the spec's layout; packed sequences are one batch.
    pub out: Vec<f64>,
    /// `[batch, q_heads, seq_len_q]`; empty with the sigmoid normaliser.
    pub lse: Vec<f64>,
    /// `[batch, q_heads, seq_len_q]`: the largest |v| among the keys that the row keeps, 0 where it keeps none.
    pub value_max: Vec<f64>,
}

/// `out` and `lse` by the formula in f64. `inputs` are named and shaped as the problem says, row-major, q, k and v in
/// the order of the spec's layout.
///
/// # Errors
/// [`SpecError`] for an input that is missing or has another shape or type than the problem's, and for WGSL of the
/// caller's that does not compile or that the CPU cannot run.
pub fn reference(
    problem: &AttentionProblem,
    inputs: &BTreeMap<String, HostTensor>,
) -> Result<AttentionReference, SpecError> {
    compute(problem, inputs, Arithmetic::exact())
}

/// As [`reference()`], as a plain implementation in the storage dtype computes it: sums and functions in f32; scores
/// and probabilities rounded to the dtype where they would be stored; `out` rounded to its dtype.
///
/// # Errors
/// As [`reference()`].
pub fn plain(
    problem: &AttentionProblem,
    inputs: &BTreeMap<String, HostTensor>,
) -> Result<AttentionReference, SpecError> {
    let out_dtype = problem.spec.out_dtype.unwrap_or(problem.spec.dtype);
    compute(problem, inputs, Arithmetic::plain(problem.spec.dtype, out_dtype))
}

fn compute(
    problem: &AttentionProblem,
    inputs: &BTreeMap<String, HostTensor>,
    arithmetic: Arithmetic,
) -> Result<AttentionReference, SpecError> {
    let prepared = RowReference::new(problem, inputs, arithmetic)?;
    let e = &problem.extents;
    let rows = e.batch as usize * e.q_heads as usize * e.seq_len_q as usize;
    let rows = (0..rows).into_par_iter().map(|row| {
        let q_index = row % e.seq_len_q as usize;
        let head = row / e.seq_len_q as usize % e.q_heads as usize;
        let batch = row / e.seq_len_q as usize / e.q_heads as usize;
        prepared.row(batch, head, q_index)
    });
    let rows = rows.collect::<Result<Vec<_>, _>>()?;
    Ok(AttentionReference {
        lse: rows.iter().filter_map(|row| row.lse).collect(),
        value_max: rows.iter().map(|row| row.value_max).collect(),
        out: rows.into_iter().flat_map(|row| row.out).collect(),
    })
}

/// Which keys each query sees, `[batch, q_heads, seq_len_q, seq_len_kv]`.
#[cfg(test)]
pub(in crate::attention) fn seen(
    problem: &AttentionProblem,
    inputs: &BTreeMap<String, HostTensor>,
) -> Result<Vec<bool>, SpecError> {
    let prepared = RowReference::new(problem, inputs, Arithmetic::exact())?;
    let e = &problem.extents;
    let [heads, queries, keys] = [e.q_heads, e.seq_len_q, e.seq_len_kv].map(|n| n as usize);
    let place = |at: usize| {
        let (row, head) = (at / keys, at / keys / queries);
        [head / heads, head % heads, row % queries, at % keys]
    };
    (0..e.batch as usize * heads * queries * keys).map(|at| prepared.sees(place(at))).collect()
}
