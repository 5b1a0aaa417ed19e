//! Problems of mixtures of experts.

use super::NamedProblem;
use crate::moe::{MoeSpec, Router};

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

/// The problems of mixtures of experts.
pub(super) static PROBLEMS: &[NamedProblem] = &[
    NamedProblem {
        name: "moe_prefill",
        origin: "a prompt of 512 tokens, 2 of 16 experts each, 512 to 1024",
        spec: || layer([512, 512, 16, 1024, 2]).into(),
        sides: &[],
    },
    NamedProblem {
        name: "moe_decode",
        origin: "one token, 8 of 64 experts, 1024 to 1024, ids from outside",
        spec: || MoeSpec { router: Router::External, ..layer([1, 1024, 64, 1024, 8]) }.into(),
        sides: &[],
    },
];
