//! What a caller asks for, in Rust or as JSON.

use ordered_float::OrderedFloat;
use serde::{Deserialize, Serialize};

use super::window::Border;
use crate::fused::{Normaliser, ScoreModifier};
use crate::snippet::Snippet;
use crate::tensor::Dtype;

/// What neighborhood attention to compute. What is `None` is taken from the tensors, or is the default said there.
///
/// ```
/// use tilewise::neighborhood::NeighborhoodSpec;
/// let spec = NeighborhoodSpec { window: vec![7, 7], ..NeighborhoodSpec::default() };
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct NeighborhoodSpec {
    /// Element type of q, k and v.
    pub dtype: Dtype,
    /// Element type of out: `dtype`, or f32. `None` is `dtype`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub out_dtype: Option<Dtype>,
    /// Keys that a query sees along each axis; one to three axes.
    pub window: Vec<u32>,
    /// The window of each query head, `[q_heads][axes]`; empty: every head has `window`. Beside it `window` is empty, or
    /// the largest along each axis.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub head_windows: Vec<Vec<u32>>,
    /// Queries that share a window along each axis, 1 to the window's; empty is 1 everywhere.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub stride: Vec<u32>,
    /// Where the first whole group of `stride` queries begins along each axis, from 0 to below the stride, counted as
    /// the stride is, within a dilation class; empty is 0 everywhere. The group before it is cut by the border. With a
    /// stride equal to the window, half of it, and [`Border::Clip`], these are the shifted windows of Swin (Liu et al.,
    /// 2021).
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
    /// Changes to the scores, in this order: of window keys, a softcap of every key's. ALiBi is refused: tokens of several
    /// axes have no one distance. A bias is `[batch|1, q_heads|1, tokens|1, tokens|1]`, tokens of all axes row-major.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub score: Vec<ScoreModifier>,
    /// How scores become weights.
    pub normaliser: Normaliser,
    /// Which keys of its window a query sees, beside the window: the caller's `fn mask_mod(b: u32, h: u32, q: vec2<u32>,
    /// kv: vec2<u32>) -> bool`, `q` and `kv` being tokens with a coordinate for each axis (u32 with one axis, `vec3<u32>`
    /// with three). It is asked of window keys alone: extra tokens are always seen. A query that sees no key gives out 0
    /// and lse -inf.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mask: Option<Snippet>,
    /// What to compute, at least one.
    pub outputs: Vec<NeighborhoodOutput>,
    /// Number of sequences, images or videos.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub batch: Option<u32>,
    /// Tokens along each axis.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub spatial: Option<Vec<u32>>,
    /// Heads of q and out, a multiple of `kv_heads`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub q_heads: Option<u32>,
    /// Heads of k and v.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kv_heads: Option<u32>,
    /// Elements of a query and of a key, 1 to 576.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub head_dim: Option<u32>,
    /// Elements of a value, 1 to 576.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub value_dim: Option<u32>,
}

impl Default for NeighborhoodSpec {
    fn default() -> Self {
        Self {
            dtype: Dtype::F32,
            out_dtype: None,
            window: Vec::new(),
            head_windows: Vec::new(),
            stride: Vec::new(),
            group_offset: Vec::new(),
            dilation: Vec::new(),
            causal: Vec::new(),
            border: Border::Shift,
            softmax_scale: None,
            score: Vec::new(),
            normaliser: Normaliser::default(),
            mask: None,
            outputs: vec![NeighborhoodOutput::Out],
            batch: None,
            spatial: None,
            q_heads: None,
            kv_heads: None,
            head_dim: None,
            value_dim: None,
        }
    }
}

/// What neighborhood attention can give.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum NeighborhoodOutput {
    /// `[batch, X…, q_heads, value_dim]`.
    Out,
    /// `[batch, X…, q_heads]`, f32: natural log of the sum of the exponentials of the scores.
    Lse,
}
