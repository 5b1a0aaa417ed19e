//! The dense matmul as an operator.

use std::collections::BTreeMap;

use super::plan::plan;
use super::problem::MatmulProblem;
use super::tiles::MatmulTiles;
use super::weights;
use crate::error::PlanError;
use crate::gpu::limits::GpuLimits;
use crate::gpu::recording::Plan;
use crate::operator::{self, Operator};
use crate::tensor::{HostTensor, TensorDesc};

impl crate::operator::sealed::Sealed for MatmulProblem {}

impl Operator for MatmulProblem {
    type Tiles = MatmulTiles;

    fn candidates(&self, limits: &GpuLimits) -> Result<Vec<MatmulTiles>, PlanError> {
        MatmulTiles::some_candidates(u64::from(self.extents.rows), self.operands(), limits)
    }

    fn plan(&self, limits: &GpuLimits, tiles: &MatmulTiles) -> Result<Plan, PlanError> {
        plan(self, limits, tiles)
    }

    fn tensors(&self) -> Vec<(&str, TensorDesc)> {
        self.tensors.iter().map(|(name, desc)| (name.as_str(), desc.clone())).collect()
    }

    fn outputs(&self) -> Vec<&'static str> {
        vec!["out"]
    }

    fn known_names(&self) -> &'static [&'static str] {
        &["x", "w", "w_scales", "bias", "out"]
    }

    /// Weights shrink with what is summed, so that results are about as large as x.
    fn sample(&self, seed: u64) -> BTreeMap<String, HostTensor> {
        let scale = 1.0 / f64::from(self.extents.inner.max(1)).sqrt();
        let fill = |(name, desc): (&String, &TensorDesc)| {
            let host = match name.as_str() {
                "x" | "bias" => operator::noise(name, desc, seed, 1.0),
                _ => weights::noise(self.spec.weight_format(), name, desc, seed, scale),
            };
            (name.clone(), host)
        };
        self.tensors.iter().filter(|(name, _)| *name != "out").map(fill).collect()
    }
}
