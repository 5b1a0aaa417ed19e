//! Problems of mixtures of experts.

use super::NamedProblem;
use crate::moe::{Activation, MoeSpec, Router, Score, TokenChoice, Weight};
use crate::tensor::{Dtype, WeightFormat};

/// A layer's extents: tokens, model_dim, experts, expert_dim, top_k.
fn layer([tokens, model_dim, experts, expert_dim, top_k]: [u32; 5]) -> MoeSpec {
    MoeSpec {
        top_k: Some(top_k),
        tokens: Some(tokens),
        model_dim: Some(model_dim),
        experts: Some(experts),
        expert_dim: Some(expert_dim),
        ..MoeSpec::default()
    }
}

fn qwen3(tokens: u32) -> MoeSpec {
    let spec = layer([tokens, 2048, 32, 768, 8]);
    MoeSpec { dtype: Dtype::F16, weights: Some(WeightFormat::Q4_0), ..spec }
}

/// Logits, then the softmax of those chosen; the clamped swiglu, biases everywhere.
fn gpt_oss(tokens: u32) -> MoeSpec {
    let choice =
        TokenChoice { score: Score::Logit, weight: Weight::Softmax, ..TokenChoice::default() };
    MoeSpec {
        dtype: Dtype::F16,
        weights: Some(WeightFormat::Mxfp4),
        router: Router::TokenChoice(choice),
        activation: Activation::ClampedSwiglu { alpha: 1.702.into(), limit: 7.0.into() },
        ..layer([tokens, 2880, 8, 2880, 4])
    }
}

static GPT_OSS_BIASES: &[(&str, Dtype, &[u64])] = &[
    ("router_b", Dtype::F32, &[8]),
    ("b_gate", Dtype::F32, &[8, 2880]),
    ("b_up", Dtype::F32, &[8, 2880]),
    ("b_down", Dtype::F32, &[8, 2880]),
];

/// The problems of mixtures of experts.
pub(super) static PROBLEMS: &[NamedProblem] = &[
    NamedProblem {
        name: "moe_prefill",
        origin: "a prompt of 512 tokens, 2 of 16 experts each, 512 to 1024",
        spec: || layer([512, 512, 16, 1024, 2]).into(),
        inputs: &[],
    },
    NamedProblem {
        name: "moe_decode",
        origin: "one token, 8 of 64 experts, 1024 to 1024, ids from outside",
        spec: || MoeSpec { router: Router::External, ..layer([1, 1024, 64, 1024, 8]) }.into(),
        inputs: &[],
    },
    NamedProblem {
        name: "qwen3_moe_decode",
        origin: "Qwen3 30B A3B: one token, 8 experts; 32 of its 128, q4_0",
        spec: || qwen3(1).into(),
        inputs: &[],
    },
    NamedProblem {
        name: "qwen3_moe_prefill",
        origin: "the same of 32 tokens",
        spec: || qwen3(32).into(),
        inputs: &[],
    },
    NamedProblem {
        name: "gpt_oss_moe_decode",
        origin: "gpt-oss 20B: one token, 4 experts; 8 of its 32, mxfp4",
        spec: || gpt_oss(1).into(),
        inputs: GPT_OSS_BIASES,
    },
    NamedProblem {
        name: "gpt_oss_moe_prefill",
        origin: "the same of 32 tokens",
        spec: || gpt_oss(32).into(),
        inputs: GPT_OSS_BIASES,
    },
    NamedProblem {
        name: "moe_prefill_2048",
        origin: "a prompt of 2,048 tokens, 4 of 32 experts each, 1024 to 1024, f16",
        spec: || MoeSpec { dtype: Dtype::F16, ..layer([2048, 1024, 32, 1024, 4]) }.into(),
        inputs: &[],
    },
];
