//! A mixture of experts as an operator.

use std::collections::BTreeMap;

use super::kernel::plan;
use super::problem::MoeProblem;
use super::sample;
use crate::error::PlanError;
use crate::gpu::limits::GpuLimits;
use crate::gpu::recording::Plan;
use crate::matmul::MatmulTiles;
use crate::operator::Operator;
use crate::tensor::{HostTensor, TensorDesc};

/// Names of the contract: inputs, then outputs that are not inputs of other routers.
const KNOWN: [&str; 37] = [
    "x",
    "router_w",
    "router_logits",
    "router_b",
    "correction_bias",
    "logit_mask",
    "token_top_k",
    "topk_ids",
    "topk_weights",
    "phi",
    "w_gate",
    "w_up",
    "w_down",
    "w_gate_scales",
    "w_up_scales",
    "w_down_scales",
    "b_gate",
    "b_up",
    "b_down",
    "shared_w_gate",
    "shared_w_up",
    "shared_w_down",
    "shared_w_gate_scales",
    "shared_w_up_scales",
    "shared_w_down_scales",
    "shared_gate_w",
    "out",
    "gates",
    "counts",
    "expert_offsets",
    "row_tokens",
    "pair_rows",
    "dropped",
    "token_ids",
    "token_weights",
    "load_balancing_loss",
    "z_loss",
];

impl crate::operator::sealed::Sealed for MoeProblem {}

impl Operator for MoeProblem {
    type Tiles = MatmulTiles;

    fn candidates(&self, limits: &GpuLimits) -> Result<Vec<MatmulTiles>, PlanError> {
        let rows = self.most_rows().div_ceil(u64::from(self.extents.local_experts()));
        MatmulTiles::some_candidates(rows, self.operands(), limits)
    }

    fn plan(&self, limits: &GpuLimits, tiles: &MatmulTiles) -> Result<Plan, PlanError> {
        plan(self, limits, *tiles)
    }

    fn tensors(&self) -> Vec<(&str, TensorDesc)> {
        self.tensors.iter().map(|(name, desc)| (name.as_str(), desc.clone())).collect()
    }

    fn outputs(&self) -> Vec<&'static str> {
        self.spec.outputs.iter().map(|output| output.name()).collect()
    }

    fn known_names(&self) -> &'static [&'static str] {
        &KNOWN
    }

    fn bucket(&self) -> Self {
        // What cannot be rounded stands for itself.
        sample::bucket(self).unwrap_or_else(|_| self.clone())
    }

    fn sample(&self, seed: u64) -> BTreeMap<String, HostTensor> {
        sample::sample(self, seed)
    }
}
