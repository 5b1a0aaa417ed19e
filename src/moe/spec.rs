//! The question as a caller writes it, in Rust or as JSON.

use ordered_float::OrderedFloat;
use serde::{Deserialize, Serialize};

use crate::tensor::Dtype;

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
    /// Element type of the experts' weights, shared ones included. `None` is `dtype`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub weights: Option<Dtype>,
    /// Where a token's weight for an expert is applied.
    pub weight_on: WeightOn,
    /// Most rows an expert takes; `None` takes all.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub capacity: Option<Capacity>,
    /// What to compute, at least one.
    pub outputs: Vec<MoeOutput>,
    /// Number of tokens.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tokens: Option<u32>,
    /// Elements of a token.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub model_dim: Option<u32>,
    /// Number of experts, 1 to 1024.
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
            weight_on: WeightOn::Output,
            capacity: None,
            outputs: vec![MoeOutput::Out],
            tokens: None,
            model_dim: None,
            experts: None,
            expert_dim: None,
        }
    }
}

/// Who goes where.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
#[non_exhaustive]
pub enum Router {
    /// Each token takes its `top_k` best experts.
    TokenChoice(TokenChoice),
    /// Each expert takes its best tokens, by the softmax over experts (Zhou et al. 2022).
    ExpertChoice {
        /// Tokens an expert takes, at most all.
        capacity: u32,
    },
    /// Each slot of an expert is a mixture of all tokens, each token one of all slots (Puigcerver et al. 2023).
    Soft {
        /// Slots an expert has.
        slots: u32,
    },
    /// `topk_ids` and `topk_weights` are inputs; an id that is no expert's counts nothing.
    External,
}

impl Router {
    /// Softmax over the experts, the chosen weights renormalized.
    pub fn mixtral() -> Self {
        Self::TokenChoice(TokenChoice::default())
    }
}

/// How a token chooses.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TokenChoice {
    /// What becomes of a logit.
    pub score: Score,
    /// Name of a float tensor `[experts]` that is added to the score for the choice alone. `None` takes the tensor
    /// `correction_bias` where there is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub correction_bias: Option<String>,
    /// Only experts of the best groups are chosen from.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub groups: Option<Groups>,
    /// How a chosen expert weighs.
    pub weight: Weight,
    /// Factor of the weights.
    pub scale: OrderedFloat<f32>,
    /// Added to the sum that `renormalized` divides by.
    pub epsilon: OrderedFloat<f32>,
}

impl Default for TokenChoice {
    fn default() -> Self {
        Self {
            score: Score::Softmax,
            correction_bias: None,
            groups: None,
            weight: Weight::Renormalized,
            scale: OrderedFloat(1.0),
            epsilon: OrderedFloat(0.0),
        }
    }
}

/// What becomes of a logit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Score {
    /// Softmax over all experts.
    Softmax,
    /// Its sigmoid.
    Sigmoid,
    /// The square root of its softplus.
    SqrtSoftplus,
    /// The logit itself.
    Logit,
}

/// Contiguous groups of experts, of which the best are chosen from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Groups {
    /// Number of groups, a divisor of the number of experts.
    pub count: u32,
    /// Groups that stay.
    pub keep: u32,
    /// What a group is judged by.
    pub by: GroupScore,
}

/// What a group of experts is judged by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum GroupScore {
    /// Its largest choice score.
    Max,
    /// The sum of its two largest.
    Top2Sum,
}

/// How a chosen expert weighs; the correction bias never counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Weight {
    /// Its score.
    Score,
    /// Its score over the sum of the chosen ones' (plus epsilon).
    Renormalized,
    /// The softmax over the chosen logits.
    Softmax,
    /// The sigmoid of its logit.
    Sigmoid,
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

/// Most rows that an expert takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Capacity {
    /// Rows an expert takes of each sequence.
    pub rows: u32,
    /// Sequences that the tokens are split into, evenly.
    #[serde(default = "one")]
    pub sequences: u32,
    /// Which rows stay.
    #[serde(default)]
    pub priority: Priority,
}

const fn one() -> u32 {
    1
}

/// Which rows stay when there are more than the capacity.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Priority {
    /// Those of the first tokens.
    #[default]
    TokenOrder,
    /// Those of the largest weights; ties to the first token.
    Score,
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
    /// i32 `[experts]`: rows that each computed.
    Counts,
    /// f32 `[tokens, experts]`; of a soft router `[tokens, experts, slots]`.
    RouterLogits,
    /// i32 `[1]`: rows that no capacity was left for.
    Dropped,
    /// i32 `[experts, capacity]` of expert choice, in token order.
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
            Self::Counts => "counts",
            Self::RouterLogits => "router_logits",
            Self::Dropped => "dropped",
            Self::TokenIds => "token_ids",
            Self::TokenWeights => "token_weights",
            Self::LoadBalancingLoss => "load_balancing_loss",
            Self::ZLoss => "z_loss",
        }
    }
}
