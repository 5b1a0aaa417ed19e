//! What each tensor of an attention is for: its axes and element types follow from it, and what a slice of it holds.

use super::extents::{AttentionExtents, Axis};
use super::mask::{BatchCount, HeadCount, Mask};
use super::spec::{AttentionLayout, AttentionSpec};
use super::storage::{KeyStorage, QueryStorage, Storage, unsupported};
use crate::error::{PlanError, SpecError};
use crate::fused::{Normaliser, ScoreModifier};
use crate::tensor::check;
use crate::tensor::{Dtype, Layout, TensorDesc, TensorDescs};

pub(super) use crate::fused::domain::HEAD_GATE;

/// What a tensor is for: decides its shape and element type.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Role {
    /// `[batch, q_heads, seq_len_q, head_dim]`.
    Queries,
    /// `[batch, kv_heads, seq_len_kv, head_dim]`, or in pages.
    Keys,
    /// `[batch, kv_heads, seq_len_kv, value_dim]`, or in pages.
    Values,
    /// `[kv_heads, prefix_len, head_dim]`.
    PrefixKeys,
    /// `[kv_heads, prefix_len, value_dim]`.
    PrefixValues,
    /// Float `[batch, q_heads, seq_len_q]` whatever the layout; any strides. A gate for each query and head: `out` times
    /// it, `lse` as it is. With the gates of a router, heads are experts (Jin et al. 2024, "MoH: Multi-Head Attention as
    /// Mixture-of-Head Attention").
    HeadGate,
    /// Written: `[batch, q_heads, seq_len_q, value_dim]`.
    Out,
    /// Written: f32 `[batch, q_heads, seq_len_q]`.
    Lse,
    /// Float `[q_heads]`.
    AlibiSlopes,
    /// Float `[batch, q_heads]`.
    BatchedAlibiSlopes,
    /// Float `[batch|1, q_heads|1, seq_len_q|1, seq_len_kv|1]`.
    Bias,
    /// Float `[q_heads]`.
    SinkLogits,
    /// i32 `[batch]`, each from 0 to seq_len_kv.
    KvLens,
    /// i32 `[batch + 1]`: where packed sequences begin, and where the last one ends.
    Starts {
        /// Of keys, not of queries.
        of_keys: bool,
    },
    /// i32 `[batch, max_pages]`: pages of keys.
    BlockTable,
    /// i32 `[batch]`.
    BatchCount,
    /// i32 `[q_heads]`.
    HeadCount,
    /// i32 `[batch, seq_len_q]`.
    QueryDocuments,
    /// i32 `[batch, seq_len_kv]`.
    KeyDocuments,
    /// bool `[batch|1, q_heads|1, seq_len_q|1, seq_len_kv|1]`.
    DenseMask,
    /// bool `[batch|1, q_heads|1, query blocks, key blocks]`.
    BlockMask {
        /// Queries and keys a block.
        block: [u32; 2],
    },
    /// Float or i32, any shape.
    Aux,
}

/// A tensor of a problem.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct NamedRole {
    /// Its name.
    pub name: String,
    /// What it is for.
    pub role: Role,
    /// Which field of the spec asks for it, or its name where none does.
    pub field: &'static str,
}

impl Role {
    /// Its axes in the order batch, head, seq, dim; `None` for one of any shape.
    pub(super) fn axes(self, storage: Storage) -> Option<Vec<Axis>> {
        use Axis::{
            Batch, HeadDim, KvHeads, PageSize, Pages, QHeads, Queries, Sequences, ValueDim,
        };
        let (of_keys, keys) = match storage.keys {
            KeyStorage::Batched | KeyStorage::Packed => (Batch, Axis::Keys),
            KeyStorage::Paged => (Pages, PageSize),
        };
        Some(match self {
            Self::Queries => vec![Batch, QHeads, Queries, HeadDim],
            Self::Keys => vec![of_keys, KvHeads, keys, HeadDim],
            Self::Values => vec![of_keys, KvHeads, keys, ValueDim],
            Self::PrefixKeys => vec![KvHeads, Axis::Prefix, HeadDim],
            Self::PrefixValues => vec![KvHeads, Axis::Prefix, ValueDim],
            Self::HeadGate | Self::Lse => vec![Batch, QHeads, Queries],
            Self::Out => vec![Batch, QHeads, Queries, ValueDim],
            Self::AlibiSlopes | Self::SinkLogits | Self::HeadCount => vec![QHeads],
            Self::BatchedAlibiSlopes => vec![Sequences, QHeads],
            Self::Bias | Self::DenseMask => vec![Sequences, QHeads, Queries, Axis::Keys],
            Self::KvLens | Self::BatchCount => vec![Sequences],
            Self::Starts { .. } => vec![Axis::SequenceEnds],
            Self::BlockTable => vec![Sequences, Axis::PagesOfSequence],
            Self::QueryDocuments => vec![Sequences, Queries],
            Self::KeyDocuments => vec![Sequences, Axis::Keys],
            Self::BlockMask { block: [queries, keys] } => {
                vec![Sequences, QHeads, Axis::QueryBlocks(queries), Axis::KeyBlocks(keys)]
            }
            Self::Aux => return None,
        })
    }

    /// How many of its first axes may have the extent 1 instead: they broadcast.
    pub(super) const fn broadcast_axes(self) -> usize {
        match self {
            Self::Bias | Self::DenseMask => 4,
            // A mask in blocks has its own extents on the last two axes.
            Self::BlockMask { .. } => 2,
            _ => 0,
        }
    }

    /// The element types that it may have; the first is what a spec alone implies.
    pub(super) fn dtypes(self, spec: &AttentionSpec) -> Vec<Dtype> {
        match self {
            Self::Queries | Self::Keys | Self::Values | Self::PrefixKeys | Self::PrefixValues => {
                vec![spec.dtype]
            }
            Self::Out => vec![spec.out_dtype.unwrap_or(spec.dtype)],
            Self::Lse => vec![Dtype::F32],
            Self::HeadGate
            | Self::AlibiSlopes
            | Self::BatchedAlibiSlopes
            | Self::SinkLogits
            | Self::Bias => vec![Dtype::F32, spec.dtype],
            Self::KvLens
            | Self::Starts { .. }
            | Self::BlockTable
            | Self::BatchCount
            | Self::HeadCount
            | Self::QueryDocuments
            | Self::KeyDocuments => vec![Dtype::I32],
            Self::DenseMask | Self::BlockMask { .. } => vec![Dtype::Bool],
            Self::Aux => vec![Dtype::F32, Dtype::F16, Dtype::Bf16, Dtype::I32],
        }
    }

    /// Whether kernels address its rows by batch and head, and a slice binds only its own part of them.
    pub(super) const fn is_sliced(self) -> bool {
        self.is_core() || self.is_score_table()
    }

    /// Whether it is one of the tensors that every attention has, which the spec need not name.
    pub(super) const fn is_core(self) -> bool {
        matches!(
            self,
            Self::Queries
                | Self::Keys
                | Self::Values
                | Self::PrefixKeys
                | Self::PrefixValues
                | Self::HeadGate
                | Self::Out
                | Self::Lse
        )
    }

    /// Whether a spec names it, or it counts by being there beside the core's tensors.
    pub const fn is_extra(self) -> bool {
        !self.is_core()
    }

    /// Whether it is written.
    pub const fn is_output(self) -> bool {
        matches!(self, Self::Out | Self::Lse)
    }

    /// Whether it is a table over queries or keys by their index in a batch.
    pub(super) const fn is_indexed_by_position(self) -> bool {
        matches!(
            self,
            Self::Bias
                | Self::DenseMask
                | Self::BlockMask { .. }
                | Self::QueryDocuments
                | Self::KeyDocuments
        )
    }

    /// Whether its axes are batch, head, query and key.
    pub(super) const fn is_score_table(self) -> bool {
        matches!(self, Self::Bias | Self::DenseMask | Self::BlockMask { .. })
    }
}

/// How a role's tensor lies, from the caller's axes to batch, head, seq, dim (or batch, head, seq) and back.
impl Role {
    /// Whether a tensor has no axis of batches: its rows are those of packed sequences.
    fn is_packed(self, storage: Storage) -> bool {
        match self {
            Self::Queries | Self::Out | Self::Lse | Self::HeadGate => {
                storage.queries == QueryStorage::Packed
            }
            Self::Keys | Self::Values => storage.keys == KeyStorage::Packed,
            _ => false,
        }
    }

    /// From the caller's axes. Pages are batches of keys; packed sequences are a single one.
    pub(super) fn inward(
        self,
        storage: Storage,
        layout: &Layout,
        order: AttentionLayout,
    ) -> Layout {
        match (self.is_packed(storage), self) {
            (true, Self::Lse | Self::HeadGate) => layout.with_unit_axis(),
            (true, _) => layout.with_axes(&[1, 0, 2]).with_unit_axis(),
            (false, Self::Queries | Self::Keys | Self::Values | Self::Out) => {
                layout.with_axes(&self.order(storage, order).axes())
            }
            (false, _) => layout.clone(),
        }
    }

    /// Back to the caller's axes.
    pub(super) fn outward(
        self,
        storage: Storage,
        layout: &Layout,
        order: AttentionLayout,
    ) -> Layout {
        match (self.is_packed(storage), self) {
            (true, Self::Lse | Self::HeadGate) => layout.with_axes(&[1, 2]),
            (true, _) => layout.with_axes(&[2, 1, 3]),
            (false, _) => self.inward(storage, layout, order), // swapping two axes is its own inverse
        }
    }

    /// Pages have heads behind their rows, whatever the spec's order.
    fn order(self, storage: Storage, order: AttentionLayout) -> AttentionLayout {
        let paged = storage.keys == KeyStorage::Paged && matches!(self, Self::Keys | Self::Values);
        if paged { AttentionLayout::Bshd } else { order }
    }

    /// Axes of the caller's q, k or v, in words.
    pub(super) fn axes_in_words(self, storage: Storage) -> (usize, &'static str) {
        if self.is_packed(storage) {
            return (3, "3 axes (tokens of all sequences, heads, dim)");
        }
        (4, "4 axes (batch, heads, seq, dim in the order of layout)")
    }
}

/// The extra inputs that a spec asks for, in the order in which it names them.
pub(super) fn extra_inputs(spec: &AttentionSpec, tensors: &TensorDescs) -> Vec<NamedRole> {
    let mut extras = Vec::new();
    extras.extend(inputs_by_being_there(tensors));
    spec.score.iter().for_each(|modifier| add_score_inputs(modifier, tensors, &mut extras));
    spec.mask.walk(&mut |mask| add_mask_inputs(mask, &mut extras));
    if let Normaliser::Softmax { sink: Some(name) } = &spec.normaliser {
        add(&mut extras, name, Role::SinkLogits, "normaliser.softmax.sink");
    }
    extras
}

fn add(extras: &mut Vec<NamedRole>, name: &str, role: Role, field: &'static str) {
    let named = NamedRole { name: name.to_owned(), role, field };
    if !extras.contains(&named) {
        extras.push(named);
    }
}

/// Those that count by being there.
fn inputs_by_being_there(tensors: &TensorDescs) -> Vec<NamedRole> {
    let all = [
        ("kv_lens", Role::KvLens),
        ("cu_seqlens_q", Role::Starts { of_keys: false }),
        ("cu_seqlens_kv", Role::Starts { of_keys: true }),
        ("block_table", Role::BlockTable),
    ];
    let given = all.into_iter().filter(|(name, _)| tensors.contains_key(*name));
    given.map(|(field, role)| NamedRole { name: field.to_owned(), role, field }).collect()
}

fn add_score_inputs(modifier: &ScoreModifier, tensors: &TensorDescs, extras: &mut Vec<NamedRole>) {
    match modifier {
        ScoreModifier::Softcap(_) => {}
        ScoreModifier::Alibi(name) => {
            let by_batch = tensors.get(name).is_some_and(|desc| desc.shape().len() == 2);
            let role = if by_batch { Role::BatchedAlibiSlopes } else { Role::AlibiSlopes };
            add(extras, name, role, "score.alibi");
        }
        ScoreModifier::Bias(name) => add(extras, name, Role::Bias, "score.bias"),
        ScoreModifier::Wgsl(snippet) => {
            snippet.aux.iter().for_each(|name| add(extras, name, Role::Aux, "score.aux"));
        }
    }
}

/// Those of a mask itself, not of the masks in it.
fn add_mask_inputs(mask: &Mask, extras: &mut Vec<NamedRole>) {
    match mask {
        Mask::Band { left, right } => {
            for (count, field) in [(left, "mask.band.left"), (right, "mask.band.right")] {
                if let Some(HeadCount::Tensor(name)) = count {
                    add(extras, name, Role::HeadCount, field);
                }
            }
        }
        Mask::Prefix(BatchCount::Tensor(name)) => {
            add(extras, name, Role::BatchCount, "mask.prefix");
        }
        Mask::Sink(HeadCount::Tensor(name)) => add(extras, name, Role::HeadCount, "mask.sink"),
        Mask::Documents { q, kv } => {
            add(extras, q, Role::QueryDocuments, "mask.documents.q");
            add(extras, kv, Role::KeyDocuments, "mask.documents.kv");
        }
        Mask::Dense(name) => add(extras, name, Role::DenseMask, "mask.dense"),
        Mask::BlockSparse { block, keep } => {
            add(extras, keep, Role::BlockMask { block: *block }, "mask.block_sparse.keep");
        }
        Mask::Wgsl(snippet) => {
            snippet.aux.iter().for_each(|name| add(extras, name, Role::Aux, "mask.aux"));
        }
        Mask::Full
        | Mask::Prefix(_)
        | Mask::Sink(_)
        | Mask::PerHead(_)
        | Mask::And(_)
        | Mask::Or(_)
        | Mask::Not(_) => {}
    }
}

/// Holds a tensor, its axes in the order batch, head, seq, dim, against its role.
pub(super) fn check_role(
    named: &NamedRole,
    desc: &TensorDesc,
    (spec, extents, storage): (&AttentionSpec, &AttentionExtents, Storage),
) -> Result<(), SpecError> {
    let NamedRole { name, role, field } = named;
    check::element_type(name, desc, &role.dtypes(spec))?;
    if let Role::BlockMask { block } = role
        && block.contains(&0)
    {
        let got = format!("{block:?}");
        return Err(SpecError::value("mask.block_sparse.block", "numbers from 1", got));
    }
    check_shape(named, desc, extents, storage)?;
    if role.is_core() {
        return check::within_u64(name, desc);
    }
    if is_core_name(name) {
        let expected = "a name other than those of the core tensors";
        return Err(SpecError::value(*field, expected, name));
    }
    check::contiguous(name, desc)
}

fn check_shape(
    NamedRole { name, role, .. }: &NamedRole,
    desc: &TensorDesc,
    extents: &AttentionExtents,
    storage: Storage,
) -> Result<(), SpecError> {
    let Some(axes) = role.axes(storage) else { return Ok(()) };
    let shape: Vec<u64> = axes.iter().map(|axis| axis.extent(extents)).collect();
    let broadcasts = role.broadcast_axes();
    let fits =
        desc.shape().len() == shape.len()
            && desc.shape().iter().zip(&shape).enumerate().all(|(axis, (&got, &expected))| {
                got == expected || (axis < broadcasts && got == 1)
            });
    if fits {
        return Ok(());
    }
    let names: Vec<&str> = axes.iter().map(|axis| axis.name()).collect();
    let or_one = if broadcasts > 0 { "; or 1 where it broadcasts" } else { "" };
    let expected = format!("shape {shape:?} ({}{or_one})", names.join(", "));
    Err(SpecError::value(name, expected, format!("{:?}", desc.shape())))
}

fn is_core_name(name: &str) -> bool {
    let paged = Storage { keys: KeyStorage::Paged, ..Storage::default() };
    let cores = [Storage::default().core(), paged.core()].concat();
    cores.contains(&name) || ["out", "lse", "prefix_k", "prefix_v", HEAD_GATE].contains(&name)
}

/// Tables of queries and keys have no place for the indices of packed sequences, which have lengths of their own.
pub(super) fn check_tables(storage: Storage, extras: &[NamedRole]) -> Result<(), PlanError> {
    if storage.queries == QueryStorage::Batched {
        return Ok(());
    }
    match extras.iter().find(|named| named.role.is_indexed_by_position()) {
        None => Ok(()),
        Some(NamedRole { field, .. }) => {
            let what = format!("{field} beside packed sequences");
            let reason = "its tensor is indexed by batch, which packed sequences have not";
            Err(unsupported(&what, reason))
        }
    }
}

/// Holds lists that have an entry for each head against the heads.
pub(super) fn check_per_head_masks(
    spec: &AttentionSpec,
    extents: &AttentionExtents,
) -> Result<(), SpecError> {
    let mut result = Ok(());
    let mut check = |field: &str, got: usize| {
        if got != extents.q_heads as usize && result.is_ok() {
            let expected = format!("{} entries, one for each query head", extents.q_heads);
            result = Err(SpecError::value(field, expected, got));
        }
    };
    spec.mask.walk(&mut |mask| match mask {
        Mask::Band { left, right } => {
            for (count, field) in [(left, "mask.band.left"), (right, "mask.band.right")] {
                if let Some(HeadCount::Each(counts)) = count {
                    check(field, counts.len());
                }
            }
        }
        Mask::Sink(HeadCount::Each(counts)) => check("mask.sink", counts.len()),
        Mask::PerHead(masks) => check("mask.per_head", masks.len()),
        _ => {}
    });
    result
}
