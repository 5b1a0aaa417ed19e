//! Neighborhood attention as an operator: its candidates, plan and tensors.

use super::kernel::{Boxes, by_map};
use super::problem::NeighborhoodProblem;
use super::simulate::candidate_tiles;
use super::tiles::NeighborhoodTiles;
use super::window::Axis;
use crate::error::PlanError;
use crate::fused::FusedShape;
use crate::fused::domain::{Call, Domain, HEAD_GATE};
use crate::fused::plan::{self, ScratchBytes, Splitting};
use crate::gpu::limits::GpuLimits;
use crate::gpu::recording::Plan;
use crate::kernel::extra::ExtraInputs;
use crate::kernel::slices::check_work;
use crate::operator::Operator;
use crate::tensor::TensorDesc;

impl NeighborhoodProblem {
    /// What tiles are chosen for.
    pub(crate) fn fused_shape(&self) -> FusedShape {
        let e = &self.extents;
        FusedShape { head_dim: e.head_dim, value_dim: e.value_dim, dtype: self.spec.dtype }
    }
}

/// Names of the contract.
const KNOWN: [&str; 10] =
    ["q", "k", "v", "extra_k", "extra_v", "bias", "sink_logits", HEAD_GATE, "out", "lse"];

impl crate::operator::sealed::Sealed for NeighborhoodProblem {}

impl Operator for NeighborhoodProblem {
    type Tiles = NeighborhoodTiles;

    fn candidates(&self, limits: &GpuLimits) -> Result<Vec<NeighborhoodTiles>, PlanError> {
        check_work(Boxes::NAME, self.flops())?;
        let mut candidates = candidate_tiles(self, limits);
        let Some(first) = candidates.first().copied() else {
            return Err(plan::no_tiles::<Boxes<'_>>(self.fused_shape(), limits));
        };
        let (splitting, tile_kv) = (self.splitting(&first), first.fused.tile_kv());
        let chosen = splitting.chosen(tile_kv, first.fused.workgroup_size(), limits);
        candidates[0] = first.with_kv_splits(chosen);
        let others = splitting.others(tile_kv, chosen);
        candidates.extend(others.into_iter().map(|splits| first.with_kv_splits(splits)));
        Ok(candidates)
    }

    fn plan(&self, limits: &GpuLimits, tiles: &NeighborhoodTiles) -> Result<Plan, PlanError> {
        let e = &self.extents;
        tiles.check(self.fused_shape(), limits)?;
        check_work(Boxes::NAME, self.flops())?;
        if e.batch == 0 || self.tokens() == 0 {
            return Plan::fitting(Vec::new(), Vec::new(), limits);
        }
        let call = Call {
            limits,
            tensors: &self.tensors,
            shape: self.fused_shape(),
            tiles: tiles.fused,
            kv_heads: e.kv_heads,
            group_size: e.group_size(),
            softmax_scale: self.softmax_scale(),
            score: &self.spec.score,
            normaliser: &self.spec.normaliser,
        };
        let extra = self.bound_extra_inputs(limits);
        plan::plan(&Boxes::new(self, *tiles, limits)?, &call, &extra)
    }

    fn tensors(&self) -> Vec<(&str, TensorDesc)> {
        self.tensors.iter().map(|(name, desc)| (name.as_str(), desc.clone())).collect()
    }

    fn outputs(&self) -> Vec<&'static str> {
        ["out", "lse"].into_iter().filter(|name| self.tensors.contains_key(*name)).collect()
    }

    fn known_names(&self) -> &'static [&'static str] {
        &KNOWN
    }

    fn bucket(&self) -> Self {
        // What cannot be rounded stands for itself.
        super::shapes::bucket(self).unwrap_or_else(|_| self.clone())
    }
}

impl NeighborhoodProblem {
    /// What the splits of a row's keys are chosen by.
    fn splitting(&self, tiles: &NeighborhoodTiles) -> Splitting {
        let e = &self.extents;
        let boxes = tiles.query_boxes(&self.axes3());
        let seen = |axis: &Axis| u64::from(axis.window.min(axis.class_len(0)));
        let keys: u64 = self.axes.iter().map(seen).product();
        Splitting {
            workgroups: boxes.saturating_mul(u64::from(e.batch) * u64::from(e.q_heads)),
            keys: keys + u64::from(e.extra),
        }
    }

    /// How extra inputs are bound beside the rows that a problem has, and the map of tiles.
    fn bound_extra_inputs<'a>(&'a self, limits: &'a GpuLimits) -> ExtraInputs<'a> {
        let names = self.extra_names();
        let others = self.tensors.keys().filter(|name| !names.contains(name)).count();
        let core = others + usize::from(by_map(self, limits));
        ExtraInputs::new(&self.tensors, names, core as u32, ScratchBytes::EXTRA, limits)
    }
}
