//! The extents of a mixture of experts.

use super::routing::NullExperts;

/// Most experts that the kernels take.
pub const MAX_EXPERTS: u32 = 1024;

/// Most experts that a token chooses.
pub const MAX_TOP_K: u32 = 32;

/// The extents of a mixture of experts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct MoeExtents {
    /// Number of tokens.
    pub tokens: u32,
    /// Elements of a token.
    pub model_dim: u32,
    /// Number of experts that have weights, here or elsewhere.
    pub experts: u32,
    /// Experts without weights, behind them.
    pub null_experts: NullExperts,
    /// The first expert whose weights are here.
    pub expert_start: u32,
    /// The end of the experts whose weights are here.
    pub expert_end: u32,
    /// Elements between an expert's two matmuls; without `out` they may be unknown, 0.
    pub expert_dim: u32,
    /// Elements between the shared expert's two matmuls; 0 without one.
    pub shared_dim: u32,
    /// Experts that a token may go to: `top_k`; all columns of the router with expert choice; 1 for a slot of a soft router.
    pub top_k: u32,
    /// Slots an expert has in a soft router; 0 in the others.
    pub slots: u32,
}

impl MoeExtents {
    /// What is routed: tokens, or the slots of a soft router.
    pub const fn routed(&self) -> u32 {
        if self.slots > 0 { self.experts * self.slots } else { self.tokens }
    }

    /// What a token chooses from: experts with weights and without.
    pub const fn choices(&self) -> u32 {
        self.experts + self.null_experts.count()
    }

    /// Columns of the router's logits.
    pub const fn router_columns(&self) -> u32 {
        if self.slots > 0 { self.experts * self.slots } else { self.choices() }
    }

    /// Experts whose weights are here.
    pub const fn local_experts(&self) -> u32 {
        self.expert_end - self.expert_start
    }

    /// The end of the choices that are computed here: the null experts come with the last expert.
    pub const fn local_end(&self) -> u32 {
        if self.expert_end == self.experts { self.choices() } else { self.expert_end }
    }
}
