//! What the kernels must know of a mask before its text is written.

use crate::attention::mask::{BatchCount, HeadCount, Mask};
use crate::attention::problem::AttentionProblem;
use crate::attention::snippets::{MASK_FIELD, MASK_MOD};
use crate::snippet::mask_reads;

/// What a problem's mask is decided by.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(in crate::attention) struct MaskTraits {
    /// Some leaf is decided by data or by the caller's code: tiles are classified on the device.
    pub by_map: bool,
    /// Some leaf may leave open what a tile is until its elements are asked.
    pub by_element: bool,
    /// It says different things of a tile for different heads.
    pub by_head: bool,
}

pub(in crate::attention) fn traits(problem: &AttentionProblem) -> MaskTraits {
    let mut traits = MaskTraits::default();
    problem.spec.mask.walk(&mut |mask| match mask {
        Mask::Documents { .. } | Mask::Dense(_) | Mask::Wgsl(_) => {
            traits.by_map = true;
            traits.by_element = true;
        }
        Mask::BlockSparse { keep, .. } => {
            traits.by_map = true;
            traits.by_head |= problem.tensors[keep].shape()[1] > 1;
        }
        Mask::PerHead(_) => traits.by_head = true,
        Mask::Band { left, right } => {
            let each = |count: &Option<HeadCount>| !matches!(count, None | Some(HeadCount::All(_)));
            traits.by_head |= each(left) || each(right);
        }
        Mask::Sink(count) => traits.by_head |= !matches!(count, HeadCount::All(_)),
        Mask::Full | Mask::Prefix(_) | Mask::And(_) | Mask::Or(_) | Mask::Not(_) => {}
    });
    traits
}

/// Whether maps of tiles differ between batches, and between heads: where not, one serves all.
pub(in crate::attention) fn map_differs(problem: &AttentionProblem) -> [bool; 2] {
    let MaskTraits { by_map, mut by_head, .. } = traits(problem);
    if !by_map {
        return [false; 2];
    }
    let mut by_batch = problem.has_own_lens();
    problem.spec.mask.walk(&mut |mask| match mask {
        Mask::Documents { .. } | Mask::Prefix(BatchCount::Tensor(_)) => by_batch = true,
        Mask::Dense(name) | Mask::BlockSparse { keep: name, .. } => {
            let shape = problem.tensors[name].shape();
            by_batch |= shape[0] > 1;
            by_head |= shape[1] > 1;
        }
        Mask::Wgsl(snippet) => {
            let [batch, head] = mask_reads(&problem.tensors, (&MASK_MOD, snippet, MASK_FIELD));
            by_batch |= batch;
            by_head |= head;
        }
        _ => {}
    });
    [by_batch, by_head]
}
