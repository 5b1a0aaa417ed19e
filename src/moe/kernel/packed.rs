//! Small operands in one buffer: where a kernel would bind more tensors than the device takes.

use super::context::Context;
use super::scratch::Scratch;
use crate::error::PlanError;
use crate::gpu::limits::GpuLimits;
use crate::gpu::recording::Step;
use crate::kernel::packed::Packed;
use crate::kernel::source::KernelSource;
use crate::matmul::weights::scales_name;
use crate::moe::problem::MoeProblem;
use crate::moe::routing::TokenChoice;
use crate::moe::spec::{MoeOutput, WeightOn};
use crate::tensor::{Dtype, TensorDesc};

/// The pairs' weights, among names of tensors.
pub(super) const PAIR_WEIGHTS: &str = "the weights of pairs";

/// What shares a buffer, by names of tensors or [`PAIR_WEIGHTS`]: as few as each kernel needs.
pub(super) fn packed(problem: &MoeProblem, limits: &GpuLimits) -> Packed {
    let mut names = Vec::new();
    for (core, operands) in [routing(problem), first_matmul(problem)] {
        let room = limits.storage_buffers.saturating_sub(core) as usize;
        let count = Packed::count(operands.len(), room);
        names.extend(operands.into_iter().take(count));
    }
    let words = |name: &String| match problem.tensors.get(name) {
        Some(desc) => span(desc),
        None => u64::from(problem.extents.routed()) * u64::from(problem.extents.top_k),
    };
    Packed::new(names.into_iter().map(|name| (name.clone(), words(&name))).collect())
}

/// Elements from a tensor's first to its last, with the gaps between.
fn span(desc: &TensorDesc) -> u64 {
    desc.layout.end().unwrap_or(u64::MAX) - desc.layout.offset()
}

/// How many bindings routing has that cannot be packed, and what can be, the smallest first.
fn routing(problem: &MoeProblem) -> (u32, Vec<String>) {
    let outputs = [MoeOutput::TopkIds, MoeOutput::TopkWeights, MoeOutput::Gates];
    let asked = outputs.into_iter().filter(|output| problem.wants(*output)).count() as u32;
    let correction = problem
        .token_choice()
        .and_then(|TokenChoice { correction_bias, .. }| correction_bias.clone());
    let has = |name: &&str| problem.token_choice().is_some() && problem.has(name);
    let others = ["token_top_k", "logit_mask"].into_iter().filter(has).map(str::to_owned);
    // Beside the routing, the logits and the weights.
    (3 + asked, correction.into_iter().chain(others).collect())
}

/// The same of the experts' first matmuls.
fn first_matmul(problem: &MoeProblem) -> (u32, Vec<String>) {
    if !problem.wants(MoeOutput::Out) {
        return (0, Vec::new());
    }
    let matrices = ["w_gate", "w_up"].into_iter().filter(|name| problem.has(name));
    let stored = matrices.map(|name| 1 + u32::from(problem.has(&scales_name(name))));
    let biases = ["b_gate", "b_up"].into_iter().filter(|name| problem.has(name));
    let weighted = problem.spec.weight_on == WeightOn::Input && problem.extents.slots == 0;
    let weights = weighted.then_some(PAIR_WEIGHTS).into_iter();
    // Beside the routing, what is multiplied and the result.
    (3 + stored.sum::<u32>(), biases.chain(weights).map(str::to_owned).collect())
}

/// Copies the tensors to their places: once a call.
pub(super) fn pack_tensors(context: &Context<'_>) -> Result<Vec<Step>, PlanError> {
    let tensors = context.packed.iter().filter(|(name, _)| *name != PAIR_WEIGHTS);
    tensors.map(|packed| pack(context, packed)).collect()
}

/// Copies the pairs' weights, once they are known.
pub(super) fn pack_weights(context: &Context<'_>) -> Result<Option<Step>, PlanError> {
    let weights = context.packed.iter().find(|(name, _)| *name == PAIR_WEIGHTS);
    weights.map(|packed| pack(context, packed)).transpose()
}

/// Copies one of them.
fn pack(context: &Context<'_>, (name, words): (&str, u64)) -> Result<Step, PlanError> {
    let buffer = context.scratch(Scratch::Packed)?;
    context.packed.step((name, words), buffer, context.limits, |source| {
        let (dtype, (bound, first)) = match context.problem.tensors.get(name) {
            Some(desc) => (desc.dtype, context.tensor(name)?),
            None => (Dtype::F32, (context.scratch(Scratch::Weights)?, 0)),
        };
        source.bind("operand", KernelSource::element_type_of(dtype), false, bound);
        source.params.u32("operand_first", first);
        source.element_reader("operand", dtype);
        Ok(("operand".to_owned(), dtype))
    })
}
