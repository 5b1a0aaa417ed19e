//! Score modifiers, in the order given.

use super::mask::Place;
use super::tables::{Inputs, Table};
use crate::attention::snippets;
use crate::error::SpecError;
use crate::fused::ScoreModifier;
use crate::fused::arithmetic::{Arithmetic, biased};
use crate::snippet::interpret::{Interpreter, Value};

/// A modifier with its tensors.
pub(super) enum Change {
    Softcap(f64),
    Alibi(Table),
    Bias(Table),
    Program(Box<Interpreter>),
}

/// The key that a score belongs to.
#[derive(Clone, Copy)]
pub(super) enum Key {
    /// One of `k v`, with its place.
    Own,
    /// One of the shared prefix: only its position is known, below 0.
    Prefix { pos_kv: i64 },
}

impl Change {
    pub(super) fn new(
        modifier: &ScoreModifier,
        inputs: &Inputs<'_>,
        arithmetic: Arithmetic,
    ) -> Result<Self, SpecError> {
        Ok(match modifier {
            ScoreModifier::Softcap(cap) => Self::Softcap(f64::from(cap.0)),
            ScoreModifier::Alibi(name) => Self::Alibi(inputs.table(name)?),
            ScoreModifier::Bias(name) => Self::Bias(inputs.table(name)?),
            ScoreModifier::Wgsl(snippet) => {
                let precision = arithmetic.precision();
                let asked = (&snippets::SCORE_MOD, snippet, snippets::SCORE_FIELD);
                Self::Program(Box::new(inputs.program(asked, precision)?))
            }
        })
    }

    /// The score after the modifier; minus infinity drops the key, whatever modifiers follow.
    pub(super) fn apply(
        &self,
        score: f64,
        place: &Place,
        key: Key,
        pos_q: &dyn Fn(u32, u32) -> i32,
    ) -> Result<f64, SpecError> {
        let pos_kv = match key {
            Key::Own => place.kv_index as i64,
            Key::Prefix { pos_kv } => pos_kv,
        };
        Ok(match (self, key) {
            (Self::Softcap(cap), _) => cap * (score / cap).tanh(),
            (Self::Alibi(slopes), _) => {
                let slope = match slopes.axes() {
                    1 => slopes.at(&[place.head]),
                    _ => slopes.at(&[place.batch, place.head]),
                };
                score - slope * (place.pos_q - pos_kv).abs() as f64
            }
            (Self::Bias(bias), Key::Own) => biased(score, bias.at(&place.axes())),
            (Self::Program(program), Key::Own) => {
                let arguments = [Value::F32(score)].into_iter().chain(place.arguments());
                program.number(arguments.collect(), pos_q)?
            }
            // AttentionProblem refuses them beside a prefix: a prefix key has no index.
            (Self::Bias(_) | Self::Program(_), Key::Prefix { .. }) => {
                let expected = "softcap or alibi beside a shared prefix";
                return Err(SpecError::value("score", expected, "bias or wgsl"));
            }
        })
    }
}
