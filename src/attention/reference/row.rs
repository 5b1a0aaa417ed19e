//! One query's row: scores, weights, sums.

use std::collections::BTreeMap;

use super::mask::{Keeps, Place};
use super::places::Places;
use super::score::{Change, Key};
use super::tables::{Inputs, Table};
use crate::attention::extents::AttentionExtents;
use crate::attention::problem::AttentionProblem;
use crate::attention::spec::AttentionSpec;
use crate::error::SpecError;
use crate::fused::Normaliser;
use crate::fused::arithmetic::Arithmetic;
use crate::tensor::HostTensor;

/// The problem with every tensor read.
pub(super) struct RowReference {
    extents: AttentionExtents,
    arithmetic: Arithmetic,
    q: Table,
    k: Table,
    v: Table,
    prefix: Option<(Table, Table)>,
    gate: Option<Table>,
    places: Places,
    /// Position of query 0, by sequence.
    q_offsets: Vec<i64>,
    softmax_scale: f64,
    changes: Vec<Change>,
    mask: Keeps,
    weights: Weights,
}

enum Weights {
    Softmax { sink: Option<Table> },
    Sigmoid { bias: f64 },
}

impl Weights {
    fn new(normaliser: &Normaliser, inputs: &Inputs<'_>) -> Result<Self, SpecError> {
        Ok(match normaliser {
            Normaliser::Softmax { sink } => {
                Self::Softmax { sink: sink.as_ref().map(|name| inputs.table(name)).transpose()? }
            }
            Normaliser::Sigmoid { bias } => Self::Sigmoid { bias: f64::from(bias.0) },
        })
    }
}

/// What a row gives.
pub(super) struct Row {
    pub(super) out: Vec<f64>,
    pub(super) lse: Option<f64>,
    pub(super) value_max: f64,
}

/// A key that the row keeps.
struct Kept<'a> {
    score: f64,
    value: &'a [f64],
}

impl RowReference {
    pub(super) fn new(
        problem: &AttentionProblem,
        tensors: &BTreeMap<String, HostTensor>,
        arithmetic: Arithmetic,
    ) -> Result<Self, SpecError> {
        let inputs = Inputs { problem, tensors };
        let extents = problem.extents;
        // No `..`: an option that is new must be dealt with here.
        let AttentionSpec {
            dtype: _,
            out_dtype: _,
            layout: _,
            softmax_scale: _,
            q_offset,
            score,
            mask,
            normaliser,
            outputs: _,
            batch: _,
            q_heads: _,
            kv_heads: _,
            seq_len_q: _,
            seq_len_kv: _,
            head_dim: _,
            value_dim: _,
        } = &problem.spec;
        let places = Places::new(&inputs)?;
        let offset = |sequence: usize| match q_offset {
            Some(offset) => i64::from(*offset),
            None => places.kv_len(sequence) as i64 - places.q_len(sequence) as i64,
        };
        let [q, k, v] = problem.storage.core();
        let changes = score.iter().map(|modifier| Change::new(modifier, &inputs, arithmetic));
        Ok(Self {
            extents,
            arithmetic,
            q: inputs.core(q)?,
            k: inputs.core(k)?,
            v: inputs.core(v)?,
            prefix: prefix(&inputs)?,
            gate: inputs.has("head_gate").then(|| inputs.core("head_gate")).transpose()?,
            q_offsets: (0..extents.sequences as usize).map(offset).collect(),
            places,
            softmax_scale: f64::from(problem.softmax_scale()),
            changes: changes.collect::<Result<_, _>>()?,
            mask: Keeps::new(mask, &inputs, arithmetic.precision())?,
            weights: Weights::new(normaliser, &inputs)?,
        })
    }

    /// The row of a query that lies at `place` of its batch; of none where no packed sequence has it.
    pub(super) fn row(&self, batch: usize, head: usize, place: usize) -> Result<Row, SpecError> {
        let Some((sequence, q_index)) = self.places.query(batch, place) else {
            let out = vec![0.0; self.extents.value_dim as usize];
            let has_lse = matches!(self.weights, Weights::Softmax { .. });
            return Ok(Row { out, lse: has_lse.then_some(f64::NEG_INFINITY), value_max: 0.0 });
        };
        let q = self.q.vector(&[batch, head, place]);
        let kept = self.kept(sequence, head, q_index, q)?;
        let (weights, lse) = match &self.weights {
            Weights::Softmax { sink } => {
                let sink = sink.as_ref().map(|sink| sink.at(&[head]));
                let (weights, lse) = self.softmax(&kept, sink);
                (weights, Some(lse))
            }
            Weights::Sigmoid { bias } => (self.sigmoid(&kept, *bias), None),
        };
        let a = self.arithmetic;
        let mut out = vec![0.0; self.extents.value_dim as usize];
        let mut value_max = 0.0_f64;
        for (weight, key) in weights.iter().zip(&kept) {
            for (out, value) in out.iter_mut().zip(key.value) {
                *out = a.register(*out + a.register(weight * value));
                value_max = value_max.max(value.abs());
            }
        }
        out.iter_mut().for_each(|out| *out = a.store_out(*out));
        if let Some(gate) = &self.gate {
            let gate = gate.at(&[batch, head, place]);
            let gated =
                |out: f64| if gate == 0.0 { 0.0 } else { a.store_out(a.register(gate * out)) };
            out.iter_mut().for_each(|out| *out = gated(*out));
            value_max *= gate.abs();
        }
        Ok(Row { out, lse, value_max })
    }

    /// The keys that exist, pass the mask and have no -inf bias, with their scores.
    fn kept(
        &self,
        batch: usize,
        head: usize,
        q_index: usize,
        q: &[f64],
    ) -> Result<Vec<Kept<'_>>, SpecError> {
        let kv_head = head / self.extents.group_size() as usize;
        let pos_q = q_index as i64 + self.q_offsets[batch];
        let mut place = Place { batch, head, q_index, kv_index: 0, pos_q };
        let mut kept = Vec::new();
        if let Some((prefix_k, prefix_v)) = &self.prefix {
            for index in 0..self.extents.prefix_len as usize {
                let pos_kv = index as i64 - i64::from(self.extents.prefix_len);
                let score = self.score(
                    q,
                    prefix_k.vector(&[kv_head, index]),
                    &place,
                    Key::Prefix { pos_kv },
                )?;
                kept.push(Kept { score, value: prefix_v.vector(&[kv_head, index]) });
            }
        }
        for kv_index in 0..self.places.kv_len(batch) {
            place.kv_index = kv_index;
            if self.mask.keeps(&place, &|b, q| self.position(b, q))? {
                let [of, at] = self.places.key(batch, kv_index);
                let k = self.k.vector(&[of, kv_head, at]);
                let score = self.score(q, k, &place, Key::Own)?;
                kept.push(Kept { score, value: self.v.vector(&[of, kv_head, at]) });
            }
        }
        kept.retain(|key| key.score != f64::NEG_INFINITY);
        Ok(kept)
    }

    /// Whether a query sees a key, of batches.
    #[cfg(test)]
    pub(super) fn sees(
        &self,
        [batch, head, q_index, kv_index]: [usize; 4],
    ) -> Result<bool, SpecError> {
        let pos_q = q_index as i64 + self.q_offsets[batch];
        let place = Place { batch, head, q_index, kv_index, pos_q };
        let exists = kv_index < self.places.kv_len(batch);
        Ok(exists && self.mask.keeps(&place, &|b, q| self.position(b, q))?)
    }

    fn score(&self, q: &[f64], k: &[f64], place: &Place, key: Key) -> Result<f64, SpecError> {
        let a = self.arithmetic;
        let mut score = a.store(a.register(self.softmax_scale * a.dot(q, k)));
        for change in &self.changes {
            let changed = change.apply(score, place, key, &|b, q| self.position(b, q))?;
            score = a.store(a.register(changed));
            if score == f64::NEG_INFINITY {
                break;
            }
        }
        Ok(score)
    }

    /// `exp(s - lse)` of every key, and `lse = ln Σ exp(s)`, the sink's logit among the summands.
    fn softmax(&self, kept: &[Kept<'_>], sink: Option<f64>) -> (Vec<f64>, f64) {
        let a = self.arithmetic;
        let scores = kept.iter().map(|key| key.score);
        let max = scores.clone().chain(sink).fold(f64::NEG_INFINITY, f64::max);
        // No key and no sink, or only a sink of -inf; NaN scores do not count as absence.
        if kept.is_empty() && max == f64::NEG_INFINITY {
            return (Vec::new(), f64::NEG_INFINITY);
        }
        let exp = |score: f64| a.register(a.register(score - max).exp());
        let sum = scores.clone().chain(sink).fold(0.0, |sum, score| a.register(sum + exp(score)));
        let weights = scores.map(|score| a.store(a.register(exp(score) / sum)));
        (weights.collect(), a.register(max + a.register(sum.ln())))
    }

    fn sigmoid(&self, kept: &[Kept<'_>], bias: f64) -> Vec<f64> {
        let a = self.arithmetic;
        let weight = |score: f64| {
            let exp = a.register((-a.register(score + bias)).exp());
            a.store(a.register(1.0 / a.register(1.0 + exp)))
        };
        kept.iter().map(|key| weight(key.score)).collect()
    }

    /// `pos_q` of the caller's WGSL; beyond the last batch, the last one's.
    fn position(&self, batch: u32, q_index: u32) -> i32 {
        let last = self.q_offsets.len().saturating_sub(1);
        let offset = self.q_offsets.get(last.min(batch as usize)).copied().unwrap_or(0);
        (q_index as i32).wrapping_add(offset as i32)
    }
}

/// Keys and values of the shared prefix, `[kv_heads, prefix_len, dim]`.
fn prefix(inputs: &Inputs<'_>) -> Result<Option<(Table, Table)>, SpecError> {
    match inputs.has("prefix_k") {
        true => Ok(Some((inputs.table("prefix_k")?, inputs.table("prefix_v")?))),
        false => Ok(None),
    }
}
