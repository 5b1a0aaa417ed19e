//! Which tensors a problem takes and gives, and in which shapes.

use super::extents::MoeExtents;
use super::routing::{Router, TokenChoice};
use super::spec::{MoeOutput, MoeSpec};
use crate::error::SpecError;
use crate::matmul::weights::{scales_name, stored};
use crate::tensor::{Dtype, TensorDesc, TensorDescs, check};

/// Which element types a tensor may have.
#[derive(Clone, Copy)]
pub(super) enum Kind {
    Exactly(Dtype),
    /// f32, or the spec's dtype.
    Float(Dtype),
}

/// An input, as it should be.
pub(super) struct Wanted {
    pub name: String,
    pub shape: Vec<u64>,
    pub kind: Kind,
}

/// Every input that the problem takes, in the contract's shapes.
pub(super) fn wanted(spec: &MoeSpec, extents: &MoeExtents, tensors: &TensorDescs) -> Vec<Wanted> {
    let mut inputs = Inputs { spec, extents, tensors, wanted: Vec::new() };
    let x = [extents.tokens, extents.model_dim];
    inputs.want("x", &x, Kind::Exactly(spec.dtype));
    inputs.router();
    inputs.choice();
    if spec.outputs.contains(&MoeOutput::Out) {
        inputs.weights();
        inputs.biases();
    }
    inputs.wanted
}

/// The inputs of a problem as they are listed.
struct Inputs<'a> {
    spec: &'a MoeSpec,
    extents: &'a MoeExtents,
    tensors: &'a TensorDescs,
    wanted: Vec<Wanted>,
}

impl Inputs<'_> {
    /// Lists an input.
    fn want(&mut self, name: &str, shape: &[u32], kind: Kind) {
        let shape = shape.iter().map(|extent| u64::from(*extent)).collect();
        self.wanted.push(Wanted { name: name.to_owned(), shape, kind });
    }

    /// Whether the caller has such a tensor.
    fn has(&self, name: &str) -> bool {
        self.tensors.contains_key(name)
    }

    /// f32, or the spec's type.
    fn float(&self) -> Kind {
        Kind::Float(self.spec.dtype)
    }

    /// What gives every pair of token and expert, or its logits.
    fn router(&mut self) {
        let MoeExtents { tokens, model_dim, experts, top_k, slots, .. } = *self.extents;
        let (choices, float) = (self.extents.choices(), self.float());
        let logits_given = self.has("router_logits") && !self.has("router_w");
        match &self.spec.router {
            Router::External => {
                self.want("topk_ids", &[tokens, top_k], Kind::Exactly(Dtype::I32));
                self.want("topk_weights", &[tokens, top_k], float);
            }
            Router::Soft { .. } => self.want("phi", &[experts, slots, model_dim], float),
            _ if logits_given => self.want("router_logits", &[tokens, choices], float),
            Router::TokenChoice(_) | Router::ExpertChoice { .. } => {
                self.want("router_w", &[choices, model_dim], float);
                if self.has("router_b") {
                    self.want("router_b", &[choices], float);
                }
            }
        }
    }

    /// What a choice depends on beside the logits.
    fn choice(&mut self) {
        let (tokens, choices) = (self.extents.tokens, self.extents.choices());
        let router = &self.spec.router;
        if *router != Router::External && self.has("logit_mask") {
            self.want("logit_mask", &[tokens, choices], Kind::Exactly(Dtype::Bool));
        }
        if let Router::TokenChoice(TokenChoice { correction_bias: Some(name), .. }) = router {
            self.want(name, &[choices], self.float());
        }
        if matches!(router, Router::TokenChoice(_) | Router::External) && self.has("token_top_k") {
            self.want("token_top_k", &[tokens], Kind::Exactly(Dtype::I32));
        }
    }

    /// The matrices of the experts, and of a shared one.
    fn weights(&mut self) {
        let MoeExtents { model_dim, expert_dim, shared_dim, .. } = *self.extents;
        let local = self.extents.local_experts();
        let gated = self.spec.activation.is_gated();
        let mut matrices = vec![
            ("w_up", vec![local, expert_dim, model_dim]),
            ("w_down", vec![local, model_dim, expert_dim]),
        ];
        if gated {
            matrices.push(("w_gate", vec![local, expert_dim, model_dim]));
        }
        if shared_dim > 0 {
            matrices.push(("shared_w_up", vec![shared_dim, model_dim]));
            matrices.push(("shared_w_down", vec![model_dim, shared_dim]));
        }
        if shared_dim > 0 && gated {
            matrices.push(("shared_w_gate", vec![shared_dim, model_dim]));
        }
        let format = self.spec.weight_format();
        for (name, shape) in matrices {
            let shape: Vec<u64> = shape.into_iter().map(u64::from).collect();
            let kind = Kind::Exactly(format.dtype());
            let stored = stored(format, name, &shape, self.has(&scales_name(name)));
            self.wanted.extend(stored.into_iter().map(|(name, shape)| Wanted {
                name,
                shape,
                kind,
            }));
        }
    }

    /// What is added to sums, and the shared expert's gate.
    fn biases(&mut self) {
        let MoeExtents { model_dim, expert_dim, shared_dim, .. } = *self.extents;
        let (local, float) = (self.extents.local_experts(), self.float());
        for (name, extent) in [("b_gate", expert_dim), ("b_up", expert_dim), ("b_down", model_dim)]
        {
            if self.has(name) && (self.spec.activation.is_gated() || name != "b_gate") {
                self.want(name, &[local, extent], float);
            }
        }
        if shared_dim > 0 && self.has("shared_gate_w") {
            self.want("shared_gate_w", &[1, model_dim], float);
        }
    }
}

/// Shape, type and layout are as they should be.
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
        Kind::Float(Dtype::F32) => ("f32".to_owned(), desc.dtype == Dtype::F32),
        Kind::Float(dtype) => {
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

/// An output without gaps.
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
