//! Named real problems, with inputs for them: tests, benches and the program share them.
//!
//! Head counts, dims and masks are those of the models named. Lengths are cut where the f64 reference, or a device
//! that is a processor, would need more than seconds.

mod check;
mod work;

pub use crate::resident::Resident;
pub use check::Expected;
pub use work::{Counted, Work, work};

use crate::attention::{
    AttentionOutput, AttentionProblem, AttentionSpec, BatchCount, Mask, Normaliser, ScoreModifier,
    TensorDescs,
};
use crate::error::{Error, SpecError};
use crate::tensor::{Dtype, TensorDesc};

/// A problem that somebody has.
#[derive(Debug)]
pub struct NamedProblem {
    /// Its name, as the command line takes it.
    pub name: &'static str,
    /// Where it comes from, in a line.
    pub origin: &'static str,
    spec: fn() -> AttentionSpec,
    /// Side tensors that the spec does not ask for (`kv_lens`), or that are smaller than their fullest shape.
    sides: &'static [(&'static str, Dtype, &'static [u64])],
}

impl NamedProblem {
    /// The question, with every extent.
    pub fn spec(&self) -> AttentionSpec {
        (self.spec)()
    }

    /// The tensors it is asked of.
    ///
    /// # Errors
    /// [`SpecError`] for a spec without all its extents; the tests see to it that there is none.
    pub fn tensors(&self) -> Result<TensorDescs, SpecError> {
        let mut tensors = self.spec().assumed_tensors()?;
        for &(name, dtype, shape) in self.sides {
            tensors.insert(name.to_owned(), TensorDesc::contiguous(dtype, shape));
        }
        Ok(tensors)
    }

    /// The question, checked.
    ///
    /// # Errors
    /// As [`AttentionProblem::new`]; the tests see to it that there is none.
    pub fn problem(&self) -> Result<AttentionProblem, Error> {
        AttentionProblem::new(&self.spec(), &self.tensors()?)
    }
}

/// The problem of this name.
///
/// # Errors
/// [`SpecError::Value`] that lists the names there are.
pub fn find(name: &str) -> Result<&'static NamedProblem, SpecError> {
    ATTENTION.iter().find(|problem| problem.name == name).ok_or_else(|| {
        let names: Vec<&str> = ATTENTION.iter().map(|problem| problem.name).collect();
        SpecError::value("problem", format!("one of {}", names.join(", ")), name)
    })
}

/// Every input of a question, under its name: what [`crate::operator::Operator::sample`] makes.
pub fn inputs<O: crate::operator::Operator>(
    operator: &O,
    seed: u64,
) -> std::collections::BTreeMap<String, crate::tensor::HostTensor> {
    operator.sample(seed)
}

/// Extents of a problem, the rest by default.
fn sized(
    batch: u32,
    [q_heads, kv_heads]: [u32; 2],
    [seq_len_q, seq_len_kv]: [u32; 2],
    [head_dim, value_dim]: [u32; 2],
) -> AttentionSpec {
    AttentionSpec {
        outputs: vec![AttentionOutput::Out, AttentionOutput::Lse],
        batch: Some(batch),
        q_heads: Some(q_heads),
        kv_heads: Some(kv_heads),
        seq_len_q: Some(seq_len_q),
        seq_len_kv: Some(seq_len_kv),
        head_dim: Some(head_dim),
        value_dim: Some(value_dim),
        ..AttentionSpec::default()
    }
}

/// A window of `left + 1` keys that ends at the query.
fn window(left: u32) -> Mask {
    Mask::band(Some(left), Some(0))
}

/// The attention problems.
pub static ATTENTION: &[NamedProblem] = &[
    NamedProblem {
        name: "prefill_64",
        origin: "an encoder layer over 1,024 tokens, the shape that attention papers quote",
        spec: || sized(1, [8, 8], [1024, 1024], [64, 64]),
        sides: &[],
    },
    NamedProblem {
        name: "prefill_causal",
        origin: "the same as a decoder's layer: causal",
        spec: || AttentionSpec { mask: Mask::causal(), ..sized(1, [8, 8], [1024, 1024], [64, 64]) },
        sides: &[],
    },
    NamedProblem {
        name: "llama_decode",
        origin: "Llama 3 8B: one new token after 4,095",
        spec: || AttentionSpec {
            dtype: Dtype::F16,
            mask: Mask::causal(),
            ..sized(1, [32, 8], [1, 4096], [128, 128])
        },
        sides: &[],
    },
    NamedProblem {
        name: "llama_prefill",
        origin: "Llama 3 8B: a prompt of 512 tokens",
        spec: || AttentionSpec {
            dtype: Dtype::F16,
            mask: Mask::causal(),
            ..sized(1, [32, 8], [512, 512], [128, 128])
        },
        sides: &[],
    },
    NamedProblem {
        name: "llama_speculative",
        origin: "Llama 3 8B: eight drafted tokens verified after 2,048",
        spec: || AttentionSpec {
            dtype: Dtype::F16,
            mask: Mask::causal(),
            ..sized(1, [32, 8], [8, 2056], [128, 128])
        },
        sides: &[],
    },
    NamedProblem {
        name: "bert_padded",
        origin: "BERT base: eight texts padded to 128 tokens, true lengths as kv_lens",
        spec: || sized(8, [12, 12], [128, 128], [64, 64]),
        sides: &[("kv_lens", Dtype::I32, &[8])],
    },
    NamedProblem {
        name: "sliding_window",
        origin: "a Mistral-like local layer: 8,192 tokens, each sees itself and the 127 before",
        spec: || AttentionSpec { mask: window(127), ..sized(1, [4, 4], [8192, 8192], [64, 64]) },
        sides: &[],
    },
    NamedProblem {
        name: "flux_joint",
        origin: "FLUX.1: 24 heads over text and image tokens together, cut to 512",
        spec: || AttentionSpec { dtype: Dtype::Bf16, ..sized(1, [24, 24], [512, 512], [128, 128]) },
        sides: &[],
    },
    NamedProblem {
        name: "gqa_odd_tails",
        origin: "no extent divides a tile: 77 queries, 131 keys, dims 80 and 72, groups of 3",
        spec: || AttentionSpec { mask: Mask::causal(), ..sized(2, [6, 2], [77, 131], [80, 72]) },
        sides: &[],
    },
    NamedProblem {
        name: "whisper_cross",
        origin: "Whisper base: 448 text tokens look at the 1,500 frames of 30 seconds",
        spec: || sized(1, [8, 8], [448, 1500], [64, 64]),
        sides: &[],
    },
    NamedProblem {
        name: "gemma_softcap",
        origin: "Gemma 2 9B: head_dim 256, scores capped at 50",
        spec: || AttentionSpec {
            dtype: Dtype::Bf16,
            score: vec![ScoreModifier::Softcap(50.0.into())],
            mask: Mask::causal(),
            ..sized(1, [16, 8], [256, 256], [256, 256])
        },
        sides: &[],
    },
    NamedProblem {
        name: "gpt_oss_sinks",
        origin: "gpt-oss: a window of 128 and a learned sink logit a head",
        spec: || AttentionSpec {
            dtype: Dtype::Bf16,
            mask: window(127),
            normaliser: Normaliser::Softmax { sink: Some("sink_logits".to_owned()) },
            ..sized(1, [64, 8], [512, 512], [64, 64])
        },
        sides: &[],
    },
    NamedProblem {
        name: "bloom_alibi",
        origin: "BLOOM 7B: distances as a penalty of its own slope for each head",
        spec: || AttentionSpec {
            dtype: Dtype::F16,
            score: vec![ScoreModifier::Alibi("alibi_slopes".to_owned())],
            mask: Mask::causal(),
            ..sized(1, [32, 32], [256, 256], [128, 128])
        },
        sides: &[],
    },
    NamedProblem {
        name: "t5_bias",
        origin: "T5 base encoder: a relative position bias, no scale",
        spec: || AttentionSpec {
            softmax_scale: Some(1.0.into()),
            score: vec![ScoreModifier::Bias("bias".to_owned())],
            ..sized(1, [12, 12], [256, 256], [64, 64])
        },
        sides: &[],
    },
    NamedProblem {
        name: "swin_windows",
        origin: "Swin tiny, first stage: 64 windows of 7 by 7, one bias for all of them",
        spec: || AttentionSpec {
            score: vec![ScoreModifier::Bias("bias".to_owned())],
            ..sized(64, [3, 3], [49, 49], [32, 32])
        },
        sides: &[("bias", Dtype::F32, &[1, 3, 49, 49])],
    },
    NamedProblem {
        name: "packed_documents",
        origin: "pretraining: several documents in a row of 1,024 tokens, each sees itself, causal",
        spec: || {
            let ids = || "documents".to_owned();
            AttentionSpec {
                mask: Mask::And(vec![Mask::causal(), Mask::Documents { q: ids(), kv: ids() }]),
                ..sized(1, [8, 8], [1024, 1024], [64, 64])
            }
        },
        sides: &[],
    },
    NamedProblem {
        name: "prefix_lm",
        origin: "PaliGemma: image and prompt seen from both sides, then causal",
        spec: || AttentionSpec {
            dtype: Dtype::Bf16,
            mask: Mask::Or(vec![
                Mask::Prefix(BatchCount::Tensor("prefix_len".to_owned())),
                Mask::causal(),
            ]),
            ..sized(2, [8, 1], [320, 320], [256, 256])
        },
        sides: &[],
    },
    NamedProblem {
        name: "block_sparse",
        origin: "BigBird-like: blocks of 64, the diagonal and a few others",
        spec: || AttentionSpec {
            mask: Mask::BlockSparse { block: [64, 64], keep: "keep".to_owned() },
            ..sized(1, [4, 4], [1024, 1024], [64, 64])
        },
        sides: &[],
    },
    NamedProblem {
        name: "deepseek_latent",
        origin: "DeepSeek-V2 Lite decoding in latent space: one key head of 576, values of 512",
        spec: || AttentionSpec {
            dtype: Dtype::F16,
            softmax_scale: Some((1.0 / 192f32.sqrt()).into()),
            mask: Mask::causal(),
            ..sized(1, [16, 1], [1, 2048], [576, 512])
        },
        sides: &[],
    },
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_named_problem_is_right_and_has_inputs() {
        for named in ATTENTION {
            let problem = named.problem().unwrap();
            let inputs = inputs(&problem, 1);
            for (name, desc) in crate::operator::Operator::tensors(&problem) {
                if !["out", "lse"].contains(&name) {
                    assert_eq!(inputs[name].shape, desc.shape(), "{} {name}", named.name);
                    assert_eq!(inputs[name].dtype, desc.dtype, "{} {name}", named.name);
                }
            }
        }
    }

    #[test]
    fn names_are_unique_and_an_unknown_one_lists_them() {
        for (index, named) in ATTENTION.iter().enumerate() {
            assert_eq!(find(named.name).unwrap().name, named.name);
            assert!(ATTENTION[..index].iter().all(|other| other.name != named.name));
        }
        let error = find("prefil_64").unwrap_err().to_string();
        assert!(error.contains("prefill_64, prefill_causal") && error.ends_with("got prefil_64"));
    }
}
