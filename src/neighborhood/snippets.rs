//! Functions of the caller that a spec may hold, with tokens by their coordinates.

use naga::{ScalarKind, VectorSize};

use super::spec::NeighborhoodSpec;
use crate::error::SpecError;
use crate::fused::ScoreModifier;
#[cfg(feature = "reference")]
use crate::snippet::interpret::Value;
use crate::snippet::{Argument, Asked, Signature, Snippet, parse_with};
use crate::tensor::TensorDescs;

const PAIR: Argument = Argument::Uints(VectorSize::Bi);
const TRIPLE: Argument = Argument::Uints(VectorSize::Tri);

const fn mask_mod(text: &'static str, arguments: &'static [Argument]) -> Signature {
    Signature { name: "mask_mod", text, arguments, result: ScalarKind::Bool, provided: &[] }
}

const fn score_mod(text: &'static str, arguments: &'static [Argument]) -> Signature {
    Signature { name: "score_mod", text, arguments, result: ScalarKind::Float, provided: &[] }
}

/// Whether a key of the window is seen, by number of axes.
static MASK_MODS: [Signature; 3] = [
    mask_mod("fn mask_mod(b: u32, h: u32, q: u32, kv: u32) -> bool", &[Argument::Uint; 4]),
    mask_mod(
        "fn mask_mod(b: u32, h: u32, q: vec2<u32>, kv: vec2<u32>) -> bool",
        &[Argument::Uint, Argument::Uint, PAIR, PAIR],
    ),
    mask_mod(
        "fn mask_mod(b: u32, h: u32, q: vec3<u32>, kv: vec3<u32>) -> bool",
        &[Argument::Uint, Argument::Uint, TRIPLE, TRIPLE],
    ),
];

/// A score, changed, by number of axes.
static SCORE_MODS: [Signature; 3] = [
    score_mod(
        "fn score_mod(score: f32, b: u32, h: u32, q: u32, kv: u32) -> f32",
        &[Argument::Float, Argument::Uint, Argument::Uint, Argument::Uint, Argument::Uint],
    ),
    score_mod(
        "fn score_mod(score: f32, b: u32, h: u32, q: vec2<u32>, kv: vec2<u32>) -> f32",
        &[Argument::Float, Argument::Uint, Argument::Uint, PAIR, PAIR],
    ),
    score_mod(
        "fn score_mod(score: f32, b: u32, h: u32, q: vec3<u32>, kv: vec3<u32>) -> f32",
        &[Argument::Float, Argument::Uint, Argument::Uint, TRIPLE, TRIPLE],
    ),
];

/// The spec's mask, where it has one.
pub(super) fn mask(spec: &NeighborhoodSpec, rank: usize) -> Option<Asked<'_>> {
    spec.mask.as_ref().map(|snippet| (&MASK_MODS[rank - 1], snippet, "mask.wgsl"))
}

/// A score modifier's function.
pub(super) fn score(snippet: &Snippet, rank: usize) -> Asked<'_> {
    (&SCORE_MODS[rank - 1], snippet, "score.wgsl")
}

/// Every function of a spec.
pub(super) fn of_spec(spec: &NeighborhoodSpec, rank: usize) -> Vec<Asked<'_>> {
    let scores = spec.score.iter().filter_map(|modifier| match modifier {
        ScoreModifier::Wgsl(snippet) => Some(score(snippet, rank)),
        ScoreModifier::Softcap(_) | ScoreModifier::Alibi(_) | ScoreModifier::Bias(_) => None,
    });
    mask(spec, rank).into_iter().chain(scores).collect()
}

/// Parses every function against the tensors that they read.
pub(super) fn check(
    spec: &NeighborhoodSpec,
    rank: usize,
    tensors: &TensorDescs,
) -> Result<(), SpecError> {
    of_spec(spec, rank).into_iter().try_for_each(|asked| parse_with(tensors, asked).map(drop))
}

/// The arguments that both functions end with: batch, head, and the tokens of query and key.
#[cfg(feature = "reference")]
pub(super) fn place(batch: usize, head: usize, query: &[usize], key: &[usize]) -> Vec<Value> {
    let number = |x: usize| Value::U32(x as u32);
    let token = |at: &[usize]| match at {
        [x] => number(*x),
        _ => Value::Composite(at.iter().copied().map(number).collect()),
    };
    vec![number(batch), number(head), token(query), token(key)]
}
