//! Mixture of experts: `out[t] = Σ_slot weight · expert(x[t])` over the experts that each token is routed to.
//!
//! `route → count → offsets → permute → gate/up matmul + activation → down matmul → combine`, all on the device: no
//! size is read back, the experts' matmuls run by indirect dispatch over exactly the tiles that exist. Where one
//! workgroup holds all pairs of token and expert, what lies between route and the matmuls is one dispatch. Within an
//! expert rows keep token order, and a token's row sums its experts in ascending slot order: no float atomics, the
//! same bits from run to run.
//!
//! Shapes: `x [tokens, model_dim]`, `router_w [experts, model_dim]`, `w_gate` and `w_up`
//! `[experts, expert_dim, model_dim]`, `w_down [experts, model_dim, expert_dim]`, `out [tokens, model_dim]`; any
//! stride for all axes but the last. Beside the tensors of a plain layer a router that has logits takes `logit_mask`
//! (bool `[tokens, experts]`: false is never chosen; of a soft router no slot of that expert sees the token), and a
//! token choice `token_top_k` (i32 `[tokens]`: a token's own number of
//! experts, at most `top_k`; unused slots have id −1 and weight 0; an external router takes it too).
//!
//! An expert that the mask closes, or whose logit is −inf, is never chosen, and its group is judged without it. A token with
//! fewer experts left than `top_k` has unused slots, and an expert choice with fewer tokens left than its capacity has
//! `token_ids` of −1 with weight 0. In choosing NaN comes after all numbers, −inf too, and ties go to the lower index: ids
//! are always in range and distinct. Weights are computed with the NaN as it is, so that it stays in its token's row; a
//! softmax with NaN or +inf among its logits is NaN as a whole, in whose choice experts are therefore equal.
//!
//! Null experts stand behind the others in the router's columns and have no weights: they cost nothing and give 0, or
//! what they take (Jin et al. 2024: MoE++). `counts` tells how many pairs they took.
//!
//! # Experts on several devices
//! A device may hold the weights of a range of the experts (`expert_range`); what it gives is their share.
//! - Where every device has all tokens, each computes the whole router and its own experts, and the app adds up `out`.
//! - Where tokens are spread too, each device first asks for the routing of its own tokens alone (no `out`, no
//!   weights): `expert_offsets` says how many rows go to each expert, `row_tokens` which tokens they are, sorted by
//!   expert and then by token, and `pair_rows` where a token's slots will be found in what comes back. The app's
//!   transport carries the rows; the device that gets them computes them with an external router of `top_k` 1, the
//!   expert's number in `topk_ids`, weight 1; and the sender adds up `topk_weights · rows[pair_rows]`.

// The problem half.
mod assumed;
mod checks;
mod extents;
mod given;
mod loads;
mod problem;
#[cfg(feature = "reference")]
mod reference;
mod routing;
mod sample;
mod spec;
mod tensors;
mod work;
// The kernel half.
mod kernel;
mod operator;

pub use extents::{MAX_EXPERTS, MAX_TOP_K, MoeExtents};
pub use loads::Loads;
pub use problem::MoeProblem;
#[cfg(feature = "reference")]
pub use reference::{MoeReference, expert_rows, plain, reference, reference_tensors};
pub use routing::{
    Capacity, GroupScore, Groups, NullExperts, Priority, Router, Score, TokenChoice, Weight,
};
pub use spec::{Activation, MoeOutput, MoeSpec, WeightOn};
