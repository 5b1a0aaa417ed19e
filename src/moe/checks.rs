//! What a right problem is: its numbers, its router, no tensor that counts nothing.

use super::extents::{MAX_TOP_K, MoeExtents};
use super::routing::{Router, TokenChoice};
use super::spec::{Activation, MoeOutput, MoeSpec};
use crate::error::SpecError;
use crate::matmul::weights::check_activations;
use crate::tensor::{Dtype, TensorDesc, TensorDescs};

/// The spec's own numbers.
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

/// The router's own numbers, the capacity and the outputs that the router has.
pub(super) fn check_router(spec: &MoeSpec, extents: &MoeExtents) -> Result<(), SpecError> {
    let MoeExtents { tokens, top_k, .. } = *extents;
    match &spec.router {
        Router::TokenChoice(choice) => check_token_choice(choice, top_k, extents.choices())?,
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
    let rows = u64::from(extents.routed()) * u64::from(top_k);
    if rows > u64::from(u32::MAX >> 2) {
        let expected = format!("at most {} rows (tokens times top_k)", u32::MAX >> 2);
        return Err(SpecError::value("tokens", expected, rows));
    }
    check_capacity(spec, tokens)?;
    check_asked(spec)
}

/// 1 to `most`.
fn within(field: &str, value: u32, most: u32) -> Result<(), SpecError> {
    match (1..=most).contains(&value) {
        true => Ok(()),
        false => Err(SpecError::value(field, format!("1 to {most}"), value)),
    }
}

/// `top_k` and groups fit the choices.
fn check_token_choice(choice: &TokenChoice, top_k: u32, choices: u32) -> Result<(), SpecError> {
    within("top_k", top_k, MAX_TOP_K.min(choices))?;
    let Some(groups) = choice.groups else { return Ok(()) };
    let field = "router.token_choice.groups";
    if groups.count == 0 || !choices.is_multiple_of(groups.count) {
        let expected = format!("a divisor of experts ({choices})");
        return Err(SpecError::value(format!("{field}.count"), expected, groups.count));
    }
    within(&format!("{field}.keep"), groups.keep, groups.count)?;
    within("top_k", top_k, choices / groups.count * groups.keep)
}

/// The router leaves a capacity to the spec, and sequences are whole.
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

/// The router as specs name it.
fn router_name(router: &Router) -> &'static str {
    match router {
        Router::TokenChoice(_) => "token_choice",
        Router::ExpertChoice { .. } => "expert_choice",
        Router::Soft { .. } => "soft",
        Router::External => "external",
    }
}

/// Tensors of features that the problem does not have, which would otherwise count nothing.
pub(super) fn check_unused(spec: &MoeSpec, tensors: &TensorDescs) -> Result<(), SpecError> {
    check_router_tensors(spec, tensors)?;
    check_gates(spec, tensors)?;
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

/// What only some routers take.
fn check_router_tensors(spec: &MoeSpec, tensors: &TensorDescs) -> Result<(), SpecError> {
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
            return Err(SpecError::value(name, expected, shape(&tensors[name])));
        }
    }
    Ok(())
}

/// Gates of an activation that has none.
fn check_gates(spec: &MoeSpec, tensors: &TensorDescs) -> Result<(), SpecError> {
    let gates = ["w_gate", "b_gate", "shared_w_gate"];
    let unused = spec.outputs.contains(&MoeOutput::Out) && !spec.activation.is_gated();
    let found = gates.into_iter().find(|name| unused && tensors.contains_key(*name));
    let Some(name) = found else { return Ok(()) };
    let activation = serde_json::to_string(&spec.activation).unwrap_or_default();
    let expected = format!("no such tensor with the activation {activation}, which has no gate");
    Err(SpecError::value(name, expected, shape(&tensors[name])))
}

/// A tensor as an error shows it.
fn shape(desc: &TensorDesc) -> String {
    format!("shape {:?}", desc.shape())
}
