//! What a right question is: its numbers, its extents, its router.

use super::problem::{MAX_EXPERTS, MAX_TOP_K, MoeExtents, TensorDescs};
use super::routing::{Router, TokenChoice};
use super::spec::{Activation, MoeOutput, MoeSpec};
use crate::error::SpecError;
use crate::matmul::weights::{check_activations, check_inner, scales_name};
use crate::tensor::{Dtype, TensorDesc, WeightFormat};

/// Most elements of an extent.
const MOST: u32 = u32::MAX >> 3;

/// The caller's tensors.
#[derive(Clone, Copy)]
pub(super) struct Given<'a> {
    pub tensors: &'a TensorDescs,
}

impl<'a> Given<'a> {
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

pub(super) fn check_numbers(spec: &MoeSpec) -> Result<(), SpecError> {
    let floats = |field: &str, dtype: Dtype| match dtype.is_float() {
        true => Ok(()),
        false => Err(SpecError::value(field, "f32, f16 or bf16", dtype)),
    };
    floats("dtype", spec.dtype)?;
    if let Some(out) = spec.out_dtype
        && out != spec.dtype
        && out != Dtype::F32
    {
        let expected = format!("{} (the dtype) or f32", spec.dtype);
        return Err(SpecError::value("out_dtype", expected, out));
    }
    check_activations(spec.quantise_activations, spec.weight_format())?;
    if spec.outputs.is_empty() {
        return Err(SpecError::value("outputs", "at least one, such as out", "none"));
    }
    if let Activation::ClampedSwiglu { alpha, limit } = spec.activation {
        let finite = alpha.is_finite() && limit.is_finite() && limit.0 > 0.0;
        if !finite {
            let got = format!("alpha {alpha}, limit {limit}");
            let expected = "a finite alpha and a finite limit above 0";
            return Err(SpecError::value("activation.clamped_swiglu", expected, got));
        }
    }
    if let Router::TokenChoice(TokenChoice { scale, epsilon, .. }) = &spec.router {
        for (field, value) in [("scale", scale), ("epsilon", epsilon)] {
            if !value.is_finite() {
                let field = format!("router.token_choice.{field}");
                return Err(SpecError::value(field, "a finite number", value));
            }
        }
    }
    Ok(())
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

pub(super) fn extents_of(spec: &MoeSpec, given: Given<'_>) -> Result<MoeExtents, SpecError> {
    let [tokens, model_dim] = given.shape("x", "moe", ["tokens", "model_dim"])?;
    let computes = spec.outputs.contains(&MoeOutput::Out);
    let tokens = agreed("tokens", spec.tokens, tokens, [0, MOST])?;
    let (experts, expert_dim) = experts_of(spec, given)?;
    let choices = experts + spec.null_experts.count();
    let mut slots = 0;
    let top_k = match &spec.router {
        Router::TokenChoice(_) => spec.top_k.ok_or_else(|| {
            SpecError::value("top_k", "a number (token choice needs it)", "nothing")
        })?,
        Router::External => {
            let [_, found] = given.shape("topk_ids", "the external router", ["tokens", "top_k"])?;
            agreed("top_k", spec.top_k, found, [1, MAX_TOP_K])?
        }
        Router::ExpertChoice { .. } => choices,
        Router::Soft { slots: count } => {
            slots = *count;
            1
        }
    };
    let shared_dim = match computes && given.tensors.contains_key("shared_w_up") {
        true => given.weights::<1>("shared_w_up", spec)?[0],
        false => 0,
    };
    let [expert_start, expert_end] = spec.expert_range.unwrap_or([0, experts]);
    if computes {
        let [expert, shared] = [u64::from(expert_dim), shared_dim];
        for (field, extent) in
            [("model_dim", model_dim), ("expert_dim", expert), ("shared_dim", shared)]
        {
            check_inner(spec.weight_format(), field, extent)?;
        }
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
        slots,
    })
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

pub(super) fn check_router(spec: &MoeSpec, extents: &MoeExtents) -> Result<(), SpecError> {
    let MoeExtents { tokens, top_k, .. } = *extents;
    let choices = extents.choices();
    let within = |field: &str, value: u32, most: u32| match (1..=most).contains(&value) {
        true => Ok(()),
        false => Err(SpecError::value(field, format!("1 to {most}"), value)),
    };
    match &spec.router {
        Router::TokenChoice(choice) => {
            within("top_k", top_k, MAX_TOP_K.min(choices))?;
            if let Some(groups) = choice.groups {
                let field = "router.token_choice.groups";
                if groups.count == 0 || !choices.is_multiple_of(groups.count) {
                    let expected = format!("a divisor of experts ({choices})");
                    return Err(SpecError::value(format!("{field}.count"), expected, groups.count));
                }
                within(&format!("{field}.keep"), groups.keep, groups.count)?;
                within("top_k", top_k, choices / groups.count * groups.keep)?;
            }
        }
        Router::ExpertChoice { capacity } => {
            let field = "router.expert_choice.capacity";
            if *capacity > tokens || (*capacity == 0 && tokens > 0) {
                let expected = format!("1 to tokens ({tokens})");
                return Err(SpecError::value(field, expected, capacity));
            }
        }
        Router::Soft { slots } => {
            within("router.soft.slots", *slots, u32::MAX >> 16)?;
            if spec.null_experts.count() > 0 {
                let expected = "none with a soft router: every slot is an expert's";
                return Err(SpecError::value("null_experts", expected, spec.null_experts.count()));
            }
        }
        Router::External => {}
    }
    if u64::from(extents.routed()) * u64::from(top_k) > u64::from(u32::MAX >> 2) {
        let expected = format!("at most {} rows (tokens times top_k)", u32::MAX >> 2);
        let got = u64::from(extents.routed()) * u64::from(top_k);
        return Err(SpecError::value("tokens", expected, got));
    }
    check_capacity(spec, tokens)?;
    check_asked(spec)
}

fn check_capacity(spec: &MoeSpec, tokens: u32) -> Result<(), SpecError> {
    let Some(capacity) = spec.capacity else { return Ok(()) };
    if matches!(spec.router, Router::ExpertChoice { .. } | Router::Soft { .. }) {
        let expected = "nothing: expert choice and soft routers have a capacity of their own";
        return Err(SpecError::value("capacity", expected, format!("rows {}", capacity.rows)));
    }
    if capacity.sequences == 0 || !tokens.is_multiple_of(capacity.sequences) {
        let expected = format!("a divisor of tokens ({tokens})");
        return Err(SpecError::value("capacity.sequences", expected, capacity.sequences));
    }
    Ok(())
}

/// Outputs that the router does not have.
fn check_asked(spec: &MoeSpec) -> Result<(), SpecError> {
    for output in &spec.outputs {
        let routers: &[&str] = match output {
            MoeOutput::Out => continue,
            MoeOutput::TopkIds | MoeOutput::TopkWeights | MoeOutput::Gates => &["token_choice"],
            MoeOutput::TokenIds | MoeOutput::TokenWeights => &["expert_choice"],
            MoeOutput::Counts
            | MoeOutput::Dropped
            | MoeOutput::ExpertOffsets
            | MoeOutput::RowTokens
            | MoeOutput::PairRows => &["token_choice", "external"],
            MoeOutput::RouterLogits => &["token_choice", "expert_choice", "soft"],
            MoeOutput::LoadBalancingLoss | MoeOutput::ZLoss => &["token_choice"],
        };
        let router = router_name(&spec.router);
        if !routers.contains(&router) {
            let expected = format!("{} with a {} router", output.name(), routers.join(" or "));
            return Err(SpecError::value("outputs", expected, format!("{router} router")));
        }
    }
    Ok(())
}

fn router_name(router: &Router) -> &'static str {
    match router {
        Router::TokenChoice(_) => "token_choice",
        Router::ExpertChoice { .. } => "expert_choice",
        Router::Soft { .. } => "soft",
        Router::External => "external",
    }
}

/// Tensors of features that the router does not have, which would otherwise count nothing.
pub(super) fn check_unused(spec: &MoeSpec, tensors: &TensorDescs) -> Result<(), SpecError> {
    let router = router_name(&spec.router);
    for (name, routers) in [
        ("logit_mask", &["token_choice", "expert_choice", "soft"][..]),
        ("token_top_k", &["token_choice", "external"]),
        ("correction_bias", &["token_choice"]),
    ] {
        if tensors.contains_key(name) && !routers.contains(&router) {
            let article =
                if router == "external" || router == "expert_choice" { "an" } else { "a" };
            let expected = format!("no such tensor with {article} {router} router");
            let got = format!("shape {:?}", tensors[name].shape());
            return Err(SpecError::value(name, expected, got));
        }
    }
    let gates = ["w_gate", "b_gate", "shared_w_gate"];
    if spec.outputs.contains(&MoeOutput::Out)
        && !spec.activation.is_gated()
        && let Some(name) = gates.into_iter().find(|name| tensors.contains_key(*name))
    {
        let activation = serde_json::to_string(&spec.activation).unwrap_or_default();
        let expected =
            format!("no such tensor with the activation {activation}, which has no gate");
        let got = format!("shape {:?}", tensors[name].shape());
        return Err(SpecError::value(name, expected, got));
    }
    let shared = ["shared_w_gate", "shared_w_down", "shared_gate_w"];
    if !tensors.contains_key("shared_w_up")
        && let Some(name) = shared.into_iter().find(|name| tensors.contains_key(*name))
    {
        return Err(SpecError::MissingTensor {
            name: "shared_w_up".to_owned(),
            why: format!("{name} is of a shared expert"),
        });
    }
    Ok(())
}
