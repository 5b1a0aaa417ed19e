//! Neighborhood attention on the CPU: the contract's rule, literally, in f64; and the same as a plain, unfused
//! implementation would compute it, whose error is the measure for the kernels'.

mod rule;

use std::collections::BTreeMap;

use rayon::prelude::*;

use self::rule::tokens_seen;
#[cfg(test)]
pub(super) use self::rule::visible;
pub(super) use self::rule::{coordinates, slots};
use super::problem::NeighborhoodProblem;
use super::snippets;
use crate::error::SpecError;
use crate::fused::arithmetic::{Arithmetic, biased};
use crate::fused::domain::HEAD_GATE;
use crate::fused::{Normaliser, ScoreModifier};
use crate::snippet::Asked;
use crate::snippet::interpret::{Interpreter, Value};
use crate::tensor::check;
use crate::tensor::{HostTensor, TensorDescs};

/// What neighborhood attention gives, on the CPU.
#[derive(Clone, Debug, PartialEq)]
pub struct NeighborhoodReference {
    /// `[batch, X…, q_heads, value_dim]`.
    pub out: Vec<f64>,
    /// `[batch, X…, q_heads]`; empty with the sigmoid normaliser.
    pub lse: Vec<f64>,
    /// `[batch, X…, q_heads]`: the largest |v| among the keys that the row sees.
    pub value_max: Vec<f64>,
}

/// `out` and `lse` by the rule in f64. `inputs` are named and shaped as the problem says, row-major.
///
/// # Errors
/// [`SpecError`] for an input that is missing or has another shape or type than the problem's, and for WGSL of the
/// caller's that the CPU cannot run.
pub fn reference(
    problem: &NeighborhoodProblem,
    inputs: &BTreeMap<String, HostTensor>,
) -> Result<NeighborhoodReference, SpecError> {
    compute(problem, inputs, Arithmetic::exact())
}

/// As [`reference()`], as a plain implementation in the storage dtype computes it: sums and functions in f32; scores
/// and probabilities rounded to the dtype where they would be stored; `out` rounded to its dtype.
///
/// # Errors
/// As [`reference()`].
pub fn plain(
    problem: &NeighborhoodProblem,
    inputs: &BTreeMap<String, HostTensor>,
) -> Result<NeighborhoodReference, SpecError> {
    let dtype = problem.spec.dtype;
    let out = problem.spec.out_dtype.unwrap_or(dtype);
    compute(problem, inputs, Arithmetic::plain(dtype, out))
}

/// Rows of a tensor `[batch, tokens, heads, dim]`.
pub(super) struct Rows {
    values: Vec<f64>,
    tokens: usize,
    heads: usize,
    dim: usize,
}

impl Rows {
    pub fn row(&self, batch: usize, token: usize, head: usize) -> &[f64] {
        let first = ((batch * self.tokens + token) * self.heads + head) * self.dim;
        &self.values[first..first + self.dim]
    }
}

/// A step of the list that changes scores.
enum Change {
    Softcap(f64),
    /// `[batch|1, q_heads|1, tokens|1, tokens|1]`.
    Bias(HostTensor, Vec<f64>),
    Program(Box<Interpreter>),
}

enum Weights {
    /// With a sink's logit by head.
    Softmax(Option<Vec<f64>>),
    Sigmoid {
        bias: f64,
    },
}

/// A key's place, for what is asked of keys that have one.
struct KeyPlace {
    /// Batch, head, and the tokens of query and key.
    index: [usize; 4],
    arguments: Vec<Value>,
}

struct Prepared<'a> {
    problem: &'a NeighborhoodProblem,
    arithmetic: Arithmetic,
    q: Rows,
    k: Rows,
    v: Rows,
    extra: Option<(Rows, Rows)>,
    changes: Vec<Change>,
    mask: Option<Interpreter>,
    weights: Weights,
    /// By row `[batch, tokens, q_heads]`.
    gate: Option<Vec<f64>>,
}

struct Row {
    out: Vec<f64>,
    lse: Option<f64>,
    value_max: f64,
}

fn compute(
    problem: &NeighborhoodProblem,
    inputs: &BTreeMap<String, HostTensor>,
    arithmetic: Arithmetic,
) -> Result<NeighborhoodReference, SpecError> {
    let prepared = Prepared::new(problem, inputs, arithmetic)?;
    let (tokens, heads) = (prepared.q.tokens, problem.extents.q_heads as usize);
    let count = problem.extents.batch as usize * tokens * heads;
    let row = |row: usize| prepared.row(row / heads / tokens, row / heads % tokens, row % heads);
    let rows = (0..count).into_par_iter().map(row).collect::<Result<Vec<Row>, _>>()?;
    Ok(NeighborhoodReference {
        lse: rows.iter().filter_map(|row| row.lse).collect(),
        value_max: rows.iter().map(|row| row.value_max).collect(),
        out: rows.into_iter().flat_map(|row| row.out).collect(),
    })
}

fn find<'t>(
    inputs: &'t BTreeMap<String, HostTensor>,
    name: &str,
) -> Result<&'t HostTensor, SpecError> {
    inputs.get(name).ok_or_else(|| check::missing(name, "the reference"))
}

pub(super) fn read_rows(
    tensors: &TensorDescs,
    inputs: &BTreeMap<String, HostTensor>,
    name: &str,
) -> Result<Rows, SpecError> {
    let tensor = checked(tensors, inputs, name)?;
    let values = tensor.to_f64();
    let [batch, inner @ .., heads, dim] = &tensor.shape[..] else {
        return Err(check::missing(name, "the reference"));
    };
    let tokens = inner.iter().product::<u64>();
    if values.len() as u64 != batch * tokens * heads * dim {
        return Err(SpecError::value(
            name,
            format!("{} elements", batch * tokens * heads * dim),
            values.len(),
        ));
    }
    Ok(Rows { values, tokens: tokens as usize, heads: *heads as usize, dim: *dim as usize })
}

impl<'a> Prepared<'a> {
    fn new(
        problem: &'a NeighborhoodProblem,
        inputs: &BTreeMap<String, HostTensor>,
        arithmetic: Arithmetic,
    ) -> Result<Self, SpecError> {
        let rows = |name: &str| read_rows(&problem.tensors, inputs, name);
        let rank = problem.axes.len();
        let program = |asked: Asked<'_>| {
            let find = |name: &String| Ok((name.clone(), find(inputs, name)?));
            let aux = asked.1.aux.iter().map(find).collect::<Result<Vec<_>, SpecError>>()?;
            Interpreter::of_tensors(asked, &aux, arithmetic.precision())
        };
        let change = |modifier: &ScoreModifier| {
            Ok(match modifier {
                ScoreModifier::Softcap(cap) => Change::Softcap(f64::from(cap.0)),
                ScoreModifier::Bias(name) => {
                    let bias = checked(&problem.tensors, inputs, name)?;
                    Change::Bias(bias.clone(), bias.to_f64())
                }
                ScoreModifier::Wgsl(snippet) => {
                    Change::Program(Box::new(program(snippets::score(snippet, rank))?))
                }
                // The problem refuses it.
                ScoreModifier::Alibi(name) => return Err(check::missing(name, "score.alibi")),
            })
        };
        let values = |name: &str| Ok(checked(&problem.tensors, inputs, name)?.to_f64());
        let weights = match &problem.spec.normaliser {
            Normaliser::Softmax { sink } => {
                Weights::Softmax(sink.as_deref().map(values).transpose()?)
            }
            Normaliser::Sigmoid { bias } => Weights::Sigmoid { bias: f64::from(bias.0) },
        };
        let has_gate = problem.tensors.contains_key(HEAD_GATE);
        let has_extra = problem.extents.extra > 0;
        Ok(Self {
            problem,
            arithmetic,
            q: rows("q")?,
            k: rows("k")?,
            v: rows("v")?,
            extra: has_extra
                .then(|| Ok::<_, SpecError>((rows("extra_k")?, rows("extra_v")?)))
                .transpose()?,
            changes: problem.spec.score.iter().map(change).collect::<Result<_, SpecError>>()?,
            mask: snippets::mask(&problem.spec, rank).map(program).transpose()?,
            weights,
            gate: has_gate.then(|| values(HEAD_GATE)).transpose()?,
        })
    }

    fn row(&self, batch: usize, token: usize, head: usize) -> Result<Row, SpecError> {
        let kept = self.kept(batch, token, head)?;
        let a = self.arithmetic;
        let scores: Vec<f64> = kept.iter().map(|(score, _)| *score).collect();
        let (weights, lse) = match &self.weights {
            Weights::Softmax(sink) => {
                let (weights, lse) = self.softmax(&scores, sink.as_ref().map(|sink| sink[head]));
                (weights, Some(lse))
            }
            Weights::Sigmoid { bias } => (self.sigmoid(&scores, *bias), None),
        };
        let mut out = vec![0.0; self.problem.extents.value_dim as usize];
        let mut value_max = 0.0_f64;
        for (weight, (_, values)) in weights.iter().zip(&kept) {
            for (out, value) in out.iter_mut().zip(*values) {
                *out = a.register(*out + a.register(weight * value));
                value_max = value_max.max(value.abs());
            }
        }
        out.iter_mut().for_each(|out| *out = a.store_out(*out));
        if let Some(gate) = &self.gate {
            let heads = self.problem.extents.q_heads as usize;
            let gate = gate[(batch * self.q.tokens + token) * heads + head];
            let gated =
                |out: f64| if gate == 0.0 { 0.0 } else { a.store_out(a.register(gate * out)) };
            out.iter_mut().for_each(|out| *out = gated(*out));
            value_max *= gate.abs();
        }
        Ok(Row { out, lse, value_max })
    }

    /// `exp(s - lse)` of every key, and `lse = ln Σ exp(s)`, the sink's logit among the summands.
    fn softmax(&self, scores: &[f64], sink: Option<f64>) -> (Vec<f64>, f64) {
        let a = self.arithmetic;
        let all = || scores.iter().copied().chain(sink);
        let max = all().fold(f64::NEG_INFINITY, f64::max);
        if scores.is_empty() && max == f64::NEG_INFINITY {
            return (Vec::new(), f64::NEG_INFINITY);
        }
        let exp = |score: f64| a.register(a.register(score - max).exp());
        let sum = all().fold(0.0, |sum, score| a.register(sum + exp(score)));
        let weights = scores.iter().map(|score| a.store(a.register(exp(*score) / sum)));
        (weights.collect(), a.register(max + a.register(sum.ln())))
    }

    fn sigmoid(&self, scores: &[f64], bias: f64) -> Vec<f64> {
        let a = self.arithmetic;
        let weight = |score: &f64| {
            let exp = a.register((-a.register(score + bias)).exp());
            a.store(a.register(1.0 / a.register(1.0 + exp)))
        };
        scores.iter().map(weight).collect()
    }

    /// Scores and values of the keys that a row keeps: those of its window that the mask keeps, and the extra tokens.
    fn kept(
        &self,
        batch: usize,
        token: usize,
        head: usize,
    ) -> Result<Vec<(f64, &[f64])>, SpecError> {
        let e = &self.problem.extents;
        let axes = self.problem.axes_of_head(head as u32);
        let (kv_head, q) = (head / e.group_size() as usize, self.q.row(batch, token, head));
        let query = coordinates(&axes, token);
        let mut kept = Vec::new();
        for key in tokens_seen(&axes, &query) {
            let at = coordinates(&axes, key);
            let place = KeyPlace {
                index: [batch, head, token, key],
                arguments: snippets::place(batch, head, &query, &at),
            };
            if let Some(mask) = &self.mask
                && !mask.truth(place.arguments.clone(), &no_position)?
            {
                continue;
            }
            let k = self.k.row(batch, key, kv_head);
            let score = self.score(q, k, Some(&place))?;
            kept.push((score, self.v.row(batch, key, kv_head)));
        }
        if let Some((extra_k, extra_v)) = &self.extra {
            for index in 0..e.extra as usize {
                let score = self.score(q, extra_k.row(batch, index, kv_head), None)?;
                kept.push((score, extra_v.row(batch, index, kv_head)));
            }
        }
        kept.retain(|(score, _)| *score != f64::NEG_INFINITY);
        Ok(kept)
    }

    /// A score; extra tokens have no place, and only a softcap changes theirs.
    fn score(&self, q: &[f64], k: &[f64], place: Option<&KeyPlace>) -> Result<f64, SpecError> {
        let a = self.arithmetic;
        let scale = f64::from(self.problem.softmax_scale());
        let mut score = a.store(a.register(scale * a.dot(q, k)));
        for change in &self.changes {
            let changed = match (change, place) {
                (Change::Softcap(cap), _) => cap * (score / cap).tanh(),
                (Change::Bias(bias, values), Some(place)) => {
                    biased(score, values[table_place(&bias.shape, place.index)])
                }
                (Change::Program(program), Some(place)) => {
                    let arguments = [Value::F32(score)].into_iter().chain(place.arguments.clone());
                    program.number(arguments.collect(), &no_position)?
                }
                (Change::Bias(..) | Change::Program(_), None) => continue,
            };
            score = a.store(a.register(changed));
            if score == f64::NEG_INFINITY {
                break; // the key is dropped, whatever modifiers follow
            }
        }
        Ok(score)
    }
}

/// Where an element of a row-major table lies; axes of extent 1 broadcast.
fn table_place(shape: &[u64], index: [usize; 4]) -> usize {
    let axes = shape.iter().zip(index);
    axes.fold(0, |place, (&extent, index)| {
        place * extent as usize + if extent == 1 { 0 } else { index }
    })
}

/// An input that is there, as the problem has it.
fn checked<'t>(
    tensors: &TensorDescs,
    inputs: &'t BTreeMap<String, HostTensor>,
    name: &str,
) -> Result<&'t HostTensor, SpecError> {
    let tensor = find(inputs, name)?;
    let desc = check::find(tensors, name, "the reference")?;
    check::shape(name, &tensor.desc(), desc.shape())?;
    check::element_type(name, &tensor.desc(), &[desc.dtype])?;
    Ok(tensor)
}

/// Signatures of neighborhoods provide no `pos_q`.
fn no_position(_: u32, _: u32) -> i32 {
    0
}
