//! The two operators on the CPU: the rule, slot by slot, in f64; and as a plain f32 implementation would compute them.

use std::collections::BTreeMap;

use super::problem::{NeighborhoodAggregateProblem, NeighborhoodScoresProblem, Slots};
use crate::error::SpecError;
use crate::fused::arithmetic::Arithmetic;
use crate::neighborhood::reference::{coordinates, read_rows, slots};
use crate::tensor::{Dtype, HostTensor};

/// An aggregate on the CPU.
#[derive(Clone, Debug, PartialEq)]
pub struct AggregateReference {
    /// `[batch, X…, q_heads, value_dim]`.
    pub out: Vec<f64>,
    /// `[batch, X…, q_heads]`: the largest sum of |weight · v| of a row's elements.
    pub magnitude: Vec<f64>,
}

/// A query, by its indices.
struct Row {
    batch: usize,
    token: usize,
    head: usize,
}

impl Slots {
    fn rows(&self) -> impl Iterator<Item = Row> {
        let (tokens, heads) = (self.tokens() as usize, self.q_heads as usize);
        (0..self.batch as usize * tokens * heads).map(move |row| Row {
            batch: row / heads / tokens,
            token: row / heads % tokens,
            head: row % heads,
        })
    }

    /// The token that each slot of a token's window stands for, if it is seen.
    fn slot_tokens(&self, token: usize) -> Vec<Option<usize>> {
        let place = coordinates(&self.axes, token);
        self.axes.iter().zip(place).fold(vec![Some(0)], |tokens, (axis, x)| {
            let of_axis = slots(axis, x);
            let extent = axis.extent as usize;
            let join = |token: &Option<usize>, y: &Option<usize>| {
                token.zip(*y).map(|(token, y)| token * extent + y)
            };
            tokens.iter().flat_map(|token| of_axis.iter().map(move |y| join(token, y))).collect()
        })
    }
}

/// `scores [batch, X…, q_heads, slots]`. `inputs` are named and shaped as the problem says, row-major; `plain` rounds as an
/// f32 implementation does.
///
/// # Errors
/// [`SpecError`] for an input that is missing or has another shape or type than the problem's.
pub fn scores_reference(
    problem: &NeighborhoodScoresProblem,
    inputs: &BTreeMap<String, HostTensor>,
    plain: bool,
) -> Result<Vec<f64>, SpecError> {
    let of = &problem.slots;
    let (q, k) = (read_rows(&of.tensors, inputs, "q")?, read_rows(&of.tensors, inputs, "k")?);
    let (a, scale) = (arithmetic(plain, Dtype::F32), f64::from(problem.softmax_scale()));
    let mut scores = Vec::new();
    for Row { batch, token, head } in of.rows() {
        let kv_head = head / of.group_size() as usize;
        for slot in of.slot_tokens(token) {
            let dot = |key| a.dot(q.row(batch, token, head), k.row(batch, key, kv_head));
            let score = slot.map(|key| a.register(scale * dot(key)));
            scores.push(score.unwrap_or(f64::NEG_INFINITY));
        }
    }
    Ok(scores)
}

/// `out [batch, X…, q_heads, value_dim]`; the rest as [`scores_reference`].
///
/// # Errors
/// As [`scores_reference`].
pub fn aggregate_reference(
    problem: &NeighborhoodAggregateProblem,
    inputs: &BTreeMap<String, HostTensor>,
    plain: bool,
) -> Result<AggregateReference, SpecError> {
    let of = &problem.slots;
    let weights = read_rows(&of.tensors, inputs, "weights")?;
    let v = read_rows(&of.tensors, inputs, "v")?;
    let a = arithmetic(plain, problem.spec.out_dtype.unwrap_or(problem.spec.dtype));
    let mut output = AggregateReference { out: Vec::new(), magnitude: Vec::new() };
    for Row { batch, token, head } in of.rows() {
        let kv_head = head / of.group_size() as usize;
        let mut out = vec![(0.0, 0.0_f64); of.dim as usize];
        let row = weights.row(batch, token, head);
        for (slot, weight) in of.slot_tokens(token).into_iter().zip(row) {
            let Some(key) = slot else { continue };
            for ((sum, magnitude), value) in out.iter_mut().zip(v.row(batch, key, kv_head)) {
                *sum = a.register(*sum + a.register(weight * value));
                *magnitude += (weight * value).abs();
            }
        }
        output.magnitude.push(out.iter().map(|(_, magnitude)| *magnitude).fold(0.0, f64::max));
        output.out.extend(out.into_iter().map(|(sum, _)| a.store_out(sum)));
    }
    Ok(output)
}

fn arithmetic(plain: bool, out_dtype: Dtype) -> Arithmetic {
    if plain { Arithmetic::plain(Dtype::F32, out_dtype) } else { Arithmetic::exact() }
}
