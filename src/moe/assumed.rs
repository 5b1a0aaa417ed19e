//! The tensors that a spec with all its extents has at least: for plans without tensors.

use super::routing::{Router, TokenChoice};
use super::spec::{MoeOutput, MoeSpec};
use crate::error::SpecError;
use crate::matmul::weights::stored;
use crate::tensor::{Dtype, TensorDesc, TensorDescs};

impl MoeSpec {
    /// The tensors that a spec with all its extents has at least, laid out without gaps: for plans without tensors.
    ///
    /// # Errors
    /// [`SpecError`] names an extent that is missing.
    pub fn assumed_tensors(&self) -> Result<TensorDescs, SpecError> {
        let tokens = extent("tokens", self.tokens)?;
        let model_dim = extent("model_dim", self.model_dim)?;
        let experts = extent("experts", self.experts)?;
        let mut tensors = TensorDescs::new();
        add(&mut tensors, "x", self.dtype, &[tokens, model_dim]);
        self.add_router(&mut tensors, [tokens, model_dim, experts])?;
        if self.outputs.contains(&MoeOutput::Out) {
            self.add_weights(&mut tensors, model_dim, experts)?;
        }
        Ok(tensors)
    }

    /// What gives every pair of token and expert.
    fn add_router(
        &self,
        tensors: &mut TensorDescs,
        [tokens, model_dim, experts]: [u64; 3],
    ) -> Result<(), SpecError> {
        let choices = experts + u64::from(self.null_experts.count());
        match &self.router {
            Router::External => {
                let top_k = extent("top_k", self.top_k)?;
                add(tensors, "topk_ids", Dtype::I32, &[tokens, top_k]);
                add(tensors, "topk_weights", Dtype::F32, &[tokens, top_k]);
            }
            Router::Soft { slots } => {
                add(tensors, "phi", self.dtype, &[experts, u64::from(*slots), model_dim]);
            }
            Router::TokenChoice(_) | Router::ExpertChoice { .. } => {
                add(tensors, "router_w", self.dtype, &[choices, model_dim]);
            }
        }
        if let Router::TokenChoice(TokenChoice { correction_bias: Some(name), .. }) = &self.router {
            add(tensors, name, Dtype::F32, &[choices]);
        }
        Ok(())
    }

    /// The experts' matrices.
    fn add_weights(
        &self,
        tensors: &mut TensorDescs,
        model_dim: u64,
        experts: u64,
    ) -> Result<(), SpecError> {
        let [start, end] = self.expert_range.map_or([0, experts], |range| range.map(u64::from));
        let local = end.saturating_sub(start);
        let expert_dim = extent("expert_dim", self.expert_dim)?;
        let up = [local, expert_dim, model_dim];
        let matrices = [("w_up", up), ("w_down", [local, model_dim, expert_dim]), ("w_gate", up)];
        let format = self.weight_format();
        for (name, shape) in matrices {
            if name == "w_gate" && !self.activation.is_gated() {
                continue;
            }
            for (name, shape) in stored(format, name, &shape, false) {
                add(tensors, &name, format.dtype(), &shape);
            }
        }
        Ok(())
    }
}

/// An extent that must be there.
fn extent(field: &str, value: Option<u32>) -> Result<u64, SpecError> {
    match value {
        Some(value) => Ok(u64::from(value)),
        None => Err(SpecError::value(field, "a number, where no tensors are given", "nothing")),
    }
}

/// A tensor without gaps.
fn add(tensors: &mut TensorDescs, name: &str, dtype: Dtype, shape: &[u64]) {
    tensors.insert(name.to_owned(), TensorDesc::contiguous(dtype, shape));
}
