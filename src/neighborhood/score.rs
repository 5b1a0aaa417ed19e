//! What happens to a score between `q · k` and the softmax.

use ordered_float::OrderedFloat;
use serde::{Deserialize, Serialize};

use crate::snippet::Snippet;

/// One step of the list that changes a score, applied in the order given, after the scale.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(into = "ScoreForm", try_from = "ScoreForm")]
#[non_exhaustive]
pub enum NeighborhoodScore {
    /// `c * tanh(s / c)`: `{"softcap": 30.0}`. Of every score, those of extra tokens too.
    Softcap(OrderedFloat<f32>),
    /// The caller's `fn score_mod(score: f32, b: u32, h: u32, q: vec2<u32>, kv: vec2<u32>) -> f32`: `{"wgsl": "…",
    /// "aux": ["name"]}`. `q` and `kv` are tokens, a coordinate for each axis (u32 with one axis, `vec3<u32>` with
    /// three). Of window keys alone: extra tokens have no coordinates.
    Wgsl(Snippet),
}

#[derive(Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct ScoreForm {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    softcap: Option<OrderedFloat<f32>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    wgsl: Option<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    aux: Vec<String>,
}

impl From<NeighborhoodScore> for ScoreForm {
    fn from(modifier: NeighborhoodScore) -> Self {
        match modifier {
            NeighborhoodScore::Softcap(cap) => Self { softcap: Some(cap), ..Self::default() },
            NeighborhoodScore::Wgsl(Snippet { wgsl, aux }) => {
                Self { wgsl: Some(wgsl), aux, ..Self::default() }
            }
        }
    }
}

impl TryFrom<ScoreForm> for NeighborhoodScore {
    type Error = &'static str;

    fn try_from(form: ScoreForm) -> Result<Self, Self::Error> {
        match form {
            ScoreForm { softcap: Some(cap), wgsl: None, aux } if aux.is_empty() => {
                Ok(Self::Softcap(cap))
            }
            ScoreForm { softcap: None, wgsl: Some(wgsl), aux } => {
                Ok(Self::Wgsl(Snippet { wgsl, aux }))
            }
            ScoreForm { softcap: Some(_), wgsl: Some(_), .. } => {
                Err("a score modifier has one form; write a list of them")
            }
            ScoreForm { softcap: Some(_), .. } => Err("aux goes with wgsl"),
            ScoreForm { .. } => Err("a score modifier needs one of softcap, wgsl"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forms_survive_json_and_wrong_ones_are_named() {
        for form in [r#"{"softcap":30.0}"#, r#"{"wgsl":"fn","aux":["t"]}"#, r#"{"wgsl":"fn"}"#] {
            let modifier: NeighborhoodScore = serde_json::from_str(form).unwrap();
            assert_eq!(serde_json::to_string(&modifier).unwrap(), form);
        }
        for (form, message) in [
            ("{}", "needs one of softcap, wgsl"),
            (r#"{"softcap":1,"wgsl":"fn"}"#, "has one form"),
            (r#"{"softcap":1,"aux":["t"]}"#, "aux goes with wgsl"),
            (r#"{"bias":"t"}"#, "unknown field `bias`"),
        ] {
            let error = serde_json::from_str::<NeighborhoodScore>(form).unwrap_err().to_string();
            assert!(error.contains(message), "{form}: {error}");
        }
    }
}
