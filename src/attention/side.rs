//! Tensors beside q, k and v: what for, of which shape and type.

use super::gate::HEAD_GATE;
use super::mask::{BatchCount, HeadCount, Mask};
use super::problem::{AttentionExtents, TensorDescs};
use super::score::{Normaliser, ScoreModifier};
use super::spec::AttentionSpec;
use crate::error::SpecError;
use crate::tensor::check;
use crate::tensor::{Dtype, TensorDesc};

/// What a side tensor is for: decides its shape and element type.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum SideRole {
    /// Float `[q_heads]` or `[batch, q_heads]`.
    AlibiSlopes,
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

/// A tensor beside q, k and v.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct SideTensor {
    /// Its name.
    pub name: String,
    /// What it is for.
    pub role: SideRole,
    /// Which field of the spec asks for it.
    pub field: &'static str,
}

impl AttentionSpec {
    /// Tensors without gaps for a spec that says all its extents; side tensors are f32 (i32, bool) in their fullest shape.
    ///
    /// # Errors
    /// [`SpecError::Value`] naming the first extent that the spec leaves open.
    pub fn assumed_tensors(&self) -> Result<TensorDescs, SpecError> {
        let batch = check::stated("batch", self.batch)?;
        let q_heads = check::stated("q_heads", self.q_heads)?;
        let kv_heads = self.kv_heads.map_or(q_heads, u64::from);
        let seq_len_q = check::stated("seq_len_q", self.seq_len_q)?;
        let seq_len_kv = self.seq_len_kv.map_or(seq_len_q, u64::from);
        let head_dim = check::stated("head_dim", self.head_dim)?;
        let value_dim = self.value_dim.map_or(head_dim, u64::from);
        let ordered = |shape: [u64; 4]| {
            let axes = self.layout.axes();
            TensorDesc::contiguous(self.dtype, &axes.map(|axis| shape[axis]))
        };
        let mut tensors = TensorDescs::from([
            ("q".to_owned(), ordered([batch, q_heads, seq_len_q, head_dim])),
            ("k".to_owned(), ordered([batch, kv_heads, seq_len_kv, head_dim])),
            ("v".to_owned(), ordered([batch, kv_heads, seq_len_kv, value_dim])),
        ]);
        let full = [batch, q_heads, seq_len_q, seq_len_kv];
        for side in side_tensors(self, &TensorDescs::new()) {
            let (dtype, shape) = match side.role {
                SideRole::AlibiSlopes | SideRole::SinkLogits => (Dtype::F32, vec![q_heads]),
                SideRole::Bias => (Dtype::F32, full.to_vec()),
                // Tensors that count by being there are none of the spec's.
                SideRole::Starts { .. } | SideRole::BlockTable => continue,
                SideRole::KvLens | SideRole::BatchCount => (Dtype::I32, vec![batch]),
                SideRole::HeadCount => (Dtype::I32, vec![q_heads]),
                SideRole::QueryDocuments => (Dtype::I32, vec![batch, seq_len_q]),
                SideRole::KeyDocuments => (Dtype::I32, vec![batch, seq_len_kv]),
                SideRole::DenseMask => (Dtype::Bool, vec![1, 1, seq_len_q, seq_len_kv]),
                SideRole::BlockMask { block } => {
                    let blocks = |extent: u64, block: u32| extent.div_ceil(u64::from(block.max(1)));
                    let shape = [1, 1, blocks(seq_len_q, block[0]), blocks(seq_len_kv, block[1])];
                    (Dtype::Bool, shape.to_vec())
                }
                SideRole::Aux => (Dtype::F32, vec![q_heads]),
            };
            tensors.insert(side.name, TensorDesc::contiguous(dtype, &shape));
        }
        Ok(tensors)
    }
}

/// The side tensors that a spec asks for, in the order in which it names them.
pub(super) fn side_tensors(spec: &AttentionSpec, tensors: &TensorDescs) -> Vec<SideTensor> {
    let mut sides: Vec<SideTensor> = Vec::new();
    let mut push = |name: &str, role: SideRole, field: &'static str| {
        let side = SideTensor { name: name.to_owned(), role, field };
        if !sides.contains(&side) {
            sides.push(side);
        }
    };
    for (name, role) in [
        ("kv_lens", SideRole::KvLens),
        ("cu_seqlens_q", SideRole::Starts { of_keys: false }),
        ("cu_seqlens_kv", SideRole::Starts { of_keys: true }),
        ("block_table", SideRole::BlockTable),
    ] {
        if tensors.contains_key(name) {
            push(name, role, name);
        }
    }
    for modifier in &spec.score {
        match modifier {
            ScoreModifier::Softcap(_) => {}
            ScoreModifier::Alibi(name) => push(name, SideRole::AlibiSlopes, "score.alibi"),
            ScoreModifier::Bias(name) => push(name, SideRole::Bias, "score.bias"),
            ScoreModifier::Wgsl(snippet) => {
                snippet.aux.iter().for_each(|name| push(name, SideRole::Aux, "score.aux"));
            }
        }
    }
    spec.mask.walk(&mut |mask| match mask {
        Mask::Band { left, right } => {
            for (count, field) in [(left, "mask.band.left"), (right, "mask.band.right")] {
                if let Some(HeadCount::Tensor(name)) = count {
                    push(name, SideRole::HeadCount, field);
                }
            }
        }
        Mask::Prefix(BatchCount::Tensor(name)) => push(name, SideRole::BatchCount, "mask.prefix"),
        Mask::Sink(HeadCount::Tensor(name)) => push(name, SideRole::HeadCount, "mask.sink"),
        Mask::Documents { q, kv } => {
            push(q, SideRole::QueryDocuments, "mask.documents.q");
            push(kv, SideRole::KeyDocuments, "mask.documents.kv");
        }
        Mask::Dense(name) => push(name, SideRole::DenseMask, "mask.dense"),
        Mask::BlockSparse { block, keep } => {
            push(keep, SideRole::BlockMask { block: *block }, "mask.block_sparse.keep");
        }
        Mask::Wgsl(snippet) => {
            snippet.aux.iter().for_each(|name| push(name, SideRole::Aux, "mask.aux"));
        }
        Mask::Full
        | Mask::Prefix(_)
        | Mask::Sink(_)
        | Mask::PerHead(_)
        | Mask::And(_)
        | Mask::Or(_)
        | Mask::Not(_) => {}
    });
    if let Normaliser::Softmax { sink: Some(name) } = &spec.normaliser {
        push(name, SideRole::SinkLogits, "normaliser.softmax.sink");
    }
    sides
}

/// Holds a side tensor against its role.
pub(super) fn check_side(
    side: &SideTensor,
    desc: &TensorDesc,
    spec: &AttentionSpec,
    extents: &AttentionExtents,
) -> Result<(), SpecError> {
    let core =
        ["q", "k", "v", "out", "lse", "prefix_k", "prefix_v", "k_pages", "v_pages", HEAD_GATE];
    if core.contains(&side.name.as_str()) {
        let expected = "a name other than those of the core tensors";
        return Err(SpecError::value(side.field, expected, &side.name));
    }
    let floats: &[Dtype] = &[Dtype::F32, spec.dtype];
    let [batch, q_heads] = [extents.sequences, extents.q_heads].map(u64::from);
    let [seq_len_q, seq_len_kv] = [extents.seq_len_q, extents.seq_len_kv].map(u64::from);
    let blocks = |extent: u64, block: u32| extent.div_ceil(u64::from(block.max(1)));
    let full = vec![batch, q_heads, seq_len_q, seq_len_kv];
    let (dtypes, shape, broadcasts): (&[Dtype], Vec<u64>, bool) = match side.role {
        SideRole::AlibiSlopes if desc.shape().len() == 2 => (floats, vec![batch, q_heads], false),
        SideRole::AlibiSlopes | SideRole::SinkLogits => (floats, vec![q_heads], false),
        SideRole::Bias => (floats, full, true),
        SideRole::KvLens | SideRole::BatchCount => (&[Dtype::I32], vec![batch], false),
        SideRole::Starts { .. } => (&[Dtype::I32], vec![batch + 1], false),
        SideRole::BlockTable => {
            let pages = desc.shape().last().copied().unwrap_or(0);
            (&[Dtype::I32], vec![batch, pages], false)
        }
        SideRole::HeadCount => (&[Dtype::I32], vec![q_heads], false),
        SideRole::QueryDocuments => (&[Dtype::I32], vec![batch, seq_len_q], false),
        SideRole::KeyDocuments => (&[Dtype::I32], vec![batch, seq_len_kv], false),
        SideRole::DenseMask => (&[Dtype::Bool], full, true),
        SideRole::BlockMask { block } => {
            if block.contains(&0) {
                let got = format!("{block:?}");
                return Err(SpecError::value("mask.block_sparse.block", "numbers from 1", got));
            }
            let [bq, bk] = [blocks(seq_len_q, block[0]), blocks(seq_len_kv, block[1])];
            (&[Dtype::Bool], vec![batch, q_heads, bq, bk], true)
        }
        SideRole::Aux => {
            (&[Dtype::F32, Dtype::F16, Dtype::Bf16, Dtype::I32], desc.shape().to_vec(), false)
        }
    };
    check::element_type(&side.name, desc, dtypes)?;
    // A mask in blocks has its own extents on the last two axes; only batch and head broadcast there.
    let free_axes = if matches!(side.role, SideRole::BlockMask { .. }) { 2 } else { 4 };
    let fits = desc.shape().len() == shape.len()
        && desc.shape().iter().zip(&shape).enumerate().all(|(axis, (&got, &expected))| {
            got == expected || (broadcasts && axis < free_axes && got == 1)
        });
    if !fits {
        let or_one = if broadcasts { " (or 1 where it broadcasts)" } else { "" };
        let expected = format!("shape {shape:?}{or_one}");
        return Err(SpecError::value(&side.name, expected, format!("{:?}", desc.shape())));
    }
    check::contiguous(&side.name, desc)
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
