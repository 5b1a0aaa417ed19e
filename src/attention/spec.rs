//! The problem as a caller writes it, in Rust or as JSON.

use ordered_float::OrderedFloat;
use serde::{Deserialize, Serialize};

use super::mask::Mask;
use crate::fused::{Normaliser, ScoreModifier};
use crate::tensor::Dtype;

/// What attention to compute. What is `None` is taken from the tensors, or is the default said there.
///
/// ```
/// use tilewise::attention::{AttentionSpec, Mask};
/// let spec = AttentionSpec { mask: Mask::causal(), ..AttentionSpec::default() };
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct AttentionSpec {
    /// Element type of q, k and v.
    pub dtype: Dtype,
    /// Element type of out: `dtype`, or f32. `None` is `dtype`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub out_dtype: Option<Dtype>,
    /// Order of the axes of q, k, v and out.
    pub layout: AttentionLayout,
    /// Factor of `q · k`; 0 is 0, `None` is `1 / sqrt(head_dim)`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub softmax_scale: Option<OrderedFloat<f32>>,
    /// Position of query 0; `None` is the number of keys − `seq_len_q` (bottom-right alignment), for each batch
    /// where there are `kv_lens`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub q_offset: Option<i32>,
    /// Changes to the scores, in this order.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub score: Vec<ScoreModifier>,
    /// Which keys a query sees.
    pub mask: Mask,
    /// How scores become weights.
    pub normaliser: Normaliser,
    /// What to compute, at least one.
    pub outputs: Vec<AttentionOutput>,
    /// Number of sequences.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub batch: Option<u32>,
    /// Heads of q and out, a multiple of `kv_heads`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub q_heads: Option<u32>,
    /// Heads of k and v.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kv_heads: Option<u32>,
    /// Queries a sequence.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub seq_len_q: Option<u32>,
    /// Keys a sequence.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub seq_len_kv: Option<u32>,
    /// Elements of a query and of a key, 1 to 576.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub head_dim: Option<u32>,
    /// Elements of a value, 1 to 576.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub value_dim: Option<u32>,
}

impl Default for AttentionSpec {
    fn default() -> Self {
        Self {
            dtype: Dtype::F32,
            out_dtype: None,
            layout: AttentionLayout::Bhsd,
            softmax_scale: None,
            q_offset: None,
            score: Vec::new(),
            mask: Mask::Full,
            normaliser: Normaliser::default(),
            outputs: vec![AttentionOutput::Out],
            batch: None,
            q_heads: None,
            kv_heads: None,
            seq_len_q: None,
            seq_len_kv: None,
            head_dim: None,
            value_dim: None,
        }
    }
}

/// Order of the axes of q, k, v and out. Strides are free; this names the axes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum AttentionLayout {
    /// `[batch, heads, seq, dim]`, heads first.
    Bhsd,
    /// `[batch, seq, heads, dim]`, heads last.
    Bshd,
}

impl AttentionLayout {
    /// Which axis of a tensor in this order is batch, head, seq, dim. Its own inverse.
    pub const fn axes(self) -> [usize; 4] {
        match self {
            Self::Bhsd => [0, 1, 2, 3],
            Self::Bshd => [0, 2, 1, 3],
        }
    }
}

/// What attention can give.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum AttentionOutput {
    /// `[batch, q_heads, seq_len_q, value_dim]` in the order of `layout`.
    Out,
    /// `[batch, q_heads, seq_len_q]`, f32: natural log of the sum of the exponentials of the scores.
    Lse,
}
