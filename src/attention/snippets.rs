//! Functions of the caller that a spec may hold.

use naga::ScalarKind;

use super::mask::Mask;
use super::spec::AttentionSpec;
use crate::fused::ScoreModifier;
use crate::snippet::{Argument, Asked, Signature};

const POS_Q: &[(&str, &str)] = &[("pos_q", "fn pos_q(b: u32, q: u32) -> i32 { return 0; }")];

/// Whether a key is seen.
pub(super) static MASK_MOD: Signature = Signature {
    name: "mask_mod",
    text: "fn mask_mod(b: u32, h: u32, q: u32, kv: u32) -> bool",
    arguments: &[Argument::Uint; 4],
    result: ScalarKind::Bool,
    provided: POS_Q,
};

/// A score, changed.
pub(super) static SCORE_MOD: Signature = Signature {
    name: "score_mod",
    text: "fn score_mod(score: f32, b: u32, h: u32, q: u32, kv: u32) -> f32",
    arguments: &[Argument::Float, Argument::Uint, Argument::Uint, Argument::Uint, Argument::Uint],
    result: ScalarKind::Float,
    provided: POS_Q,
};

/// The field that holds a mask's function.
pub(super) const MASK_FIELD: &str = "mask.wgsl";

/// The field that holds a score modifier's function.
pub(super) const SCORE_FIELD: &str = "score.wgsl";

/// Those of a mask, in the order of the tree, equal ones once.
pub(super) fn of_mask(mask: &Mask) -> Vec<Asked<'_>> {
    let mut snippets = Vec::new();
    mask.walk(&mut |mask| {
        if let Mask::Wgsl(snippet) = mask
            && !snippets.iter().any(|(_, known, _): &Asked<'_>| *known == snippet)
        {
            snippets.push((&MASK_MOD, snippet, MASK_FIELD));
        }
    });
    snippets
}

/// Every snippet of a spec.
pub(super) fn of_spec(spec: &AttentionSpec) -> Vec<Asked<'_>> {
    let mut snippets = of_mask(&spec.mask);
    for modifier in &spec.score {
        if let ScoreModifier::Wgsl(snippet) = modifier {
            snippets.push((&SCORE_MOD, snippet, SCORE_FIELD));
        }
    }
    snippets
}
