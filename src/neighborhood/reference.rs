//! Neighborhood attention on the CPU: the contract's rule, literally, in f64; and the same as a plain, unfused
//! implementation would compute it, whose error is the measure for the kernels'.

use std::collections::BTreeMap;

use half::{bf16, f16};
use rayon::prelude::*;

use super::problem::NeighborhoodProblem;
use super::window::Axis;
use crate::error::SpecError;
use crate::tensor::{Dtype, HostTensor};

/// What neighborhood attention gives, on the CPU.
#[derive(Clone, Debug, PartialEq)]
pub struct NeighborhoodReference {
    /// `[batch, X…, q_heads, value_dim]`.
    pub out: Vec<f64>,
    /// `[batch, X…, q_heads]`.
    pub lse: Vec<f64>,
    /// `[batch, X…, q_heads]`: the largest |v| among the keys that the row sees.
    pub value_max: Vec<f64>,
}

/// `out` and `lse` by the rule in f64. `inputs` are named and shaped as the problem says, row-major.
///
/// # Errors
/// [`SpecError`] for an input that is missing or has another shape or type than the problem's.
pub fn reference(
    problem: &NeighborhoodProblem,
    inputs: &BTreeMap<String, HostTensor>,
) -> Result<NeighborhoodReference, SpecError> {
    compute(problem, inputs, Rounding { stored: None })
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
    compute(problem, inputs, Rounding { stored: Some((dtype, out)) })
}

/// The tokens that token `x` of an axis sees, in rising order: the contract's text, line by line.
pub(super) fn visible(axis: &Axis, x: usize) -> Vec<usize> {
    let [extent, w, s, d] = [axis.extent, axis.window, axis.stride, axis.dilation].map(i64::from);
    let x = x as i64;
    let (g, i) = (x % d, x / d);
    let len = (extent - g + d - 1) / d;
    let group = i / s * s;
    let keys = if axis.causal {
        let leader = (group + s - 1).min(len - 1);
        (leader - (w - 1)).max(0)..(i + 1).min(len)
    } else {
        let leader = (group + s / 2).min(len - 1);
        let centred = leader - w / 2;
        if axis.clip {
            centred.max(0)..(centred + w).min(len)
        } else {
            let start = centred.clamp(0, len - w);
            start..start + w
        }
    };
    keys.map(|j| (g + d * j) as usize).collect()
}

/// Where results are rounded: nowhere, or to the type of scores and probabilities and to that of `out`.
#[derive(Clone, Copy)]
struct Rounding {
    stored: Option<(Dtype, Dtype)>,
}

impl Rounding {
    fn register(self, value: f64) -> f64 {
        if self.stored.is_some() { f64::from(value as f32) } else { value }
    }

    fn store(self, value: f64) -> f64 {
        self.stored.map_or(value, |(dtype, _)| round_to(value, dtype))
    }

    fn store_out(self, value: f64) -> f64 {
        self.stored.map_or(value, |(_, dtype)| round_to(value, dtype))
    }

    fn dot(self, a: &[f64], b: &[f64]) -> f64 {
        a.iter().zip(b).fold(0.0, |sum, (a, b)| self.register(sum + self.register(a * b)))
    }
}

fn round_to(value: f64, dtype: Dtype) -> f64 {
    match dtype {
        Dtype::F16 => f16::from_f64(value).to_f64(),
        Dtype::Bf16 => bf16::from_f64(value).to_f64(),
        Dtype::F32 => f64::from(value as f32),
        Dtype::I32 | Dtype::Bool => value,
    }
}

/// Rows of a tensor `[batch, tokens, heads, dim]`.
struct Rows {
    values: Vec<f64>,
    tokens: usize,
    heads: usize,
    dim: usize,
}

impl Rows {
    fn row(&self, batch: usize, token: usize, head: usize) -> &[f64] {
        let first = ((batch * self.tokens + token) * self.heads + head) * self.dim;
        &self.values[first..first + self.dim]
    }
}

struct Question<'a> {
    problem: &'a NeighborhoodProblem,
    rounding: Rounding,
    q: Rows,
    k: Rows,
    v: Rows,
    extra: Option<(Rows, Rows)>,
}

struct Row {
    out: Vec<f64>,
    lse: f64,
    value_max: f64,
}

fn compute(
    problem: &NeighborhoodProblem,
    inputs: &BTreeMap<String, HostTensor>,
    rounding: Rounding,
) -> Result<NeighborhoodReference, SpecError> {
    let rows = |name: &str| read_rows(problem, inputs, name);
    let extra =
        if problem.extents.extra > 0 { Some((rows("extra_k")?, rows("extra_v")?)) } else { None };
    let question =
        Question { problem, rounding, q: rows("q")?, k: rows("k")?, v: rows("v")?, extra };
    let (tokens, heads) = (question.q.tokens, problem.extents.q_heads as usize);
    let count = problem.extents.batch as usize * tokens * heads;
    let row = |row: usize| question.row(row / heads / tokens, row / heads % tokens, row % heads);
    let rows: Vec<Row> = (0..count).into_par_iter().map(row).collect();
    Ok(NeighborhoodReference {
        lse: rows.iter().map(|row| row.lse).collect(),
        value_max: rows.iter().map(|row| row.value_max).collect(),
        out: rows.into_iter().flat_map(|row| row.out).collect(),
    })
}

fn read_rows(
    problem: &NeighborhoodProblem,
    inputs: &BTreeMap<String, HostTensor>,
    name: &str,
) -> Result<Rows, SpecError> {
    let missing = || SpecError::MissingTensor {
        name: name.to_owned(),
        why: "asked for by the reference".to_owned(),
    };
    let (tensor, desc) =
        (inputs.get(name).ok_or_else(missing)?, problem.tensors.get(name).ok_or_else(missing)?);
    if tensor.shape != desc.shape() {
        let expected = format!("shape {:?}", desc.shape());
        return Err(SpecError::value(name, expected, format!("{:?}", tensor.shape)));
    }
    if tensor.dtype != desc.dtype {
        let (tensor, got) = (name.to_owned(), tensor.dtype);
        return Err(SpecError::Dtype { tensor, expected: desc.dtype.to_string(), got });
    }
    let values = tensor.to_f64();
    let [batch, inner @ .., heads, dim] = &tensor.shape[..] else { return Err(missing()) };
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

impl Question<'_> {
    fn row(&self, batch: usize, token: usize, head: usize) -> Row {
        let e = &self.problem.extents;
        let kv_head = head / e.group_size() as usize;
        let mut keys: Vec<(&[f64], &[f64])> = self
            .tokens_seen(token)
            .into_iter()
            .map(|token| (self.k.row(batch, token, kv_head), self.v.row(batch, token, kv_head)))
            .collect();
        if let Some((extra_k, extra_v)) = &self.extra {
            let row = |i| (extra_k.row(batch, i, kv_head), extra_v.row(batch, i, kv_head));
            keys.extend((0..e.extra as usize).map(row));
        }
        let a = self.rounding;
        let q = self.q.row(batch, token, head);
        let scale = f64::from(self.problem.softmax_scale());
        let scores: Vec<f64> =
            keys.iter().map(|(k, _)| a.store(a.register(scale * a.dot(q, k)))).collect();
        let max = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let exp = |score: &f64| a.register(a.register(score - max).exp());
        let sum = scores.iter().fold(0.0, |sum, score| a.register(sum + exp(score)));
        let mut out = vec![0.0; e.value_dim as usize];
        let mut value_max = 0.0_f64;
        for (score, (_, values)) in scores.iter().zip(&keys) {
            let weight = a.store(a.register(exp(score) / sum));
            for (out, value) in out.iter_mut().zip(*values) {
                *out = a.register(*out + a.register(weight * value));
                value_max = value_max.max(value.abs());
            }
        }
        out.iter_mut().for_each(|out| *out = a.store_out(*out));
        Row { out, lse: a.register(max + a.register(sum.ln())), value_max }
    }

    /// The product of what the axes see, as tokens in row-major order.
    fn tokens_seen(&self, token: usize) -> Vec<usize> {
        let axes = &self.problem.axes;
        let mut rest = token;
        let mut places = vec![0; axes.len()];
        for (place, axis) in places.iter_mut().zip(axes).rev() {
            *place = rest % axis.extent as usize;
            rest /= axis.extent as usize;
        }
        axes.iter().zip(places).fold(vec![0], |tokens, (axis, x)| {
            let seen = visible(axis, x);
            let extent = axis.extent as usize;
            tokens.iter().flat_map(|token| seen.iter().map(move |y| token * extent + y)).collect()
        })
    }
}
