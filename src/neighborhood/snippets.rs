//! Functions of the caller that a spec may hold, with tokens by their coordinates.

use naga::{ScalarKind, VectorSize};

use super::score::NeighborhoodScore;
use super::spec::NeighborhoodSpec;
use crate::error::SpecError;
use crate::snippet::interpret::Value;
use crate::snippet::{Argument, Asked, Signature, Snippet, parse_with};
use crate::tensor::check;
use crate::tensor::{Dtype, TensorDescs};

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
fn of_spec(spec: &NeighborhoodSpec, rank: usize) -> Vec<Asked<'_>> {
    let scores = spec.score.iter().filter_map(|modifier| match modifier {
        NeighborhoodScore::Wgsl(snippet) => Some(score(snippet, rank)),
        NeighborhoodScore::Softcap(_) => None,
    });
    mask(spec, rank).into_iter().chain(scores).collect()
}

/// Names of the tensors that the functions read, each once.
pub(super) fn aux_names(spec: &NeighborhoodSpec) -> Vec<String> {
    let mut names: Vec<String> = Vec::new();
    for (_, snippet, _) in of_spec(spec, 1) {
        for name in &snippet.aux {
            if !names.contains(name) {
                names.push(name.clone());
            }
        }
    }
    names
}

/// Parses every function and holds the tensors that they read against what kernels take.
pub(super) fn check(
    spec: &NeighborhoodSpec,
    rank: usize,
    tensors: &TensorDescs,
) -> Result<(), SpecError> {
    for asked in of_spec(spec, rank) {
        let (_, snippet, field) = asked;
        let aux_field = format!("{}.aux", field.trim_end_matches(".wgsl"));
        for name in &snippet.aux {
            if ["q", "k", "v", "extra_k", "extra_v", "out", "lse"].contains(&name.as_str()) {
                let expected = "a name other than those of the core tensors";
                return Err(SpecError::value(aux_field, expected, name));
            }
            let desc = check::find(tensors, name, &aux_field)?;
            check::element_type(name, desc, &[Dtype::F32, Dtype::F16, Dtype::Bf16, Dtype::I32])?;
            check::contiguous(name, desc)?;
        }
        parse_with(tensors, asked)?;
    }
    Ok(())
}

/// The arguments that both functions end with: batch, head, and the tokens of query and key.
pub(super) fn place(batch: usize, head: usize, query: &[usize], key: &[usize]) -> Vec<Value> {
    let number = |x: usize| Value::U32(x as u32);
    let token = |at: &[usize]| match at {
        [x] => number(*x),
        _ => Value::Composite(at.iter().copied().map(number).collect()),
    };
    vec![number(batch), number(head), token(query), token(key)]
}
