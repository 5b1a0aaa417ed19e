//! Attention: `out = softmax(score_mod(softmax_scale · q kᵀ) where mask keeps) v`, fused.
//!
//! Beside q, k, v and what the spec names, some tensors count by being there: `kv_lens`, `sink_logits`, `bias`,
//! `alibi_slopes`, `prefix_k` and `prefix_v`, those of packed and paged [`Storage`], and `head_gate [batch, q_heads, seq_len_q]`, which `out` is multiplied by.

mod bind;
mod bucket;
mod gate;
mod json;
mod kernel;
mod mask;
mod mask_wgsl;
mod merge;
mod modifiers;
mod plan;
mod problem;
mod reference;
mod sample;
mod score;
mod side;
mod snippets;
mod spec;
mod storage;

pub use crate::snippet::Snippet;
pub use mask::{BatchCount, HeadCount, Mask};
pub use merge::{MergeProblem, MergeSpec, MergeTiles};
pub use problem::{AttentionExtents, AttentionProblem, MAX_HEAD_DIM, MAX_SEQ_LEN, TensorDescs};
pub use reference::{AttentionReference, merge_reference, plain, reference};
pub use score::{Normaliser, ScoreModifier};
pub use side::{SideRole, SideTensor};
pub use spec::{AttentionLayout, AttentionOutput, AttentionSpec};
pub use storage::Storage;
