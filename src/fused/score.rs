//! What happens to a score between `q · k` and the mask, and what turns scores into weights.

use ordered_float::OrderedFloat;
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize};

use crate::json::name_or_form;
use crate::snippet::Snippet;

/// One step of the list that changes a score, applied in the order given, after the scale.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(into = "ScoreForm")]
#[non_exhaustive]
pub enum ScoreModifier {
    /// `c * tanh(s / c)`: `{"softcap": 30.0}`.
    Softcap(OrderedFloat<f32>),
    /// `s - slope[h] * |pos_q - pos_kv|` (Press et al. 2022): `{"alibi": "alibi_slopes"}`, `[q_heads]` or `[batch, q_heads]`.
    Alibi(String),
    /// `s + bias`: `{"bias": "bias"}`, `[batch|1, q_heads|1, seq_len_q|1, seq_len_kv|1]`; -inf masks.
    Bias(String),
    /// The caller's `fn score_mod(score: f32, b: u32, h: u32, q: u32, kv: u32) -> f32`: `{"wgsl": "…", "aux": ["name"]}`.
    Wgsl(Snippet),
}

#[derive(Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct ScoreForm {
    #[serde(skip_serializing_if = "Option::is_none")]
    softcap: Option<OrderedFloat<f32>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    alibi: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    bias: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    wgsl: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    aux: Option<Vec<String>>,
}

impl From<ScoreModifier> for ScoreForm {
    fn from(modifier: ScoreModifier) -> Self {
        let mut form = Self::default();
        match modifier {
            ScoreModifier::Softcap(cap) => form.softcap = Some(cap),
            ScoreModifier::Alibi(name) => form.alibi = Some(name),
            ScoreModifier::Bias(name) => form.bias = Some(name),
            ScoreModifier::Wgsl(Snippet { wgsl, aux }) => {
                form.wgsl = Some(wgsl);
                form.aux = (!aux.is_empty()).then_some(aux);
            }
        }
        form
    }
}

impl ScoreForm {
    fn into_modifier(self) -> Result<ScoreModifier, &'static str> {
        let Self { softcap, alibi, bias, wgsl, aux } = self;
        if aux.is_some() && wgsl.is_none() {
            return Err("aux goes with wgsl");
        }
        let aux = aux.unwrap_or_default();
        let forms = [
            softcap.map(ScoreModifier::Softcap),
            alibi.map(ScoreModifier::Alibi),
            bias.map(ScoreModifier::Bias),
            wgsl.map(|wgsl| ScoreModifier::Wgsl(Snippet { wgsl, aux })),
        ];
        let mut given = forms.into_iter().flatten();
        match (given.next(), given.next()) {
            (Some(modifier), None) => Ok(modifier),
            (None, _) => Err("a score modifier needs one of softcap, alibi, bias, wgsl"),
            (Some(_), Some(_)) => Err("a score modifier has one form; write a list of them"),
        }
    }
}

impl<'de> Deserialize<'de> for ScoreModifier {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let form = ScoreForm::deserialize(deserializer)?;
        form.into_modifier().map_err(D::Error::custom)
    }
}

/// How scores become weights.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(into = "NormaliserForm")]
#[non_exhaustive]
pub enum Normaliser {
    /// `exp(s - lse)`: `"softmax"`, or `{"softmax": {"sink": "sink_logits"}}` with a logit for each query head
    /// (`[q_heads]`) that joins the denominator and carries no value.
    Softmax {
        /// Name of the sink logits.
        sink: Option<String>,
    },
    /// `1 / (1 + exp(-(s + bias)))`, without a denominator (Ramapuram et al. 2024): `"sigmoid"` or
    /// `{"sigmoid": {"bias": -6.9}}`. Has no lse.
    Sigmoid {
        /// Added to every score; the paper takes `-ln(seq_len_kv)`.
        bias: OrderedFloat<f32>,
    },
}

impl Default for Normaliser {
    fn default() -> Self {
        Self::Softmax { sink: None }
    }
}

#[derive(Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct SoftmaxForm {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    sink: Option<String>,
}

#[derive(Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct SigmoidForm {
    #[serde(default)]
    bias: OrderedFloat<f32>,
}

#[derive(Clone, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum NormaliserForm {
    Softmax(SoftmaxForm),
    Sigmoid(SigmoidForm),
}

impl From<Normaliser> for NormaliserForm {
    fn from(normaliser: Normaliser) -> Self {
        match normaliser {
            Normaliser::Softmax { sink } => Self::Softmax(SoftmaxForm { sink }),
            Normaliser::Sigmoid { bias } => Self::Sigmoid(SigmoidForm { bias }),
        }
    }
}

impl From<NormaliserForm> for Normaliser {
    fn from(form: NormaliserForm) -> Self {
        match form {
            NormaliserForm::Softmax(SoftmaxForm { sink }) => Self::Softmax { sink },
            NormaliserForm::Sigmoid(SigmoidForm { bias }) => Self::Sigmoid { bias },
        }
    }
}

impl<'de> Deserialize<'de> for Normaliser {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        name_or_form(
            deserializer,
            "\"softmax\", \"sigmoid\", {\"softmax\": {\"sink\": name}} or {\"sigmoid\": {\"bias\": number}}",
            |name| match name {
                "softmax" => Some(Self::default()),
                "sigmoid" => Some(NormaliserForm::Sigmoid(SigmoidForm::default()).into()),
                _ => None,
            },
            |form: NormaliserForm| Ok(form.into()),
        )
    }
}
