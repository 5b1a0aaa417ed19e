//! Inputs to measure with, and the problem that stands for all of its size.

use std::collections::BTreeMap;

use super::problem::{MoeProblem, is_expert_weights};
use crate::error::SpecError;
use crate::matmul::weights;
use crate::operator::{noise, rounded};
use crate::tensor::{Dtype, HostTensor, Random, TensorDesc};

/// Every input: matrices scaled by their rows' length, so that what they give stays within f16; ids drawn evenly, no
/// token the same expert twice; every expert allowed.
pub(super) fn sample(problem: &MoeProblem, seed: u64) -> BTreeMap<String, HostTensor> {
    let fill = |(name, desc): (&String, &TensorDesc)| {
        let host = match name.as_str() {
            "topk_ids" => ids(problem, desc, seed),
            "token_top_k" => counts(problem, desc, seed),
            "x" => noise(name, desc, seed, 1.0),
            _ if is_expert_weights(name.trim_end_matches("_scales")) => {
                let e = &problem.extents;
                let row = if name.contains("down") { e.expert_dim } else { e.model_dim };
                let scale = 1.0 / f64::from(row.max(1)).sqrt();
                weights::noise(problem.spec.weight_format(), name, desc, seed, scale)
            }
            _ => {
                let row = desc.shape().last().copied().unwrap_or(1).max(1);
                noise(name, desc, seed, 1.0 / (row as f64).sqrt())
            }
        };
        (name.clone(), host)
    };
    inputs(problem).map(fill).collect()
}

/// The tensors that are no outputs.
fn inputs(problem: &MoeProblem) -> impl Iterator<Item = (&String, &TensorDesc)> {
    problem.tensors.iter().filter(|(name, _)| !problem.gives(name))
}

/// Different experts for each token, from a drawn one on.
fn ids(problem: &MoeProblem, desc: &TensorDesc, seed: u64) -> HostTensor {
    let mut drawn = Random::of(seed, "topk_ids");
    let experts = u64::from(problem.extents.experts.max(1));
    let [tokens, top_k] = [desc.shape()[0], desc.shape()[1]];
    let mut values = Vec::with_capacity((tokens * top_k) as usize);
    for _ in 0..tokens {
        let first = drawn.below(experts);
        values.extend((0..top_k).map(|slot| ((first + slot) % experts) as f64));
    }
    HostTensor::from_f64(Dtype::I32, desc.shape(), &values)
}

/// Numbers of experts that tokens have of their own.
fn counts(problem: &MoeProblem, desc: &TensorDesc, seed: u64) -> HostTensor {
    let count = desc.layout.len() as usize;
    let values = Random::of(seed, "token_top_k").counts(count, 1, problem.extents.top_k.max(1));
    HostTensor::from_f64(Dtype::I32, desc.shape(), &values)
}

/// The same problem with tokens rounded, without gaps.
pub(super) fn bucket(problem: &MoeProblem) -> Result<MoeProblem, SpecError> {
    let mut spec = problem.spec.clone();
    spec.tokens = spec.tokens.map(rounded);
    let grown = |(name, desc): (&String, &TensorDesc)| {
        let mut shape = desc.shape().to_vec();
        if ["x", "router_logits", "logit_mask", "token_top_k", "topk_ids", "topk_weights"]
            .contains(&name.as_str())
        {
            shape[0] = shape[0].next_power_of_two();
        }
        (name.clone(), TensorDesc::contiguous(desc.dtype, &shape))
    };
    MoeProblem::new(&spec, &inputs(problem).map(grown).collect())
}
