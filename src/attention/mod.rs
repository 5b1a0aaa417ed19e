//! Attention: `out = softmax(score_mod(softmax_scale · q kᵀ) where mask keeps) v`, fused.
//!
//! Beside q, k, v and what the spec names, some tensors count by being there: `kv_lens`, `sink_logits`, `bias`,
//! `alibi_slopes`, `prefix_k` and `prefix_v`, those of packed and paged [`Storage`], and `head_gate [batch, q_heads, seq_len_q]`, which `out` is multiplied by.

mod extents;
mod kernel;
mod mask;
mod mask_map;
mod merge;
mod operator;
mod problem;
#[cfg(feature = "reference")]
mod reference;
mod roles;
mod sample;
mod shapes;
mod snippets;
mod spec;
mod storage;
mod values;

pub use crate::fused::{MAX_HEAD_DIM, Normaliser, ScoreModifier};
pub use crate::snippet::Snippet;
pub use crate::tensor::TensorDescs;
pub use extents::{AttentionExtents, MAX_SEQ_LEN, PageExtents};
pub use mask::{BatchCount, HeadCount, MOST_MASKS, MOST_NESTED, Mask};
pub use mask_map::{MappedAttentionProblem, MaskMapProblem};
pub use merge::{MergeProblem, MergeSpec, MergeTiles};
pub use problem::AttentionProblem;
#[cfg(feature = "reference")]
pub use reference::{AttentionReference, merge_reference, plain, reference};
pub use roles::{NamedRole, Role};
pub use spec::{AttentionLayout, AttentionOutput, AttentionSpec};
pub use storage::{KeyStorage, QueryStorage, Storage};
