//! Attention as an operator: its candidates, plan, tensors and samples.

use std::collections::BTreeMap;

use super::kernel::{Sequences, traits};
use super::problem::AttentionProblem;
use super::roles::HEAD_GATE;
use crate::error::{PlanError, SpecError};
use crate::fused::FusedTiles;
use crate::fused::domain::Call;
use crate::fused::plan::{self, ScratchBytes, Splitting};
use crate::gpu::limits::GpuLimits;
use crate::gpu::recording::Plan;
use crate::kernel::extra::ExtraInputs;
use crate::operator::Operator;
use crate::tensor::{HostTensor, TensorDesc};

/// Names of the contract, in the order in which it tells of them.
const KNOWN: [&str; 17] = [
    "q",
    "k",
    "v",
    "bias",
    "alibi_slopes",
    "sink_logits",
    "kv_lens",
    "cu_seqlens_q",
    "cu_seqlens_kv",
    "k_pages",
    "v_pages",
    "block_table",
    "prefix_k",
    "prefix_v",
    HEAD_GATE,
    "out",
    "lse",
];

impl crate::operator::sealed::Sealed for AttentionProblem {}

impl Operator for AttentionProblem {
    type Tiles = FusedTiles;

    fn candidates(&self, limits: &GpuLimits) -> Result<Vec<FusedTiles>, PlanError> {
        let e = &self.extents;
        let rows = self.typical_lens()[0] * u64::from(e.group_size());
        let candidates =
            FusedTiles::candidates(self.fused_shape(), rows, self.dense_flops(), limits);
        if candidates.is_empty() {
            return Err(plan::no_tiles::<Sequences<'_>>(self.fused_shape(), limits));
        }
        let split = |tiles: FusedTiles| {
            let splits =
                self.splitting(tiles).chosen(tiles.tile_kv(), tiles.workgroup_size(), limits);
            tiles.with_kv_splits(splits)
        };
        let mut candidates: Vec<FusedTiles> = candidates.into_iter().map(split).collect();
        let first = candidates[0];
        let others = self.splitting(first).others(first.tile_kv(), first.kv_splits());
        candidates.extend(others.into_iter().map(|splits| first.with_kv_splits(splits)));
        Ok(candidates)
    }

    fn plan(&self, limits: &GpuLimits, tiles: &FusedTiles) -> Result<Plan, PlanError> {
        let e = &self.extents;
        tiles.check(self.fused_shape(), limits)?;
        if e.batch == 0 || e.seq_len_q == 0 {
            return Plan::fitting(Vec::new(), Vec::new(), limits);
        }
        let call = Call {
            limits,
            tensors: &self.tensors,
            shape: self.fused_shape(),
            tiles: *tiles,
            kv_heads: e.kv_heads,
            group_size: e.group_size(),
            softmax_scale: self.softmax_scale(),
            score: &self.spec.score,
            normaliser: &self.spec.normaliser,
        };
        let extra = self.bound_extra_inputs(limits);
        plan::plan(&Sequences::new(self, *tiles), &call, &extra)
    }

    fn tensors(&self) -> Vec<(&str, TensorDesc)> {
        let in_callers_order = |name: &str, desc: &TensorDesc| TensorDesc {
            dtype: desc.dtype,
            layout: self.callers_layout(name),
        };
        let tensors = self.tensors.iter();
        tensors.map(|(name, desc)| (name.as_str(), in_callers_order(name, desc))).collect()
    }

    fn outputs(&self) -> Vec<&'static str> {
        ["out", "lse"].into_iter().filter(|name| self.tensors.contains_key(*name)).collect()
    }

    fn known_names(&self) -> &'static [&'static str] {
        &KNOWN
    }

    fn check_values(&self, inputs: &BTreeMap<String, HostTensor>) -> Result<(), SpecError> {
        super::values::check(self, inputs)
    }

    fn bucket(&self) -> Self {
        // What cannot be rounded stands for itself.
        super::shapes::bucket(self).unwrap_or_else(|_| self.clone())
    }

    fn sample(&self, seed: u64) -> BTreeMap<String, HostTensor> {
        super::sample::sample(self, seed)
    }
}

impl AttentionProblem {
    /// What the splits of a row's keys are chosen by.
    fn splitting(&self, tiles: FusedTiles) -> Splitting {
        let e = &self.extents;
        let group_rows = Sequences::new(self, tiles).group_rows(e.group_size());
        let rows = u64::from(e.seq_len_q) * u64::from(group_rows);
        let groups = u64::from(e.batch) * u64::from(e.q_heads / group_rows);
        let workgroups = rows.div_ceil(u64::from(tiles.tile_q())) * groups;
        Splitting { workgroups, keys: self.typical_lens()[1] }
    }

    /// How extra inputs are bound beside q, k, v, two outputs, the map of tiles and the gate.
    fn bound_extra_inputs<'a>(&'a self, limits: &'a GpuLimits) -> ExtraInputs<'a> {
        let names = self.extra_inputs().map(|named| named.name.clone()).collect();
        let by_map = traits(self).by_map;
        let core = 5 + u32::from(by_map) + u32::from(self.tensors.contains_key(HEAD_GATE));
        ExtraInputs::new(&self.tensors, names, core, ScratchBytes::EXTRA, limits)
    }
}
