//! The question, checked: every extent known, every tensor's shape and type right.

use std::collections::BTreeSet;
use std::fmt;

use ordered_float::OrderedFloat;

use super::gate::{HEAD_GATE, check_gate};
use super::score::{Normaliser, ScoreModifier};
use super::side::{SideTensor, check_per_head_masks, check_side, side_tensors};
use super::snippets;
use super::spec::{AttentionOutput, AttentionSpec};
use super::storage::{Storage, check_tables, sequences};
use crate::error::{Error, SpecError};
use crate::operator::command_line;
use crate::snippet::parse_with;
use crate::tensor::check::{self, Output, missing};
use crate::tensor::{Dtype, Layout, TensorDesc};

pub use crate::fused::MAX_HEAD_DIM;
pub use crate::tensor::TensorDescs;

/// Largest extent of every other axis, and largest distance of `q_offset` from 0: positions and their sums with
/// mask counts stay within i32.
pub const MAX_SEQ_LEN: u32 = 1 << 29;

/// An attention question with every extent, stride and type known and checked; made by [`AttentionProblem::new`].
///
/// Only this crate changes one, since kernels run without bounds checks on what it says:
///
/// ```compile_fail,E0616
/// fn changed(mut problem: tilewise::attention::AttentionProblem) {
///     problem.extents.seq_len_kv *= 2;
/// }
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct AttentionProblem {
    pub(crate) spec: AttentionSpec,
    pub(crate) storage: Storage,
    pub(crate) extents: AttentionExtents,
    pub(crate) tensors: TensorDescs,
}

/// The extents of an attention.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct AttentionExtents {
    /// Batches of q: sequences, or 1 that holds all packed ones.
    pub batch: u32,
    /// Number of sequences.
    pub sequences: u32,
    /// Heads of q and out.
    pub q_heads: u32,
    /// Heads of k and v.
    pub kv_heads: u32,
    /// Queries a batch.
    pub seq_len_q: u32,
    /// Keys a batch, at most.
    pub seq_len_kv: u32,
    /// Elements of a query and of a key.
    pub head_dim: u32,
    /// Elements of a value.
    pub value_dim: u32,
    /// Keys of the shared prefix; 0 without one.
    pub prefix_len: u32,
}

impl AttentionExtents {
    /// Query heads that share a key head.
    pub const fn group_size(&self) -> u32 {
        self.q_heads / self.kv_heads
    }
}

impl AttentionProblem {
    /// Checks a question against the tensors it is asked of. `tensors` holds the inputs by their contract names and,
    /// where the caller has buffers for them, `out` and `lse`; outputs that are absent are laid out without gaps.
    ///
    /// # Errors
    /// [`SpecError`] names what is wrong; [`PlanError::Unsupported`](crate::error::PlanError::Unsupported) what is right
    /// but not built.
    pub fn new(spec: &AttentionSpec, tensors: &TensorDescs) -> Result<Self, Error> {
        check::all_within_u64(tensors)?;
        let storage = Storage::of(tensors)?;
        let spec = with_implied_modifiers(spec, tensors);
        check_numbers(&spec)?;
        let mut tensors = tensors.clone();
        for name in storage.core() {
            let desc = tensors.get_mut(name).ok_or_else(|| missing(name, "attention"))?;
            check_core(name, desc, spec.dtype, storage)?;
            desc.layout = storage.inward(name, &desc.layout, spec.layout);
        }
        let mut extents = extents_of(&spec, &tensors, storage)?;
        extents.prefix_len = check_prefix(&spec, &tensors, &extents)?;
        let spec = with_extents(spec, &extents);
        let mut known: BTreeSet<&str> = BTreeSet::from(["out", "lse"]);
        known.extend(storage.core());
        if extents.prefix_len > 0 || tensors.contains_key("prefix_k") {
            known.extend(["prefix_k", "prefix_v"]);
        }
        if let Some(desc) = tensors.get_mut(HEAD_GATE) {
            desc.layout = storage.inward(HEAD_GATE, &desc.layout, spec.layout);
            check_gate(desc, &spec, &extents)?;
            known.insert(HEAD_GATE);
        }
        let sides = side_tensors(&spec, &tensors);
        check_tables(storage, &sides)?;
        for side in &sides {
            let desc = tensors.get(&side.name).ok_or_else(|| missing(&side.name, side.field))?;
            check_side(side, desc, &spec, &extents)?;
            known.insert(&side.name);
        }
        check_per_head_masks(&spec, &extents)?;
        for snippet in snippets::of_spec(&spec) {
            parse_with(&tensors, snippet)?;
        }
        check_outputs(&spec, &extents, storage, &mut tensors)?;
        tensors.retain(|name, _| known.contains(name.as_str()));
        Ok(Self { spec, storage, extents, tensors })
    }

    /// The caller's spec with its defaults filled in: scale, extents, and the modifiers that tensors imply.
    pub const fn spec(&self) -> &AttentionSpec {
        &self.spec
    }

    /// Where queries and keys lie.
    pub const fn storage(&self) -> Storage {
        self.storage
    }

    /// The extents.
    pub const fn extents(&self) -> &AttentionExtents {
        &self.extents
    }

    /// Every tensor, inputs and outputs; q, k, v and out with axes in the order batch, head, seq, dim. Packed tensors
    /// have one batch, pages are batches of keys.
    pub const fn descs(&self) -> &TensorDescs {
        &self.tensors
    }

    /// The tensors beside q, k, v, the prefix, the gate and the outputs, in the order in which the spec names them.
    pub fn side_tensors(&self) -> Vec<SideTensor> {
        side_tensors(&self.spec, &self.tensors)
    }

    /// Whether an output was asked for.
    pub fn wants(&self, output: AttentionOutput) -> bool {
        self.spec.outputs.contains(&output)
    }

    /// `softmax_scale`, resolved.
    pub fn softmax_scale(&self) -> f32 {
        self.spec.softmax_scale.map_or(1.0, OrderedFloat::into_inner)
    }

    /// Multiply-adds times two that the mask leaves at most: `2 · rows · keys · (head_dim + value_dim)`; of packed
    /// sequences as if all were of one length.
    pub fn dense_flops(&self) -> f64 {
        let e = &self.extents;
        let rows = f64::from(e.batch) * f64::from(e.q_heads) * f64::from(e.seq_len_q);
        let [_, keys] = self.typical_lens();
        let keys = keys as f64 + f64::from(e.prefix_len);
        2.0 * rows * keys * (f64::from(e.head_dim) + f64::from(e.value_dim))
    }
}

/// A command line that reproduces the question.
impl fmt::Display for AttentionProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        command_line(f, "explain", "attention", &self.spec)
    }
}

/// `bias`, `alibi_slopes` and `sink_logits` count by being there, as the contract says; named ones keep their place.
fn with_implied_modifiers(spec: &AttentionSpec, tensors: &TensorDescs) -> AttentionSpec {
    let mut spec = spec.clone();
    let names = |m: &ScoreModifier, wanted: &str| matches!(m, ScoreModifier::Bias(name) | ScoreModifier::Alibi(name) if name == wanted);
    let absent = |spec: &AttentionSpec, name: &str| {
        tensors.contains_key(name) && !spec.score.iter().any(|m| names(m, name))
    };
    if absent(&spec, "bias") {
        spec.score.push(ScoreModifier::Bias("bias".to_owned()));
    }
    if absent(&spec, "alibi_slopes") {
        spec.score.push(ScoreModifier::Alibi("alibi_slopes".to_owned()));
    }
    if let Normaliser::Softmax { sink: sink @ None } = &mut spec.normaliser
        && tensors.contains_key("sink_logits")
    {
        *sink = Some("sink_logits".to_owned());
    }
    spec
}

fn check_numbers(spec: &AttentionSpec) -> Result<(), SpecError> {
    check::float_dtypes(spec.dtype, spec.out_dtype)?;
    check::finite("softmax_scale", spec.softmax_scale)?;
    if let Some(q_offset) = spec.q_offset
        && q_offset.unsigned_abs() > MAX_SEQ_LEN
    {
        return Err(SpecError::value("q_offset", format!("within ±{MAX_SEQ_LEN}"), q_offset));
    }
    for modifier in &spec.score {
        if let ScoreModifier::Softcap(cap) = modifier {
            check::softcap(*cap)?;
        }
    }
    if let Normaliser::Sigmoid { bias } = &spec.normaliser {
        check::finite("normaliser.sigmoid.bias", Some(*bias))?;
        if spec.outputs.contains(&AttentionOutput::Lse) {
            let got = "lse with the sigmoid normaliser, which has no denominator";
            return Err(SpecError::value("outputs", "out alone", got));
        }
    }
    if spec.outputs.is_empty() {
        return Err(SpecError::value("outputs", "at least one of out, lse", "none"));
    }
    Ok(())
}

fn check_core(
    name: &str,
    desc: &TensorDesc,
    dtype: Dtype,
    storage: Storage,
) -> Result<(), SpecError> {
    let (axes, expected) = storage.axes();
    if desc.shape().len() != axes {
        return Err(SpecError::value(name, expected, format!("shape {:?}", desc.shape())));
    }
    check::rows(name, desc, dtype)
}

/// Reads the extents off q, k and v and holds them against each other and the spec.
fn extents_of(
    spec: &AttentionSpec,
    tensors: &TensorDescs,
    storage: Storage,
) -> Result<AttentionExtents, SpecError> {
    let [_, keys, values] = storage.core();
    let [q, k, v] = storage.core().map(|name| tensors[name].shape());
    if storage == Storage::Paged {
        check::equal("pages", (values, v[0]), (keys, k[0]))?;
        check::equal("page_size", (values, v[2]), (keys, k[2]))?;
    } else {
        check::equal("batch", (keys, k[0]), ("q", q[0]))?;
        check::equal("batch", (values, v[0]), ("q", q[0]))?;
        check::equal("seq_len_kv", (values, v[2]), (keys, k[2]))?;
    }
    check::equal("head_dim", (keys, k[3]), ("q", q[3]))?;
    check::equal("kv_heads", (values, v[1]), (keys, k[1]))?;
    let (sequences, seq_len_kv) = sequences(storage, tensors, q[0], k)?;
    let (some, dims) = (1..=MAX_SEQ_LEN, 1..=MAX_HEAD_DIM);
    let any = 0..=MAX_SEQ_LEN;
    let extents = AttentionExtents {
        batch: check::extent("batch", None, q[0], any.clone())?,
        sequences: check::extent("batch", spec.batch, sequences, any.clone())?,
        q_heads: check::extent("q_heads", spec.q_heads, q[1], some.clone())?,
        kv_heads: check::extent("kv_heads", spec.kv_heads, k[1], some)?,
        seq_len_q: check::extent("seq_len_q", spec.seq_len_q, q[2], any.clone())?,
        seq_len_kv: check::extent("seq_len_kv", spec.seq_len_kv, seq_len_kv, any)?,
        head_dim: check::extent("head_dim", spec.head_dim, q[3], dims.clone())?,
        value_dim: check::extent("value_dim", spec.value_dim, v[3], dims)?,
        prefix_len: 0,
    };
    check::heads_divide(extents.q_heads, extents.kv_heads)?;
    Ok(extents)
}

fn with_extents(spec: AttentionSpec, extents: &AttentionExtents) -> AttentionSpec {
    let default_scale = OrderedFloat(1.0 / (extents.head_dim as f32).sqrt());
    AttentionSpec {
        out_dtype: Some(spec.out_dtype.unwrap_or(spec.dtype)),
        softmax_scale: Some(spec.softmax_scale.unwrap_or(default_scale)),
        batch: Some(extents.sequences),
        q_heads: Some(extents.q_heads),
        kv_heads: Some(extents.kv_heads),
        seq_len_q: Some(extents.seq_len_q),
        seq_len_kv: Some(extents.seq_len_kv),
        head_dim: Some(extents.head_dim),
        value_dim: Some(extents.value_dim),
        ..spec
    }
}

/// The length of the shared prefix `[kv_heads, prefix_len, dim]`.
fn check_prefix(
    spec: &AttentionSpec,
    tensors: &TensorDescs,
    extents: &AttentionExtents,
) -> Result<u32, SpecError> {
    let (k, v) = match (tensors.get("prefix_k"), tensors.get("prefix_v")) {
        (None, None) => return Ok(0),
        (Some(k), Some(v)) => (k, v),
        (None, Some(_)) => return Err(missing("prefix_k", "prefix_v")),
        (Some(_), None) => return Err(missing("prefix_v", "prefix_k")),
    };
    let length = k.shape().get(1).copied().unwrap_or(0);
    for (name, desc, dim) in [("prefix_k", k, extents.head_dim), ("prefix_v", v, extents.value_dim)]
    {
        let expected = [u64::from(extents.kv_heads), length, u64::from(dim)];
        if desc.shape() != expected {
            let expected = format!("shape {expected:?} (kv_heads, prefix_len, dim)");
            return Err(SpecError::value(name, expected, format!("{:?}", desc.shape())));
        }
        check::rows(name, desc, spec.dtype)?;
    }
    let most = u64::from(MAX_SEQ_LEN - extents.seq_len_kv);
    if length > most {
        return Err(SpecError::value("prefix_len", format!("0 to {most}"), length));
    }
    // Their tables and arguments are indexed by keys of k and v; a prefix key has no such index.
    for modifier in &spec.score {
        let form = match modifier {
            ScoreModifier::Bias(_) => "bias",
            ScoreModifier::Wgsl(_) => "wgsl",
            ScoreModifier::Softcap(_) | ScoreModifier::Alibi(_) => continue,
        };
        let expected = "softcap or alibi beside a shared prefix (prefix keys have no index)";
        return Err(SpecError::value("score", expected, form));
    }
    Ok(length as u32)
}

/// Holds the outputs that the caller brings against the question; lays out those it does not.
fn check_outputs(
    spec: &AttentionSpec,
    extents: &AttentionExtents,
    storage: Storage,
    tensors: &mut TensorDescs,
) -> Result<(), SpecError> {
    let [batch, heads] = [extents.batch, extents.q_heads].map(u64::from);
    let [seq, dim] = [extents.seq_len_q, extents.value_dim].map(u64::from);
    let shape = |name: &str, shape: &[u64]| {
        storage.outward(name, &Layout::contiguous(shape), spec.layout).shape().to_vec()
    };
    let out_shape = shape("out", &[batch, heads, seq, dim]);
    let lse_shape = shape("lse", &[batch, heads, seq]);
    let out_dtype = spec.out_dtype.unwrap_or(spec.dtype);
    let wants = |output| spec.outputs.contains(&output);
    let output = |name, wanted, dtype, shape| Output { name, wanted, dtype, shape, by_rows: true };
    check::output(tensors, &output("out", wants(AttentionOutput::Out), out_dtype, &out_shape))?;
    check::output(tensors, &output("lse", wants(AttentionOutput::Lse), Dtype::F32, &lse_shape))?;
    for name in ["out", "lse"] {
        if let Some(desc) = tensors.get_mut(name) {
            desc.layout = storage.inward(name, &desc.layout, spec.layout);
        }
    }
    Ok(())
}
