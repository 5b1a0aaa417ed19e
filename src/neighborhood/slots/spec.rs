//! The specs as a caller writes them, in Rust or as JSON.

use ordered_float::OrderedFloat;
use serde::{Deserialize, Serialize};

use crate::error::SpecError;
use crate::neighborhood::axes::{WindowFields, stated_shape, window_fields};
use crate::neighborhood::window::Border;
use crate::tensor::check;
use crate::tensor::{Dtype, TensorDesc, TensorDescs};

/// `scores[x, slot] = softmax_scale · q[x] · k[key of the slot]`, −∞ where the slot stands for no key; `{"op":
/// "neighborhood_scores", …}`. q and k are heads-last, scores `[batch, X…, q_heads, slots]`, f32.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct NeighborhoodScoresSpec {
    /// Element type of q and k.
    pub dtype: Dtype,
    /// Keys that a query sees along each axis; one to three axes.
    pub window: Vec<u32>,
    /// Queries that share a window along each axis, 1 to the window's; empty is 1 everywhere.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub stride: Vec<u32>,
    /// Where the first whole group of `stride` queries begins along each axis, from 0 to below the stride; empty is 0.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub group_offset: Vec<u32>,
    /// Distance between a window's keys along each axis; empty is 1 everywhere.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub dilation: Vec<u32>,
    /// Whether a query sees no key after itself along each axis; empty is never.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub causal: Vec<bool>,
    /// What a window does at the border of the tensor.
    pub border: Border,
    /// Factor of `q · k`; 0 is 0, `None` is `1 / sqrt(head_dim)`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub softmax_scale: Option<OrderedFloat<f32>>,
    /// Number of sequences, images or videos.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub batch: Option<u32>,
    /// Tokens along each axis.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub spatial: Option<Vec<u32>>,
    /// Heads of q and scores, a multiple of `kv_heads`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub q_heads: Option<u32>,
    /// Heads of k.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kv_heads: Option<u32>,
    /// Elements of a query and of a key, 1 to 576.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub head_dim: Option<u32>,
}

impl NeighborhoodScoresSpec {
    /// Tensors without gaps for a spec that says all its extents.
    ///
    /// # Errors
    /// [`SpecError::Value`] naming the first extent that the spec leaves open.
    pub fn assumed_tensors(&self) -> Result<TensorDescs, SpecError> {
        let q_heads = check::stated("q_heads", self.q_heads)?;
        let kv_heads = self.kv_heads.map_or(q_heads, u64::from);
        let dim = check::stated("head_dim", self.head_dim)?;
        let tensor = |name: &str, heads: u64| {
            let shape = stated_shape(self.batch, self.spatial.as_deref(), [heads, dim])?;
            Ok((name.to_owned(), TensorDesc::contiguous(self.dtype, &shape)))
        };
        [tensor("q", q_heads), tensor("k", kv_heads)].into_iter().collect()
    }

    /// The fields that say what a query sees.
    pub(super) fn windows(&self) -> WindowFields<'_> {
        window_fields!(self, &[])
    }
}

/// `out[x] = Σ weights[x, slot] · v[key of the slot]` over the slots that stand for keys; `{"op":
/// "neighborhood_aggregate", …}`. v and out are heads-last, weights `[batch, X…, q_heads, slots]`, f32 or the dtype.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct NeighborhoodAggregateSpec {
    /// Element type of v.
    pub dtype: Dtype,
    /// Element type of out: `dtype`, or f32. `None` is `dtype`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub out_dtype: Option<Dtype>,
    /// Keys that a query sees along each axis; one to three axes.
    pub window: Vec<u32>,
    /// Queries that share a window along each axis, 1 to the window's; empty is 1 everywhere.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub stride: Vec<u32>,
    /// Where the first whole group of `stride` queries begins along each axis, from 0 to below the stride; empty is 0.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub group_offset: Vec<u32>,
    /// Distance between a window's keys along each axis; empty is 1 everywhere.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub dilation: Vec<u32>,
    /// Whether a query sees no key after itself along each axis; empty is never.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub causal: Vec<bool>,
    /// What a window does at the border of the tensor.
    pub border: Border,
    /// Number of sequences, images or videos.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub batch: Option<u32>,
    /// Tokens along each axis.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub spatial: Option<Vec<u32>>,
    /// Heads of weights and out, a multiple of `kv_heads`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub q_heads: Option<u32>,
    /// Heads of v.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kv_heads: Option<u32>,
    /// Elements of a value, 1 to 576.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub value_dim: Option<u32>,
}

impl NeighborhoodAggregateSpec {
    /// Tensors without gaps for a spec that says all its extents, weights in f32.
    ///
    /// # Errors
    /// [`SpecError::Value`] naming the first extent that the spec leaves open.
    pub fn assumed_tensors(&self) -> Result<TensorDescs, SpecError> {
        let q_heads = check::stated("q_heads", self.q_heads)?;
        let kv_heads = self.kv_heads.map_or(q_heads, u64::from);
        let dim = check::stated("value_dim", self.value_dim)?;
        let volume =
            self.window.iter().fold(1_u64, |volume, n| volume.saturating_mul(u64::from(*n)));
        let tensor = |name: &str, dtype: Dtype, rows: [u64; 2]| {
            let shape = stated_shape(self.batch, self.spatial.as_deref(), rows)?;
            Ok((name.to_owned(), TensorDesc::contiguous(dtype, &shape)))
        };
        [tensor("weights", Dtype::F32, [q_heads, volume]), tensor("v", self.dtype, [kv_heads, dim])]
            .into_iter()
            .collect()
    }

    /// The fields that say what a query sees.
    pub(super) fn windows(&self) -> WindowFields<'_> {
        window_fields!(self, &[])
    }
}
