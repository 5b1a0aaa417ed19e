//! From problem and limits to dispatches: slices of batches and key heads, so that every binding fits, in dispatches of
//! bounded work.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::context::{Context, WORKGROUP_SIZE, rows};
use super::kernel::{aggregate_step, aggregate_work, scores_step, scores_work};
use super::problem::{NeighborhoodAggregateProblem, NeighborhoodScoresProblem, Slots};
use crate::error::PlanError;
use crate::gpu::limits::GpuLimits;
use crate::gpu::recording::{Plan, Step, Steps, check_step_count};
use crate::kernel::slices::{Bindings, Cut, check_work, dispatches, slices, workgroups_a_dispatch};
use crate::neighborhood::bind::{widest, with_keys_seen};
use crate::operator::{Operator, Tiles};
use crate::tensor::TensorDesc;

/// The unfused operators have one shape of work.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SlotTiles {}

impl Tiles for SlotTiles {}

impl fmt::Display for SlotTiles {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("{}")
    }
}

/// Plans every slice; `multiply_adds` is what a workgroup does, `step` makes a dispatch of (first, count) workgroups.
fn plan(
    slots: &Slots,
    limits: &GpuLimits,
    lanes_a_row: u32,
    multiply_adds: f64,
    step: impl Fn(&Context<'_>, (u32, u32)) -> Result<Step, PlanError>,
) -> Result<Plan, PlanError> {
    check_work("neighborhood", slots.flops())?;
    let (axes, extents) = (slots.axes3(), slots.axes3().map(|axis| axis.extent));
    let whole = Cut {
        batches: slots.batch,
        kv_heads: slots.kv_heads,
        group: slots.group_size(),
        queries: extents,
        keys: [1; 3],
    };
    let bindings = |cut: &Cut| {
        let slice = widest(&axes, cut);
        Bindings { keys: [1; 3], ..rows(slots, limits, &slice).bindings() }
    };
    let way_out = |_: &str| "neighborhood attention does with less of it".to_owned();
    let cut = Cut::fitting(whole, [1; 3], limits.storage_binding_bytes, bindings, way_out)?;
    let mut steps = Steps::default();
    for slice in slices(&whole, &cut)? {
        let slice = with_keys_seen(&axes, slice);
        let context = Context { slots, limits, slice, lanes_a_row };
        let workgroups = context.items().div_ceil(u64::from(WORKGROUP_SIZE));
        let most = workgroups_a_dispatch(|| 2.0 * multiply_adds, limits);
        for share in dispatches("neighborhood", workgroups, most)? {
            steps.push(step(&context, share)?);
        }
        check_step_count("neighborhood", steps.len())?;
    }
    Plan::fitting(steps.into_vec(), Vec::new(), limits)
}

/// Every tensor by name.
fn tensors(slots: &Slots) -> Vec<(&str, TensorDesc)> {
    slots.tensors.iter().map(|(name, desc)| (name.as_str(), desc.clone())).collect()
}

impl crate::operator::sealed::Sealed for NeighborhoodScoresProblem {}

impl Operator for NeighborhoodScoresProblem {
    type Tiles = SlotTiles;

    fn candidates(&self, _: &GpuLimits) -> Result<Vec<SlotTiles>, PlanError> {
        Ok(vec![SlotTiles {}])
    }

    fn plan(&self, limits: &GpuLimits, _: &SlotTiles) -> Result<Plan, PlanError> {
        let (slots, scale) = (&self.slots, self.softmax_scale());
        plan(slots, limits, slots.volume(), scores_work(slots.dim), |context, share| {
            scores_step(context, scale, share)
        })
    }

    fn tensors(&self) -> Vec<(&str, TensorDesc)> {
        tensors(&self.slots)
    }

    fn outputs(&self) -> Vec<&'static str> {
        vec!["scores"]
    }
}

impl crate::operator::sealed::Sealed for NeighborhoodAggregateProblem {}

impl Operator for NeighborhoodAggregateProblem {
    type Tiles = SlotTiles;

    fn candidates(&self, _: &GpuLimits) -> Result<Vec<SlotTiles>, PlanError> {
        Ok(vec![SlotTiles {}])
    }

    fn plan(&self, limits: &GpuLimits, _: &SlotTiles) -> Result<Plan, PlanError> {
        let slots = &self.slots;
        let work = aggregate_work(slots.volume());
        plan(slots, limits, slots.dim.div_ceil(4), work, aggregate_step)
    }

    fn tensors(&self) -> Vec<(&str, TensorDesc)> {
        tensors(&self.slots)
    }

    fn outputs(&self) -> Vec<&'static str> {
        vec!["out"]
    }
}
