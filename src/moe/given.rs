//! The caller's tensors, and the extents that spec and tensors agree on.

use super::extents::{MAX_EXPERTS, MAX_TOP_K, MoeExtents};
use super::routing::Router;
use super::spec::{MoeOutput, MoeSpec};
use crate::error::SpecError;
use crate::matmul::weights::{check_inner, scales_name};
use crate::tensor::{TensorDesc, TensorDescs, WeightFormat};

/// Most elements of an extent.
const MOST: u32 = u32::MAX >> 3;

/// The caller's tensors.
#[derive(Clone, Copy)]
pub(super) struct Given<'a> {
    pub tensors: &'a TensorDescs,
}

impl<'a> Given<'a> {
    /// A tensor that must be there, and for what.
    pub fn find(self, name: &str, why: &str) -> Result<&'a TensorDesc, SpecError> {
        self.tensors.get(name).ok_or_else(|| SpecError::MissingTensor {
            name: name.to_owned(),
            why: format!("asked for by {why}"),
        })
    }

    /// Extents of a tensor that must have as many axes as `axes` names.
    fn shape<const N: usize>(
        self,
        name: &str,
        why: &str,
        axes: [&str; N],
    ) -> Result<[u64; N], SpecError> {
        let shape = self.find(name, why)?.shape();
        shape.try_into().map_err(|_| {
            let expected = format!("{N} axes ({})", axes.join(", "));
            SpecError::value(name, expected, format!("shape {shape:?}"))
        })
    }

    /// Experts as the router has them: what is asked for without `out` needs no expert's weights.
    fn routed_experts(self, spec: &MoeSpec) -> Result<u64, SpecError> {
        let has = |name: &str| self.tensors.contains_key(name);
        if let Some(experts) = spec.experts {
            return Ok(experts.into());
        }
        let columns = match spec.router {
            Router::Soft { .. } => {
                self.shape("phi", "the soft router", ["experts", "slots", "model_dim"])?[0]
            }
            Router::External => {
                return Ok(self.weights::<2>("w_up", spec)?[0]);
            }
            _ if has("router_logits") && !has("router_w") => {
                self.shape("router_logits", "the router", ["tokens", "experts"])?[1]
            }
            _ => self.shape("router_w", "the router", ["experts", "model_dim"])?[0],
        };
        let null = spec.null_experts.count();
        columns.checked_sub(null.into()).ok_or_else(|| {
            let expected = format!("at most the router's columns ({columns})");
            SpecError::value("null_experts", expected, null)
        })
    }

    /// The outer extents of weights: without the axis, or the two, that hold a row.
    fn weights<const N: usize>(self, name: &str, spec: &MoeSpec) -> Result<[u64; N], SpecError> {
        let shape = self.find(name, "moe")?.shape();
        let pair = self.tensors.contains_key(&scales_name(name))
            && spec.weight_format() == WeightFormat::Mxfp4;
        let axes = if pair { N + 2 } else { N + 1 };
        match shape.first_chunk::<N>() {
            Some(outer) if shape.len() == axes => Ok(*outer),
            _ => {
                let what = if pair { "rows of blocks of 16 bytes" } else { "rows" };
                let expected = format!("{axes} axes ({what})");
                Err(SpecError::value(name, expected, format!("shape {shape:?}")))
            }
        }
    }
}

/// An extent that the spec may name and the tensors have.
fn agreed(
    field: &str,
    asked: Option<u32>,
    found: u64,
    [least, most]: [u32; 2],
) -> Result<u32, SpecError> {
    if !(u64::from(least)..=u64::from(most)).contains(&found) {
        return Err(SpecError::value(field, format!("{least} to {most}"), found));
    }
    match asked {
        Some(asked) if u64::from(asked) != found => {
            Err(SpecError::value(field, format!("{found} as the tensors have"), asked))
        }
        _ => Ok(found as u32),
    }
}

/// The extents that spec and tensors agree on.
pub(super) fn extents_of(spec: &MoeSpec, given: Given<'_>) -> Result<MoeExtents, SpecError> {
    let [tokens, model_dim] = given.shape("x", "moe", ["tokens", "model_dim"])?;
    let computes = spec.outputs.contains(&MoeOutput::Out);
    let tokens = agreed("tokens", spec.tokens, tokens, [0, MOST])?;
    let (experts, expert_dim) = experts_of(spec, given)?;
    let top_k = top_k_of(spec, given, experts + spec.null_experts.count())?;
    let shared_dim = match computes && given.tensors.contains_key("shared_w_up") {
        true => given.weights::<1>("shared_w_up", spec)?[0],
        false => 0,
    };
    let [expert_start, expert_end] = spec.expert_range.unwrap_or([0, experts]);
    let inner = [
        ("model_dim", model_dim),
        ("expert_dim", u64::from(expert_dim)),
        ("shared_dim", shared_dim),
    ];
    for (field, extent) in inner.into_iter().filter(|_| computes) {
        check_inner(spec.weight_format(), field, extent)?;
    }
    Ok(MoeExtents {
        tokens,
        model_dim: agreed("model_dim", spec.model_dim, model_dim, [1, MOST])?,
        experts,
        null_experts: spec.null_experts,
        expert_start,
        expert_end,
        expert_dim,
        shared_dim: agreed("shared_dim", None, shared_dim, [0, MOST])?,
        top_k,
        slots: match spec.router {
            Router::Soft { slots } => slots,
            _ => 0,
        },
    })
}

/// Experts that a token goes to, of so many choices.
fn top_k_of(spec: &MoeSpec, given: Given<'_>, choices: u32) -> Result<u32, SpecError> {
    match spec.router {
        Router::TokenChoice(_) => spec.top_k.ok_or_else(|| {
            SpecError::value("top_k", "a number (token choice needs it)", "nothing")
        }),
        Router::External => {
            let [_, found] = given.shape("topk_ids", "the external router", ["tokens", "top_k"])?;
            agreed("top_k", spec.top_k, found, [1, MAX_TOP_K])
        }
        Router::ExpertChoice { .. } => Ok(choices),
        Router::Soft { .. } => Ok(1),
    }
}

/// The number of experts with weights, and their inner dim: 0 where `out` is not asked for, which needs no weights.
fn experts_of(spec: &MoeSpec, given: Given<'_>) -> Result<(u32, u32), SpecError> {
    let null = spec.null_experts.count();
    let most = MAX_EXPERTS.saturating_sub(null);
    if most == 0 {
        let expected = format!("fewer than {MAX_EXPERTS} in all");
        return Err(SpecError::value("null_experts", expected, null));
    }
    let weights = match spec.outputs.contains(&MoeOutput::Out) {
        true => Some(given.weights::<2>("w_up", spec)?),
        false => None,
    };
    let found = match (spec.expert_range, weights) {
        (Some([start, end]), _) => {
            let experts = spec.experts.ok_or_else(|| {
                SpecError::value("experts", "a number (expert_range needs it)", "nothing")
            })?;
            if start >= end || end > experts {
                let expected = format!("first < end, and end at most experts ({experts})");
                return Err(SpecError::value(
                    "expert_range",
                    expected,
                    format!("[{start}, {end}]"),
                ));
            }
            u64::from(experts)
        }
        (None, Some([experts, _])) => experts,
        (None, None) => given.routed_experts(spec)?,
    };
    let experts = agreed("experts", spec.experts, found, [1, most])?;
    let expert_dim = match weights {
        Some([_, expert_dim]) => agreed("expert_dim", spec.expert_dim, expert_dim, [1, MOST])?,
        None => spec.expert_dim.unwrap_or(0),
    };
    Ok((experts, expert_dim))
}
