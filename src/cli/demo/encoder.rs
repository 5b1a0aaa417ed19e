//! The attention of a real sentence encoder: its tensors, its texts, and its weights between words.

use std::collections::BTreeMap;

use safetensors::SafeTensors;

use crate::cli::common::CliError;
use crate::tensor::{HostTensor, parse_safetensors};

/// See `assets/README.md`.
const FILE: &[u8] = include_bytes!("../../../assets/minilm_attention.safetensors");

/// One layer's attention over a few texts.
pub(super) struct Encoder {
    /// `q`, `k`, `v` `[texts, heads, tokens, head_dim]`, and `kv_lens [texts]`.
    pub inputs: BTreeMap<String, HostTensor>,
    /// What the model itself computed.
    pub attention_out: HostTensor,
    /// The texts.
    pub texts: Vec<String>,
    /// Their tokens, without padding.
    pub tokens: Vec<Vec<String>>,
    /// Which model and layer.
    pub model: String,
}

impl Encoder {
    /// Reads the file that the program carries.
    pub fn read() -> Result<Self, CliError> {
        let broken = |message: String| CliError::Failed(format!("the demo's own file: {message}"));
        let mut inputs = parse_safetensors("minilm_attention.safetensors", FILE)?;
        let (_, header) =
            SafeTensors::read_metadata(FILE).map_err(|error| broken(error.to_string()))?;
        let notes = header.metadata().clone().unwrap_or_default();
        let note = |name: &str| {
            notes.get(name).cloned().ok_or_else(|| broken(format!("no metadata {name}")))
        };
        let json = |error: serde_json::Error| broken(error.to_string());
        let mut take =
            |name: &str| inputs.remove(name).ok_or_else(|| broken(format!("no tensor {name}")));
        let (attention_out, lengths) = (take("attention_out")?, take("lengths")?);
        inputs.insert("kv_lens".to_owned(), lengths);
        Ok(Self {
            inputs,
            attention_out,
            texts: serde_json::from_str(&note("texts")?).map_err(json)?,
            tokens: serde_json::from_str(&note("tokens")?).map_err(json)?,
            model: format!("{}, layer {}", note("model")?, note("layer")?),
        })
    }

    /// The words and signs of a text, each with its range of tokens: a piece that starts with `##` belongs to the word before.
    pub fn words(&self, text: usize) -> Vec<Word> {
        let mut words: Vec<Word> = Vec::new();
        for (token, piece) in self.tokens[text].iter().enumerate() {
            match (piece.strip_prefix("##"), words.last_mut()) {
                (Some(rest), Some(word)) => {
                    word.text.push_str(rest);
                    word.tokens.end = token + 1;
                }
                _ => words.push(Word { text: piece.clone(), tokens: token..token + 1 }),
            }
        }
        words
    }
}

/// A word of a text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Word {
    pub text: String,
    /// Its pieces.
    pub tokens: std::ops::Range<usize>,
}

impl Word {
    /// Whether it is none of the text's words: `[CLS]` and `[SEP]`, which the model puts around it, and punctuation.
    pub fn is_sign(&self) -> bool {
        self.text.starts_with('[') || !self.text.contains(char::is_alphanumeric)
    }
}

/// Which heads are looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Heads {
    /// The mean over all of them.
    Mean,
    /// One, counted from 0.
    One(usize),
}

/// How much each token of a text attends to each, `[tokens][tokens]`: `exp(softmax_scale · q·k − lse)` with the lse
/// that the kernels gave.
pub(super) fn token_weights(
    encoder: &Encoder,
    lse: &[f64],
    text: usize,
    heads: Heads,
) -> Vec<Vec<f64>> {
    let shape = &encoder.inputs["q"].shape;
    let [head_count, padded, dim] = [shape[1], shape[2], shape[3]].map(|extent| extent as usize);
    let scale = 1.0 / (dim as f64).sqrt();
    let (q, k) = (encoder.inputs["q"].to_f64(), encoder.inputs["k"].to_f64());
    let tokens = encoder.tokens[text].len();
    let chosen = match heads {
        Heads::Mean => 0..head_count,
        Heads::One(head) => head..head + 1,
    };
    let share = 1.0 / chosen.len() as f64;
    let mut weights = vec![vec![0.0; tokens]; tokens];
    for head in chosen {
        let row = |token: usize| (text * head_count + head) * padded + token;
        let vector = |of: &[f64], token: usize| of[row(token) * dim..][..dim].to_vec();
        let keys: Vec<Vec<f64>> = (0..tokens).map(|token| vector(&k, token)).collect();
        for (query, weights) in weights.iter_mut().enumerate() {
            let q = vector(&q, query);
            for (key, weight) in keys.iter().zip(weights) {
                let dot: f64 = q.iter().zip(key).map(|(a, b)| a * b).sum();
                *weight += share * (scale * dot - lse[row(query)]).exp();
            }
        }
    }
    weights
}

/// From tokens to words: the mean over a word's tokens of what they attend to, summed over the other word's tokens.
pub(super) fn word_weights(words: &[Word], tokens: &[Vec<f64>]) -> Vec<Vec<f64>> {
    let between = |from: &Word, to: &Word| {
        let rows = tokens[from.tokens.clone()].iter();
        let sum: f64 = rows.map(|row| row[to.tokens.clone()].iter().sum::<f64>()).sum();
        sum / from.tokens.len() as f64
    };
    words.iter().map(|from| words.iter().map(|to| between(from, to)).collect()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_become_words_and_their_weights_add_up() {
        let encoder = Encoder::read().unwrap();
        let words = encoder.words(0);
        assert!(words[0].is_sign() && !words[1].is_sign());
        let gulls = words.iter().position(|word| word.text == "gulls").unwrap();
        assert_eq!(words[gulls].tokens.len(), 2);
        let tokens = encoder.tokens[0].len();
        let even = vec![vec![1.0 / tokens as f64; tokens]; tokens];
        for row in word_weights(&words, &even) {
            assert!((row.iter().sum::<f64>() - 1.0).abs() < 1e-12);
            assert!((row[gulls] - 2.0 / tokens as f64).abs() < 1e-12);
        }
    }
}
