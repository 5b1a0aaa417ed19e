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

    fn bucket(&self) -> Self {
        // What cannot be rounded stands for itself.
        sample::bucket(self).unwrap_or_else(|_| self.clone())
    }

    fn sample(&self, seed: u64) -> BTreeMap<String, HostTensor> {
        sample::sample(self, seed)
    }
}
