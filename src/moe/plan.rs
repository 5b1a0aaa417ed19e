//! From question, limits and tiles to dispatches. Pure: needs no device.

use std::collections::BTreeMap;

use super::context::{Context, Sections, scratch_buffers, scratch_bytes};
use super::cuts::Cuts;
use super::problem::MoeProblem;
use super::routing::{Capacity, Priority, Router};
use super::spec::MoeOutput;
use super::{combine, experts, inputs, loss, place, route};
use crate::error::PlanError;
use crate::gpu::limits::GpuLimits;
use crate::gpu::recording::{Plan, Step};
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
        tiles.check(self.operands(), limits)?;
        plan_cut(self, limits, *tiles, Cuts::of(self, limits, *tiles)?)
    }

    fn tensors(&self) -> Vec<(&str, TensorDesc)> {
        self.tensors.iter().map(|(name, desc)| (name.as_str(), desc.clone())).collect()
    }

    fn outputs(&self) -> Vec<&'static str> {
        self.spec.outputs.iter().map(|output| output.name()).collect()
    }

    fn bucket(&self) -> Self {
        // What cannot be rounded stands for itself.
        super::sample::bucket(self).unwrap_or_else(|_| self.clone())
    }

    fn sample(&self, seed: u64) -> BTreeMap<String, HostTensor> {
        super::sample::sample(self, seed)
    }
}

/// The plan with the experts' matmuls cut like this.
pub(super) fn plan_cut(
    problem: &MoeProblem,
    limits: &GpuLimits,
    tiles: MatmulTiles,
    cuts: Cuts,
) -> Result<Plan, PlanError> {
    let sections = Sections::of(problem, cuts, tiles)?;
    let scratch = scratch_bytes(problem, &sections);
    let context = Context { problem, limits, tiles, sections, cuts, scratch };
    Plan::fitting(steps(&context)?, scratch_buffers(scratch), limits)
}

fn steps(context: &Context<'_>) -> Result<Vec<Step>, PlanError> {
    let problem = context.problem;
    let places = problem.places();
    let at_once = if places { place::at_once(context)? } else { None };
    let mut steps = Vec::new();
    if !context.is_empty() {
        let given = at_once.is_some() && route::gives(context);
        steps.extend(routing_steps(context, given)?);
    }
    if problem.wants_losses() {
        steps.push(loss::losses(context)?);
    }
    if !places {
        return Ok(steps);
    }
    match at_once {
        Some(step) => steps.push(step),
        None => steps.extend(place::apart(context)?),
    }
    if context.is_empty() {
        return Ok(steps);
    }
    if matches!(problem.spec.router, Router::ExpertChoice { .. }) {
        steps.extend(place::token_lists(context)?);
    }
    if problem.wants(MoeOutput::Out) {
        if problem.extents.shared_dim > 0 {
            steps.extend(experts::shared(context)?);
        }
        steps.extend(inputs::round_inputs(context)?);
        for cut in context.cuts.all(problem) {
            steps.push(experts::gate_up(context, &cut)?);
        }
        steps.extend(inputs::round_hidden(context)?);
        for cut in context.cuts.all(problem) {
            steps.push(experts::down(context, &cut)?);
        }
        steps.extend(combine::combine(context)?);
    }
    Ok(steps)
}

/// From x to the expert of every pair; `given`: a later step copies what is known beforehand.
fn routing_steps(context: &Context<'_>, given: bool) -> Result<Vec<Step>, PlanError> {
    let problem = context.problem;
    let mut steps = Vec::new();
    if problem.has("router_w") || problem.has("phi") {
        steps.extend(experts::logits(context)?);
    }
    match problem.spec.router {
        Router::TokenChoice(_) | Router::ExpertChoice { .. } => {
            steps.extend(route::route(context)?)
        }
        Router::External => {}
        // What is mixed is the experts' input alone.
        Router::Soft { .. } if !problem.wants(MoeOutput::Out) => {}
        Router::Soft { .. } => steps.extend(combine::soft_inputs(context)?),
    }
    if matches!(problem.spec.router, Router::External | Router::Soft { .. }) && !given {
        steps.push(route::given(context)?);
    }
    if problem.wants_losses() {
        steps.extend(loss::terms(context)?);
    }
    if problem.capacity().is_some() {
        steps.extend(route::select(context)?);
    }
    Ok(steps)
}

impl MoeProblem {
    /// Rows that an expert takes of a sequence, of whatever router.
    pub(super) fn capacity(&self) -> Option<Capacity> {
        match self.spec.router {
            Router::ExpertChoice { capacity: rows } => {
                Some(Capacity { rows, sequences: 1, priority: Priority::Score })
            }
            _ => self.spec.capacity,
        }
    }

    /// Whether anything is asked for that depends on which row a pair is given.
    fn places(&self) -> bool {
        let placed = |output: &MoeOutput| match output {
            MoeOutput::Out
            | MoeOutput::Counts
            | MoeOutput::ExpertOffsets
            | MoeOutput::RowTokens
            | MoeOutput::PairRows
            | MoeOutput::Dropped
            | MoeOutput::TokenIds
            | MoeOutput::TokenWeights => true,
            MoeOutput::TopkIds
            | MoeOutput::TopkWeights
            | MoeOutput::Gates
            | MoeOutput::RouterLogits
            | MoeOutput::LoadBalancingLoss
            | MoeOutput::ZLoss => false,
        };
        self.spec.outputs.iter().any(placed)
    }

    pub(super) fn wants_losses(&self) -> bool {
        self.wants(MoeOutput::LoadBalancingLoss) || self.wants(MoeOutput::ZLoss)
    }

    /// Rows that all experts compute together, at most.
    pub(super) fn most_rows(&self) -> u64 {
        let e = &self.extents;
        let local = e.local_experts();
        let pairs = match self.spec.router {
            Router::Soft { .. } => u64::from(local) * u64::from(e.slots),
            Router::External => u64::from(e.tokens) * u64::from(e.top_k),
            // No token chooses an expert twice.
            _ => u64::from(e.tokens) * u64::from(e.top_k.min(local)),
        };
        self.capacity().map_or(pairs, |Capacity { rows, sequences, .. }| {
            let places = u64::from(local) * u64::from(sequences);
            pairs.min(places.saturating_mul(rows.into()))
        })
    }
}
