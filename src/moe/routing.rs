//! Who goes where, as a caller writes it.

use ordered_float::OrderedFloat;
use serde::{Deserialize, Serialize};

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
    /// All first choices before the second ones, each in token order, as GShard (Lepikhin et al. 2020).
    ChoiceOrder,
    /// Those of the largest weights; ties to the first token.
    Score,
    /// All first choices before the second ones, each by the tokens' best weights, as V-MoE (Riquelme et al. 2021); ties to
    /// the first token.
    BestScore,
}

/// Experts without weights: a token that chooses one of them skips that much work (Jin et al. 2024, MoE++).
/// They stand behind the experts with weights, the zero experts first, and no capacity binds them: they take no rows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct NullExperts {
    /// Experts that give 0.
    pub zero: u32,
    /// Experts that give what they take.
    pub identity: u32,
}

impl NullExperts {
    /// How many there are.
    pub const fn count(&self) -> u32 {
        self.zero.saturating_add(self.identity)
    }

    /// Whether there are none.
    pub(super) const fn is_none(&self) -> bool {
        self.count() == 0
    }
}
