//! The spec of a mixture of experts as a caller writes it, in Rust or as JSON.

use ordered_float::OrderedFloat;
use serde::{Deserialize, Serialize};

use super::routing::{Capacity, NullExperts, Router};
use crate::tensor::{ActivationFormat, Dtype, WeightFormat};

/// What a mixture-of-experts layer computes. What is `None` is taken from the tensors, or is the default said there.
///
/// ```
/// use tilewise::moe::{MoeSpec, Router};
/// let spec = MoeSpec { top_k: Some(2), router: Router::mixtral(), ..MoeSpec::default() };
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct MoeSpec {
    /// Element type of x; f32, f16 or bf16.
    pub dtype: Dtype,
    /// Element type of out: `dtype`, or f32. `None` is `dtype`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub out_dtype: Option<Dtype>,
    /// Experts a token goes to: token choice needs it, an external router has it from `topk_ids`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub top_k: Option<u32>,
    /// Who goes where.
    pub router: Router,
    /// What stands between an expert's two matmuls.
    pub activation: Activation,
    /// How the experts' weights are stored, shared ones included. `None` is as numbers of `dtype`.
    ///
    /// Weights in blocks are tensors of bytes, a row of `inner` numbers `inner / 32` blocks: `w_up` of q4_0 is u8
    /// `[experts, expert_dim, model_dim / 32 · 18]`. Of mxfp4, `w_up` may also be u8
    /// `[experts, expert_dim, model_dim / 32, 16]` beside `w_up_scales` `[experts, expert_dim, model_dim / 32]`, as
    /// gpt-oss checkpoints hold it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub weights: Option<WeightFormat>,
    /// What tokens and hidden rows are rounded to before an expert's matmuls, an approximation for speed: weights in
    /// blocks are multiplied with them in integers. The router's matmul stays as it is. `None` rounds nothing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub quantise_activations: Option<ActivationFormat>,
    /// Where a token's weight for an expert is applied.
    pub weight_on: WeightOn,
    /// Most rows an expert takes; `None` takes all.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub capacity: Option<Capacity>,
    /// Experts without weights, in the router's columns behind the others.
    #[serde(skip_serializing_if = "NullExperts::is_none")]
    pub null_experts: NullExperts,
    /// First and end of the experts whose weights are here, the others being another device's: `out` is what these
    /// add, and the sum over the ranges of all devices is the whole. Null experts belong to the range that ends with
    /// the last expert, a shared expert to where its weights are given. Needs `experts`. `None` has all experts here.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expert_range: Option<[u32; 2]>,
    /// What to compute, at least one.
    pub outputs: Vec<MoeOutput>,
    /// Number of tokens.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tokens: Option<u32>,
    /// Elements of a token.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub model_dim: Option<u32>,
    /// Number of experts that have weights, here or elsewhere; with the null experts 1 to 1024.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub experts: Option<u32>,
    /// Elements between an expert's two matmuls.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expert_dim: Option<u32>,
}

impl Default for MoeSpec {
    fn default() -> Self {
        Self {
            dtype: Dtype::F32,
            out_dtype: None,
            top_k: None,
            router: Router::mixtral(),
            activation: Activation::SiluGlu,
            weights: None,
            quantise_activations: None,
            weight_on: WeightOn::Output,
            capacity: None,
            null_experts: NullExperts::default(),
            expert_range: None,
            outputs: vec![MoeOutput::Out],
            tokens: None,
            model_dim: None,
            experts: None,
            expert_dim: None,
        }
    }
}

/// What stands between an expert's two matmuls. The `glu` forms and the clamped one take `w_gate` and `w_up`, the
/// others `w_up` alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
#[non_exhaustive]
pub enum Activation {
    /// `silu(gate) · up`.
    SiluGlu,
    /// `gelu(gate) · up`, gelu by erf.
    GeluGlu,
    /// `gelu(gate) · up`, gelu by tanh.
    GeluTanhGlu,
    /// gpt-oss: `g = min(gate, limit)`, `u = clamp(up, −limit, limit)`, `(u + 1) · g · sigmoid(alpha · g)`.
    ClampedSwiglu {
        /// Slope of the sigmoid.
        alpha: OrderedFloat<f32>,
        /// Where gate and up are cut.
        limit: OrderedFloat<f32>,
    },
    /// `max(up, 0)`.
    Relu,
    /// `max(up, 0)²`.
    Relu2,
    /// `gelu(up)` by erf.
    Gelu,
    /// `gelu(up)` by tanh.
    GeluTanh,
    /// `silu(up)`.
    Silu,
}

impl Activation {
    /// Whether there is a gate beside up.
    pub const fn is_gated(self) -> bool {
        matches!(
            self,
            Self::SiluGlu | Self::GeluGlu | Self::GeluTanhGlu | Self::ClampedSwiglu { .. }
        )
    }
}

/// Where a token's weight for an expert is applied.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum WeightOn {
    /// To what the expert gives.
    Output,
    /// To what it takes (Llama 4).
    Input,
}

impl MoeSpec {
    /// How the experts' weights are stored.
    pub fn weight_format(&self) -> WeightFormat {
        self.weights.unwrap_or(WeightFormat::plain(self.dtype))
    }
}

/// What a mixture of experts can give.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum MoeOutput {
    /// `[tokens, model_dim]`.
    Out,
    /// i32 `[tokens, top_k]`, best first, whether dropped later or not.
    TopkIds,
    /// f32 `[tokens, top_k]`.
    TopkWeights,
    /// f32 `[tokens, experts + null experts]`: the weight of each chosen expert, 0 elsewhere, whether dropped later or not; as attention's
    /// `head_gate` it makes experts of heads.
    Gates,
    /// i32 `[experts + null experts]`: rows that each computed here; of a null expert the pairs that it took.
    Counts,
    /// i32 `[experts + 1]`: the first row of each expert where rows are sorted by experts; the last is their number.
    ExpertOffsets,
    /// i32 `[tokens · top_k]`: the token of each row in that order, −1 behind the last.
    RowTokens,
    /// i32 `[tokens, top_k]`: the row of each slot, −1 where there is none.
    PairRows,
    /// f32 `[tokens, experts + null experts]`; of a soft router `[tokens, experts, slots]`.
    RouterLogits,
    /// i32 `[1]`: rows that no capacity was left for.
    Dropped,
    /// i32 `[experts, capacity]` of expert choice, in token order; −1 behind the last, where fewer are open to an expert.
    TokenIds,
    /// f32 `[experts, capacity]` of expert choice.
    TokenWeights,
    /// f32 `[1]`: `experts · Σ_e fraction_e · mean probability_e`; fraction is rows chosen over tokens, before drops,
    /// probability the softmax over experts.
    LoadBalancingLoss,
    /// f32 `[1]`: the mean over tokens of the squared logsumexp of the logits.
    ZLoss,
}

impl MoeOutput {
    /// Its tensor's name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Out => "out",
            Self::TopkIds => "topk_ids",
            Self::TopkWeights => "topk_weights",
            Self::Gates => "gates",
            Self::Counts => "counts",
            Self::ExpertOffsets => "expert_offsets",
            Self::RowTokens => "row_tokens",
            Self::PairRows => "pair_rows",
            Self::RouterLogits => "router_logits",
            Self::Dropped => "dropped",
            Self::TokenIds => "token_ids",
            Self::TokenWeights => "token_weights",
            Self::LoadBalancingLoss => "load_balancing_loss",
            Self::ZLoss => "z_loss",
        }
    }
}
