//! What stands between an expert's two matmuls, as the end of the first.

use std::ops::Range;

use super::bindings::expert_input;
use super::context::Context;
use crate::error::PlanError;
use crate::kernel::source::{KernelSource, add_fragment};
use crate::moe::spec::Activation;

/// The activation, with the biases of `experts`; a shared expert has none.
pub(super) fn activation_finish(
    context: &Context<'_>,
    source: &mut KernelSource,
    experts: Option<&Range<u32>>,
) -> Result<(), PlanError> {
    let problem = context.problem;
    for (name, tensor) in [("gate_bias", "b_gate"), ("up_bias", "b_up")] {
        let tensor = Some(tensor).filter(|tensor| experts.is_some() && problem.has(tensor));
        expert_input(context, source, name, tensor, experts.unwrap_or(&(0..0)))?;
    }
    let (number, alpha, limit) = numbers(problem.spec.activation);
    source.const_u32("ACTIVATION", number);
    source.const_f32("ALPHA", alpha);
    source.const_f32("LIMIT", limit);
    add_fragment!(source, "moe/sigmoid.wgsl");
    add_fragment!(source, "moe/finish_activation.wgsl");
    Ok(())
}

/// What `finish_activation.wgsl` knows an activation by, and its alpha and limit.
fn numbers(activation: Activation) -> (u32, f32, f32) {
    match activation {
        Activation::SiluGlu => (0, 1.0, 1.0),
        Activation::GeluGlu => (1, 1.0, 1.0),
        Activation::GeluTanhGlu => (2, 1.0, 1.0),
        Activation::ClampedSwiglu { alpha, limit } => (3, alpha.0, limit.0),
        Activation::Relu => (4, 1.0, 1.0),
        Activation::Relu2 => (5, 1.0, 1.0),
        Activation::Gelu => (6, 1.0, 1.0),
        Activation::GeluTanh => (7, 1.0, 1.0),
        Activation::Silu => (8, 1.0, 1.0),
    }
}
