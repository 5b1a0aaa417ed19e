//! The problem, checked: every extent known, every tensor's shape and type right.

use std::fmt;

use ordered_float::OrderedFloat;

use super::extents::{AttentionExtents, MAX_SEQ_LEN, PageExtents};
use super::roles::{
    HEAD_GATE, NamedRole, Role, check_per_head_masks, check_role, check_tables, extra_inputs,
};
use super::snippets;
use super::spec::{AttentionOutput, AttentionSpec};
use super::storage::{KeyStorage, QueryStorage, Storage, pages_of_sequence, sequences};
use crate::error::{Error, SpecError};
use crate::fused::{MAX_HEAD_DIM, Normaliser, ScoreModifier};
use crate::operator::{Spec, command_line};
use crate::snippet::parse_with;
use crate::tensor::check::{self, Output, missing};
use crate::tensor::{Dtype, Layout, TensorDesc, TensorDescs};

/// An attention problem with every extent, stride and type known and checked; made by [`AttentionProblem::new`].
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
    roles: Vec<NamedRole>,
}

impl Spec for AttentionSpec {
    type Problem = AttentionProblem;

    fn ask(&self, tensors: &TensorDescs) -> Result<AttentionProblem, Error> {
        AttentionProblem::new(self, tensors)
    }
}

impl AttentionProblem {
    /// Checks a spec against tensors. `tensors` holds the inputs by their contract names and, where the caller has
    /// buffers for them, `out` and `lse`; outputs that are absent are laid out without gaps.
    ///
    /// # Errors
    /// [`SpecError`] names what is wrong; [`PlanError::Unsupported`](crate::error::PlanError::Unsupported) what is right
    /// but not built.
    pub fn new(spec: &AttentionSpec, tensors: &TensorDescs) -> Result<Self, Error> {
        check::all_within_u64(tensors)?;
        let storage = Storage::of(tensors)?;
        let spec = with_implied_modifiers(spec, tensors);
        check_numbers(&spec)?;
        spec.mask.check_size()?;
        let mut tensors = tensors.clone();
        for (name, role) in storage.core().into_iter().zip(CORE) {
            let desc = tensors.get_mut(name).ok_or_else(|| missing(name, "attention"))?;
            check_core(name, desc, spec.dtype, role.axes_in_words(storage))?;
            desc.layout = role.inward(storage, &desc.layout, spec.layout);
        }
        let mut extents = extents_of(&spec, &tensors, storage)?;
        extents.prefix_len = check_prefix(&spec, &tensors, &extents)?;
        let spec = with_extents(spec, &extents);
        let extras = extra_inputs(&spec, &tensors);
        check_tables(storage, &extras)?;
        let mut roles = core_roles(storage, &tensors);
        roles.extend(extras);
        for named in roles.iter().filter(|named| !CORE.contains(&named.role)) {
            let name = &named.name;
            let desc = tensors.get_mut(name).ok_or_else(|| missing(name, named.field))?;
            if named.role == Role::HeadGate {
                desc.layout = named.role.inward(storage, &desc.layout, spec.layout);
            }
            check_role(named, desc, (&spec, &extents, storage))?;
        }
        check_per_head_masks(&spec, &extents)?;
        for snippet in snippets::of_spec(&spec) {
            parse_with(&tensors, snippet)?;
        }
        check_outputs(&spec, &extents, storage, &mut tensors)?;
        roles.extend(outputs().into_iter().filter(|named| tensors.contains_key(&named.name)));
        tensors.retain(|name, _| roles.iter().any(|named| named.name == *name));
        Ok(Self { spec, storage, extents, tensors, roles })
    }

    /// The caller's spec with its defaults filled in: scale, extents, and the modifiers that tensors imply.
    pub fn spec(&self) -> &AttentionSpec {
        &self.spec
    }

    /// Where queries and keys lie.
    pub fn storage(&self) -> Storage {
        self.storage
    }

    /// The extents.
    pub fn extents(&self) -> &AttentionExtents {
        &self.extents
    }

    /// Every tensor, inputs and outputs; q, k, v and out with axes in the order batch, head, seq, dim. Packed tensors
    /// have one batch, pages are batches of keys.
    pub fn descs(&self) -> &TensorDescs {
        &self.tensors
    }

    /// What each tensor is for: the core's, then the extra inputs in the order in which the spec names them, then the
    /// outputs. A tensor that is used twice is there twice.
    pub fn roles(&self) -> &[NamedRole] {
        &self.roles
    }

    /// What a tensor is for.
    pub fn role(&self, name: &str) -> Option<Role> {
        self.roles.iter().find(|named| named.name == name).map(|named| named.role)
    }

    /// The tensors beside q, k, v, the prefix, the gate and the outputs.
    pub(super) fn extra_inputs(&self) -> impl Iterator<Item = &NamedRole> {
        self.roles.iter().filter(|named| !named.role.is_core())
    }

    /// A tensor's layout with its axes in the caller's order.
    pub(super) fn callers_layout(&self, name: &str) -> Layout {
        let layout = &self.tensors[name].layout;
        match self.role(name) {
            Some(role) => role.outward(self.storage, layout, self.spec.layout),
            None => layout.clone(),
        }
    }

    /// Whether an output was asked for.
    pub fn wants(&self, output: AttentionOutput) -> bool {
        self.spec.outputs.contains(&output)
    }

    /// `softmax_scale`, resolved.
    pub fn softmax_scale(&self) -> f32 {
        self.spec.softmax_scale.map_or(1.0, OrderedFloat::into_inner)
    }

    /// Whether sequences may have fewer keys than the extents say.
    pub(super) fn has_own_lens(&self) -> bool {
        self.storage != Storage::default() || self.tensors.contains_key("kv_lens")
    }

    /// Rows of q that a sequence has, and keys: of packed ones the mean, rounded up.
    pub(super) fn typical_lens(&self) -> [u64; 2] {
        let e = &self.extents;
        let mean = |total: u32| u64::from(total).div_ceil(u64::from(e.sequences).max(1));
        let queries = match self.storage.queries {
            QueryStorage::Batched => u64::from(e.seq_len_q),
            QueryStorage::Packed => mean(e.seq_len_q),
        };
        let keys = match self.storage.keys {
            KeyStorage::Batched | KeyStorage::Paged => u64::from(e.seq_len_kv),
            KeyStorage::Packed => mean(e.seq_len_kv),
        };
        [queries, keys]
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

/// Inputs that every problem has.
const CORE: [Role; 3] = [Role::Queries, Role::Keys, Role::Values];

fn named(name: &'static str, role: Role) -> NamedRole {
    NamedRole { name: name.to_owned(), role, field: name }
}

/// The inputs that the spec does not name.
fn core_roles(storage: Storage, tensors: &TensorDescs) -> Vec<NamedRole> {
    let core = storage.core().into_iter().zip(CORE).map(|(name, role)| named(name, role));
    let others = [
        ("prefix_k", Role::PrefixKeys),
        ("prefix_v", Role::PrefixValues),
        (HEAD_GATE, Role::HeadGate),
    ];
    let given = others.into_iter().filter(|(name, _)| tensors.contains_key(*name));
    core.chain(given.map(|(name, role)| named(name, role))).collect()
}

fn outputs() -> [NamedRole; 2] {
    [named("out", Role::Out), named("lse", Role::Lse)]
}

/// A command line that reproduces the problem.
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
    (axes, expected): (usize, &str),
) -> Result<(), SpecError> {
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
    let [q, k, v] = storage.core().map(|name| tensors[name].shape());
    check_keys_and_values(tensors, storage)?;
    let sequences = sequences(storage, tensors, q[0])?;
    let pages = page_extents(tensors, storage)?;
    let seq_len_kv = match storage.keys {
        KeyStorage::Batched | KeyStorage::Packed => k[2],
        // Without pages there are no keys, whatever the table says.
        KeyStorage::Paged if pages.count == 0 => 0,
        KeyStorage::Paged => u64::from(pages.of_sequence) * u64::from(pages.size),
    };
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
        pages,
    };
    check::heads_divide(extents.q_heads, extents.kv_heads)?;
    Ok(extents)
}

fn check_keys_and_values(tensors: &TensorDescs, storage: Storage) -> Result<(), SpecError> {
    let [_, keys, values] = storage.core();
    let [q, k, v] = storage.core().map(|name| tensors[name].shape());
    if storage.keys == KeyStorage::Paged {
        check::equal("pages", (values, v[0]), (keys, k[0]))?;
        check::equal("page_size", (values, v[2]), (keys, k[2]))?;
    } else {
        check::equal("batch", (keys, k[0]), ("q", q[0]))?;
        check::equal("batch", (values, v[0]), ("q", q[0]))?;
        check::equal("seq_len_kv", (values, v[2]), (keys, k[2]))?;
    }
    check::equal("head_dim", (keys, k[3]), ("q", q[3]))?;
    check::equal("kv_heads", (values, v[1]), (keys, k[1]))
}

fn page_extents(tensors: &TensorDescs, storage: Storage) -> Result<PageExtents, SpecError> {
    if storage.keys != KeyStorage::Paged {
        return Ok(PageExtents::default());
    }
    let k = tensors["k_pages"].shape();
    let of_sequence = pages_of_sequence(tensors, k[2])?;
    let any = 0..=MAX_SEQ_LEN;
    Ok(PageExtents {
        count: check::extent("pages", None, k[0], any.clone())?,
        size: k[2] as u32,
        of_sequence: check::extent("max_pages", None, of_sequence, any)?,
    })
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
    for (name, desc) in [("prefix_k", k), ("prefix_v", v)] {
        check::equal(
            "prefix_len",
            (name, desc.shape().get(1).copied().unwrap_or(0)),
            ("prefix_k", length),
        )?;
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

/// Holds the outputs that the caller brings against the problem; lays out those it does not.
fn check_outputs(
    spec: &AttentionSpec,
    extents: &AttentionExtents,
    storage: Storage,
    tensors: &mut TensorDescs,
) -> Result<(), SpecError> {
    let [batch, heads] = [extents.batch, extents.q_heads].map(u64::from);
    let [seq, dim] = [extents.seq_len_q, extents.value_dim].map(u64::from);
    let shape = |role: Role, shape: &[u64]| {
        role.outward(storage, &Layout::contiguous(shape), spec.layout).shape().to_vec()
    };
    let out_shape = shape(Role::Out, &[batch, heads, seq, dim]);
    let lse_shape = shape(Role::Lse, &[batch, heads, seq]);
    let out_dtype = spec.out_dtype.unwrap_or(spec.dtype);
    let wants = |output| spec.outputs.contains(&output);
    let output = |name, wanted, dtype, shape| Output { name, wanted, dtype, shape, by_rows: true };
    check::output(tensors, &output("out", wants(AttentionOutput::Out), out_dtype, &out_shape))?;
    check::output(tensors, &output("lse", wants(AttentionOutput::Lse), Dtype::F32, &lse_shape))?;
    for NamedRole { name, role, .. } in outputs() {
        if let Some(desc) = tensors.get_mut(&name) {
            desc.layout = role.inward(storage, &desc.layout, spec.layout);
        }
    }
    Ok(())
}
