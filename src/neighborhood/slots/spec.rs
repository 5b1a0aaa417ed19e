//! The questions as a caller writes them, in Rust or as JSON.

use ordered_float::OrderedFloat;
use serde::{Deserialize, Serialize};

use crate::neighborhood::axes::WindowFields;
use crate::neighborhood::spec::Border;
use crate::tensor::Dtype;

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
    pub(super) fn windows(&self) -> WindowFields<'_> {
        WindowFields {
            window: &self.window,
            head_windows: &[],
            stride: &self.stride,
            group_offset: &self.group_offset,
            dilation: &self.dilation,
            causal: &self.causal,
            border: self.border,
            spatial: self.spatial.as_deref(),
        }
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
    pub(super) fn windows(&self) -> WindowFields<'_> {
        WindowFields {
            window: &self.window,
            head_windows: &[],
            stride: &self.stride,
            group_offset: &self.group_offset,
            dilation: &self.dilation,
            causal: &self.causal,
            border: self.border,
            spatial: self.spatial.as_deref(),
        }
    }
}
