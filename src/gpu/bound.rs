//! Calls bound to buffers: the bind groups of their steps, kept while the same buffers come again.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

use super::context::Gpu;
use super::lock::lock;
use super::pipeline::Pipeline;
use super::recording::{Grid, Plan};
use crate::recent::Recent;

/// Bound calls that are kept; each holds the buffers that it binds.
const KEPT_BOUND: usize = 1024;

/// One that so many recordings did not ask for leaves, lest it hold buffers that the app has dropped.
const KEPT_FOR: u64 = 4 * KEPT_BOUND as u64;

/// A buffer that a caller gives for a tensor.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Given<'a> {
    /// The tensor.
    pub name: &'a str,
    /// Its buffer.
    pub buffer: &'a wgpu::Buffer,
    /// Bytes by which it lies behind where the plan has it, a multiple of the device's alignment.
    pub shift: u64,
}

/// The buffers of a call, in the caller's order.
pub(crate) trait Givens<'a>: Iterator<Item = Given<'a>> + Clone {}

impl<'a, T: Iterator<Item = Given<'a>> + Clone> Givens<'a> for T {}

/// What the steps of a call are recorded with.
#[derive(Debug)]
pub(crate) struct BoundCall {
    /// The prepared call.
    pub call: u64,
    /// What it was given.
    pub tensors: Vec<(String, wgpu::Buffer, u64)>,
    /// Its scratch, which holds grids too.
    pub scratch: Vec<wgpu::Buffer>,
    /// Of each step.
    pub steps: Vec<(Arc<Pipeline>, wgpu::BindGroup)>,
}

impl BoundCall {
    /// Whether it is that call with those buffers.
    fn is<'a>(&self, call: u64, given: impl Givens<'a>) -> bool {
        let known =
            self.tensors.iter().map(|(name, buffer, shift)| (name.as_str(), buffer, *shift));
        self.call == call && known.eq(given.map(|it| (it.name, it.buffer, it.shift)))
    }

    /// Records every step of the plan.
    pub fn dispatch(&self, pass: &mut wgpu::ComputePass<'_>, plan: &Plan) {
        (0..self.steps.len()).for_each(|index| self.dispatch_step(pass, plan, index));
    }

    /// Records one step.
    pub fn dispatch_step(&self, pass: &mut wgpu::ComputePass<'_>, plan: &Plan, index: usize) {
        let (pipeline, group) = &self.steps[index];
        pass.set_pipeline(&pipeline.pipeline);
        pass.set_bind_group(0, group, &[]);
        match plan.steps[index].grid {
            Grid::Direct([x, y, z]) => pass.dispatch_workgroups(x, y, z),
            Grid::Indirect { scratch, offset } => {
                pass.dispatch_workgroups_indirect(&self.scratch[scratch], offset);
            }
        }
    }
}

/// Bound calls of an engine.
#[derive(Debug)]
pub(super) struct BoundCalls {
    kept: Recent<u64, Arc<BoundCall>>,
    /// Keys that came before, each at a place that it alone decides: another there is forgotten.
    seen: Vec<u64>,
}

impl Default for BoundCalls {
    fn default() -> Self {
        Self { kept: Recent::new(KEPT_BOUND), seen: vec![0; KEPT_BOUND] }
    }
}

impl BoundCalls {
    /// Whether a key came before, as far as that is remembered.
    fn comes_again(&mut self, key: u64) -> bool {
        let place = key as usize % self.seen.len();
        std::mem::replace(&mut self.seen[place], key) == key
    }

    /// Lets all go.
    pub fn clear(&mut self) {
        self.kept.clear();
    }
}

/// What a bound call is found by.
pub(crate) fn bound_key<'a>(call: u64, given: impl Givens<'a>) -> u64 {
    let mut hasher = DefaultHasher::new();
    call.hash(&mut hasher);
    given.for_each(|Given { name, buffer, shift }| (name, buffer, shift).hash(&mut hasher));
    hasher.finish()
}

impl Gpu {
    /// A bound call that was kept.
    pub fn bound<'a>(&self, key: u64, call: u64, given: impl Givens<'a>) -> Option<Arc<BoundCall>> {
        let mut bound = lock(&self.bound);
        let known = bound.kept.get(&key)?;
        known.is(call, given).then(|| Arc::clone(known))
    }

    /// Keeps a bound call that comes for the second time: buffers of one that comes once are not held.
    pub fn keep_bound(&self, key: u64, call: &Arc<BoundCall>) {
        let mut bound = lock(&self.bound);
        if bound.comes_again(key) {
            bound.kept.insert(key, Arc::clone(call));
            bound.kept.drop_unused_for(KEPT_FOR);
        }
    }

    /// Lets those of a call go.
    pub fn forget_bound(&self, call: u64) {
        lock(&self.bound).kept.retain(|bound| bound.call != call);
    }
}
