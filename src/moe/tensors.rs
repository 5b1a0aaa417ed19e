//! Which tensors a question takes and gives, and in which shapes.

use super::problem::{MoeExtents, TensorDescs};
use super::routing::{Router, TokenChoice};
use super::spec::{MoeOutput, MoeSpec};
use crate::error::SpecError;
use crate::matmul::weights::{scales_name, stored};
use crate::tensor::{Dtype, TensorDesc, check};

/// Which element types a tensor may have.
#[derive(Clone, Copy)]
pub(super) enum Kind {
    Exactly(Dtype),
    /// f32, or the spec's dtype.
    Side(Dtype),
}

/// An input, as it should be.
pub(super) struct Wanted {
    pub name: String,
    pub shape: Vec<u64>,
    pub kind: Kind,
}

/// Every input that the question takes, in the contract's shapes.
pub(super) fn wanted(spec: &MoeSpec, extents: &MoeExtents, tensors: &TensorDescs) -> Vec<Wanted> {
    let MoeExtents {
        tokens,
        model_dim,
        experts,
        null_experts: _,
        expert_start: _,
        expert_end: _,
        expert_dim,
        shared_dim,
        top_k,
        slots,
    } = *extents;
    let [tokens, model_dim, experts, expert_dim, shared_dim, top_k, slots] =
        [tokens, model_dim, experts, expert_dim, shared_dim, top_k, slots].map(u64::from);
    let [choices, local] = [extents.choices(), extents.local_experts()].map(u64::from);
    let format = spec.weight_format();
    let side = Kind::Side(spec.dtype);
    let mut all = Vec::new();
    let mut want = |name: &str, shape: &[u64], kind: Kind| {
        all.push(Wanted { name: name.to_owned(), shape: shape.to_vec(), kind });
    };
    let has = |name: &str| tensors.contains_key(name);
    want("x", &[tokens, model_dim], Kind::Exactly(spec.dtype));
    let logits_given = has("router_logits") && !has("router_w");
    match &spec.router {
        Router::External => {
            want("topk_ids", &[tokens, top_k], Kind::Exactly(Dtype::I32));
            want("topk_weights", &[tokens, top_k], side);
        }
        Router::Soft { .. } => want("phi", &[experts, slots, model_dim], side),
        _ if logits_given => want("router_logits", &[tokens, choices], side),
        _ => want("router_w", &[choices, model_dim], side),
    }
    let computes_logits =
        matches!(spec.router, Router::TokenChoice(_) | Router::ExpertChoice { .. })
            && !logits_given;
    if computes_logits && has("router_b") {
        want("router_b", &[choices], side);
    }
    if spec.router != Router::External && has("logit_mask") {
        want("logit_mask", &[tokens, choices], Kind::Exactly(Dtype::Bool));
    }
    if let Router::TokenChoice(TokenChoice { correction_bias: Some(name), .. }) = &spec.router {
        want(name, &[choices], side);
    }
    if matches!(spec.router, Router::TokenChoice(_) | Router::External) && has("token_top_k") {
        want("token_top_k", &[tokens], Kind::Exactly(Dtype::I32));
    }
    if !spec.outputs.contains(&MoeOutput::Out) {
        return all;
    }
    let gated = spec.activation.is_gated();
    let mut matrices = vec![("w_up", vec![local, expert_dim, model_dim])];
    matrices.push(("w_down", vec![local, model_dim, expert_dim]));
    if gated {
        matrices.push(("w_gate", vec![local, expert_dim, model_dim]));
    }
    if shared_dim > 0 {
        matrices.push(("shared_w_up", vec![shared_dim, model_dim]));
        matrices.push(("shared_w_down", vec![model_dim, shared_dim]));
        if gated {
            matrices.push(("shared_w_gate", vec![shared_dim, model_dim]));
        }
    }
    for (name, shape) in matrices {
        for (name, shape) in stored(format, name, &shape, has(&scales_name(name))) {
            want(&name, &shape, Kind::Exactly(format.dtype()));
        }
    }
    for (name, extent) in [("b_gate", expert_dim), ("b_up", expert_dim), ("b_down", model_dim)] {
        if has(name) && (gated || name != "b_gate") {
            want(name, &[local, extent], side);
        }
    }
    if shared_dim > 0 && has("shared_gate_w") {
        want("shared_gate_w", &[1, model_dim], side);
    }
    all
}

pub(super) fn check_tensor(
    name: &str,
    desc: &TensorDesc,
    shape: &[u64],
    kind: Kind,
) -> Result<(), SpecError> {
    if desc.shape() != shape {
        let got = format!("{:?}", desc.shape());
        return Err(SpecError::value(name, format!("shape {shape:?}"), got));
    }
    let (accepted, fits) = match kind {
        Kind::Exactly(dtype) => (dtype.to_string(), desc.dtype == dtype),
        Kind::Side(Dtype::F32) => ("f32".to_owned(), desc.dtype == Dtype::F32),
        Kind::Side(dtype) => {
            (format!("f32 or {dtype}"), desc.dtype == dtype || desc.dtype == Dtype::F32)
        }
    };
    if !fits {
        return Err(SpecError::Dtype {
            tensor: name.to_owned(),
            expected: accepted,
            got: desc.dtype.to_string(),
        });
    }
    if let (Some(&stride), Some(&extent)) = (desc.layout.strides().last(), shape.last())
        && stride != 1
        && extent > 1
    {
        return Err(SpecError::value(format!("{name} stride of the last axis"), 1, stride));
    }
    check::within_u64(name, desc)
}

pub(super) fn output_desc(output: MoeOutput, spec: &MoeSpec, extents: &MoeExtents) -> TensorDesc {
    let tokens = u64::from(extents.tokens);
    let experts = u64::from(extents.experts);
    let choices = u64::from(extents.choices());
    let top_k = u64::from(extents.top_k);
    let (dtype, shape) = match output {
        MoeOutput::Out => {
            let dtype = spec.out_dtype.unwrap_or(spec.dtype);
            (dtype, vec![tokens, u64::from(extents.model_dim)])
        }
        MoeOutput::TopkIds => (Dtype::I32, vec![tokens, top_k]),
        MoeOutput::TopkWeights => (Dtype::F32, vec![tokens, top_k]),
        MoeOutput::Counts => (Dtype::I32, vec![choices]),
        MoeOutput::ExpertOffsets => (Dtype::I32, vec![experts + 1]),
        MoeOutput::RowTokens => (Dtype::I32, vec![tokens * top_k]),
        MoeOutput::PairRows => (Dtype::I32, vec![tokens, top_k]),
        MoeOutput::RouterLogits if extents.slots > 0 => {
            (Dtype::F32, vec![tokens, experts, u64::from(extents.slots)])
        }
        MoeOutput::RouterLogits | MoeOutput::Gates => (Dtype::F32, vec![tokens, choices]),
        MoeOutput::Dropped => (Dtype::I32, vec![1]),
        MoeOutput::TokenIds | MoeOutput::TokenWeights => {
            let rows = match spec.router {
                Router::ExpertChoice { capacity } => u64::from(capacity),
                _ => 0,
            };
            let dtype = if output == MoeOutput::TokenIds { Dtype::I32 } else { Dtype::F32 };
            (dtype, vec![experts, rows])
        }
        MoeOutput::LoadBalancingLoss | MoeOutput::ZLoss => (Dtype::F32, vec![1]),
    };
    TensorDesc::contiguous(dtype, &shape)
}

impl MoeSpec {
    /// The tensors that a spec with all its extents has at least, laid out without gaps: for plans without tensors.
    ///
    /// # Errors
    /// [`SpecError`] names an extent that is missing.
    pub fn assumed_tensors(&self) -> Result<TensorDescs, SpecError> {
        let extent = |field: &str, value: Option<u32>| match value {
            Some(value) => Ok(u64::from(value)),
            None => Err(SpecError::value(field, "a number, where no tensors are given", "nothing")),
        };
        let tokens = extent("tokens", self.tokens)?;
        let model_dim = extent("model_dim", self.model_dim)?;
        let experts = extent("experts", self.experts)?;
        let choices = experts + u64::from(self.null_experts.count());
        let [start, end] = self.expert_range.map_or([0, experts], |range| range.map(u64::from));
        let local = end.saturating_sub(start);
        let format = self.weight_format();
        let weights = |name: &str, shape: [u64; 3]| {
            let stored = stored(format, name, &shape, false).into_iter().next();
            stored.map_or(shape.to_vec(), |(_, shape)| shape)
        };
        let mut tensors = TensorDescs::new();
        let mut add = |name: &str, dtype: Dtype, shape: &[u64]| {
            tensors.insert(name.to_owned(), TensorDesc::contiguous(dtype, shape));
        };
        add("x", self.dtype, &[tokens, model_dim]);
        match &self.router {
            Router::External => {
                let top_k = extent("top_k", self.top_k)?;
                add("topk_ids", Dtype::I32, &[tokens, top_k]);
                add("topk_weights", Dtype::F32, &[tokens, top_k]);
            }
            Router::Soft { slots } => {
                add("phi", self.dtype, &[experts, u64::from(*slots), model_dim]);
            }
            Router::TokenChoice(_) | Router::ExpertChoice { .. } => {
                add("router_w", self.dtype, &[choices, model_dim]);
            }
        }
        if let Router::TokenChoice(TokenChoice { correction_bias: Some(name), .. }) = &self.router {
            add(name, Dtype::F32, &[choices]);
        }
        if self.outputs.contains(&MoeOutput::Out) {
            let expert_dim = extent("expert_dim", self.expert_dim)?;
            let up = weights("w_up", [local, expert_dim, model_dim]);
            add("w_up", format.dtype(), &up);
            add("w_down", format.dtype(), &weights("w_down", [local, model_dim, expert_dim]));
            if self.activation.is_gated() {
                add("w_gate", format.dtype(), &up);
            }
        }
        Ok(tensors)
    }
}
