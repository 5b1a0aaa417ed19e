//! Mixture of experts: `out[t] = Σ_slot weight · expert(x[t])` over the experts that each token is routed to.
//!
//! `route → count → offsets → permute → gate/up matmul + activation → down matmul → combine`, all on the device: no
//! size is read back, the experts' matmuls run by indirect dispatch over exactly the tiles that exist. Within an
//! expert rows keep token order, and a token's row sums its experts in ascending slot order: no float atomics, the
//! same bits from run to run.
//!
//! Shapes: `x [tokens, model_dim]`, `router_w [experts, model_dim]`, `w_gate` and `w_up`
//! `[experts, expert_dim, model_dim]`, `w_down [experts, model_dim, expert_dim]`, `out [tokens, model_dim]`; any
//! stride for all axes but the last. Beside the tensors of a plain layer a token choice takes `logit_mask`
//! (bool `[tokens, experts]`: false is never chosen) and `token_top_k` (i32 `[tokens]`: a token's own number of
//! experts, at most `top_k`; unused slots have id −1 and weight 0).

mod checks;
mod combine;
mod context;
mod experts;
mod kernel;
mod loss;
mod place;
mod plan;
mod problem;
mod reference;
mod route;
mod routing;
mod spec;
mod tensors;

pub use problem::{MAX_EXPERTS, MAX_TOP_K, MoeExtents, MoeProblem};
pub use reference::{MoeReference, plain, reference, reference_tensors};
pub use routing::{Capacity, GroupScore, Groups, Priority, Router, Score, TokenChoice, Weight};
pub use spec::{Activation, MoeOutput, MoeSpec, WeightOn};
