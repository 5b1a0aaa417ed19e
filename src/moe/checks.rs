//! What a right question is: its numbers, its extents, its router.

use super::problem::{MAX_EXPERTS, MAX_TOP_K, MoeExtents, TensorDescs};
use super::routing::{Router, TokenChoice};
use super::spec::{Activation, MoeOutput, MoeSpec};
use crate::error::SpecError;
use crate::tensor::{Dtype, TensorDesc};

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
        match spec.router {
            Router::Soft { .. } => {
                Ok(self.shape("phi", "the soft router", ["experts", "slots", "model_dim"])?[0])
            }
            Router::External => match spec.experts {
                Some(experts) => Ok(experts.into()),
                None => Ok(self.shape("w_up", "moe", ["experts", "expert_dim", "model_dim"])?[0]),
            },
            _ if has("router_logits") && !has("router_w") => {
                Ok(self.shape("router_logits", "the router", ["tokens", "experts"])?[1])
            }
            _ => Ok(self.shape("router_w", "the router", ["experts", "model_dim"])?[0]),
        }
    }
}

pub(super) fn check_numbers(spec: &MoeSpec) -> Result<(), SpecError> {
    let floats = |field: &str, dtype: Dtype| match dtype.is_float() {
        true => Ok(()),
        false => Err(SpecError::value(field, "f32, f16 or bf16", dtype)),
    };
    floats("dtype", spec.dtype)?;
    floats("weights", spec.weights.unwrap_or(spec.dtype))?;
    if let Some(out) = spec.out_dtype
        && out != spec.dtype
        && out != Dtype::F32
    {
        let expected = format!("{} (the dtype) or f32", spec.dtype);
        return Err(SpecError::value("out_dtype", expected, out));
    }
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

pub(super) fn extents_of(spec: &MoeSpec, given: Given<'_>) -> Result<MoeExtents, SpecError> {
    let [tokens, model_dim] = given.shape("x", "moe", ["tokens", "model_dim"])?;
    let computes = spec.outputs.contains(&MoeOutput::Out);
    let [experts, expert_dim] = match computes {
        true => {
            let [experts, expert_dim, _] =
                given.shape("w_up", "moe", ["experts", "expert_dim", "model_dim"])?;
            [experts, expert_dim]
        }
        false => [given.routed_experts(spec)?, u64::from(spec.expert_dim.unwrap_or(0))],
    };
    let most = u64::from(u32::MAX >> 3);
    let ranged = |field: &str, asked: Option<u32>, found: u64, least: u64, most: u64| {
        if !(least..=most).contains(&found) {
            return Err(SpecError::value(field, format!("{least} to {most}"), found));
        }
        match asked {
            Some(asked) if u64::from(asked) != found => {
                Err(SpecError::value(field, format!("{found} as the tensors have"), asked))
            }
            _ => Ok(found as u32),
        }
    };
    let experts = ranged("experts", spec.experts, experts, 1, u64::from(MAX_EXPERTS))?;
    let tokens = ranged("tokens", spec.tokens, tokens, 0, most)?;
    let mut slots = 0;
    let top_k = match &spec.router {
        Router::TokenChoice(_) => spec.top_k.ok_or_else(|| {
            SpecError::value("top_k", "a number (token choice needs it)", "nothing")
        })?,
        Router::External => {
            let [_, found] = given.shape("topk_ids", "the external router", ["tokens", "top_k"])?;
            ranged("top_k", spec.top_k, found, 1, u64::from(MAX_TOP_K))?
        }
        Router::ExpertChoice { .. } => experts,
        Router::Soft { slots: count } => {
            slots = *count;
            1
        }
    };
    let shared_dim = match computes && given.tensors.contains_key("shared_w_up") {
        true => given.shape("shared_w_up", "moe", ["shared_dim", "model_dim"])?[0],
        false => 0,
    };
    Ok(MoeExtents {
        tokens,
        model_dim: ranged("model_dim", spec.model_dim, model_dim, 1, most)?,
        experts,
        expert_dim: ranged("expert_dim", spec.expert_dim, expert_dim, computes.into(), most)?,
        shared_dim: ranged("shared_dim", None, shared_dim, 0, most)?,
        top_k,
        slots,
    })
}

pub(super) fn check_router(spec: &MoeSpec, extents: &MoeExtents) -> Result<(), SpecError> {
    let MoeExtents { tokens, experts, top_k, .. } = *extents;
    let within = |field: &str, value: u32, most: u32| match (1..=most).contains(&value) {
        true => Ok(()),
        false => Err(SpecError::value(field, format!("1 to {most}"), value)),
    };
    match &spec.router {
        Router::TokenChoice(choice) => {
            within("top_k", top_k, MAX_TOP_K.min(experts))?;
            if let Some(groups) = choice.groups {
                let field = "router.token_choice.groups";
                if groups.count == 0 || !experts.is_multiple_of(groups.count) {
                    let expected = format!("a divisor of experts ({experts})");
                    return Err(SpecError::value(format!("{field}.count"), expected, groups.count));
                }
                within(&format!("{field}.keep"), groups.keep, groups.count)?;
                within("top_k", top_k, experts / groups.count * groups.keep)?;
            }
        }
        Router::ExpertChoice { capacity } => {
            let field = "router.expert_choice.capacity";
            if *capacity > tokens || (*capacity == 0 && tokens > 0) {
                let expected = format!("1 to tokens ({tokens})");
                return Err(SpecError::value(field, expected, capacity));
            }
        }
        Router::Soft { slots } => within("router.soft.slots", *slots, u32::MAX >> 16)?,
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
            MoeOutput::Counts | MoeOutput::Dropped => &["token_choice", "external"],
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
