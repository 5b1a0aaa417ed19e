//! Attention problems.

use super::NamedProblem;
use crate::any::AnySpec;
use crate::attention::{
    AttentionOutput, AttentionSpec, BatchCount, Mask, Normaliser, ScoreModifier,
};
use crate::tensor::Dtype;

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

fn causal<const LENGTH: u32>() -> AnySpec {
    let spec = sized(1, [8, 8], [LENGTH, LENGTH], [64, 64]);
    AttentionSpec { mask: Mask::causal(), ..spec }.into()
}

fn llama_decode<const LENGTH: u32>() -> AnySpec {
    let spec = sized(1, [32, 8], [1, LENGTH], [128, 128]);
    AttentionSpec { dtype: Dtype::F16, mask: Mask::causal(), ..spec }.into()
}

fn sliding<const WINDOW: u32>() -> AnySpec {
    let spec = sized(1, [4, 4], [8192, 8192], [64, 64]);
    AttentionSpec { mask: window(WINDOW - 1), ..spec }.into()
}

fn long(mask: Mask) -> AnySpec {
    AttentionSpec { mask, ..sized(1, [2, 2], [16_384, 16_384], [64, 64]) }.into()
}

fn long_blocks() -> Mask {
    Mask::BlockSparse { block: [64, 64], keep: "keep".to_owned() }
}

/// The attention problems.
pub(super) static PROBLEMS: &[NamedProblem] = &[
    NamedProblem {
        name: "prefill_64",
        origin: "an encoder layer over 1,024 tokens, the shape that attention papers quote",
        spec: || sized(1, [8, 8], [1024, 1024], [64, 64]).into(),
        inputs: &[],
    },
    NamedProblem {
        name: "prefill_causal",
        origin: "the same as a decoder's layer: causal",
        spec: || {
            AttentionSpec { mask: Mask::causal(), ..sized(1, [8, 8], [1024, 1024], [64, 64]) }
                .into()
        },
        inputs: &[],
    },
    NamedProblem {
        name: "llama_decode",
        origin: "Llama 3 8B: one new token after 4,095",
        spec: || {
            AttentionSpec {
                dtype: Dtype::F16,
                mask: Mask::causal(),
                ..sized(1, [32, 8], [1, 4096], [128, 128])
            }
            .into()
        },
        inputs: &[],
    },
    NamedProblem {
        name: "llama_prefill",
        origin: "Llama 3 8B: a prompt of 512 tokens",
        spec: || {
            AttentionSpec {
                dtype: Dtype::F16,
                mask: Mask::causal(),
                ..sized(1, [32, 8], [512, 512], [128, 128])
            }
            .into()
        },
        inputs: &[],
    },
    NamedProblem {
        name: "llama_speculative",
        origin: "Llama 3 8B: eight drafted tokens verified after 2,048",
        spec: || {
            AttentionSpec {
                dtype: Dtype::F16,
                mask: Mask::causal(),
                ..sized(1, [32, 8], [8, 2056], [128, 128])
            }
            .into()
        },
        inputs: &[],
    },
    NamedProblem {
        name: "bert_padded",
        origin: "BERT base: eight texts padded to 128 tokens, true lengths as kv_lens",
        spec: || sized(8, [12, 12], [128, 128], [64, 64]).into(),
        inputs: &[("kv_lens", Dtype::I32, &[8])],
    },
    NamedProblem {
        name: "sliding_window",
        origin: "a Mistral-like local layer: 8,192 tokens, each sees itself and the 127 before",
        spec: || {
            AttentionSpec { mask: window(127), ..sized(1, [4, 4], [8192, 8192], [64, 64]) }.into()
        },
        inputs: &[],
    },
    NamedProblem {
        name: "flux_joint",
        origin: "FLUX.1: 24 heads over text and image tokens together, cut to 512",
        spec: || {
            AttentionSpec { dtype: Dtype::Bf16, ..sized(1, [24, 24], [512, 512], [128, 128]) }
                .into()
        },
        inputs: &[],
    },
    NamedProblem {
        name: "gqa_odd_tails",
        origin: "no extent divides a tile: 77 queries, 131 keys, dims 80 and 72, groups of 3",
        spec: || {
            AttentionSpec { mask: Mask::causal(), ..sized(2, [6, 2], [77, 131], [80, 72]) }.into()
        },
        inputs: &[],
    },
    NamedProblem {
        name: "whisper_cross",
        origin: "Whisper base: 448 text tokens look at the 1,500 frames of 30 seconds",
        spec: || sized(1, [8, 8], [448, 1500], [64, 64]).into(),
        inputs: &[],
    },
    NamedProblem {
        name: "gemma_softcap",
        origin: "Gemma 2 9B: head_dim 256, scores capped at 50",
        spec: || {
            AttentionSpec {
                dtype: Dtype::Bf16,
                score: vec![ScoreModifier::Softcap(50.0.into())],
                mask: Mask::causal(),
                ..sized(1, [16, 8], [256, 256], [256, 256])
            }
            .into()
        },
        inputs: &[],
    },
    NamedProblem {
        name: "gpt_oss_sinks",
        origin: "gpt-oss: a window of 128 and a learned sink logit a head",
        spec: || {
            AttentionSpec {
                dtype: Dtype::Bf16,
                mask: window(127),
                normaliser: Normaliser::Softmax { sink: Some("sink_logits".to_owned()) },
                ..sized(1, [64, 8], [512, 512], [64, 64])
            }
            .into()
        },
        inputs: &[],
    },
    NamedProblem {
        name: "bloom_alibi",
        origin: "BLOOM 7B: distances as a penalty of its own slope for each head",
        spec: || {
            AttentionSpec {
                dtype: Dtype::F16,
                score: vec![ScoreModifier::Alibi("alibi_slopes".to_owned())],
                mask: Mask::causal(),
                ..sized(1, [32, 32], [256, 256], [128, 128])
            }
            .into()
        },
        inputs: &[],
    },
    NamedProblem {
        name: "t5_bias",
        origin: "T5 base encoder: a relative position bias, no scale",
        spec: || {
            AttentionSpec {
                softmax_scale: Some(1.0.into()),
                score: vec![ScoreModifier::Bias("bias".to_owned())],
                ..sized(1, [12, 12], [256, 256], [64, 64])
            }
            .into()
        },
        inputs: &[],
    },
    NamedProblem {
        name: "swin_windows",
        origin: "Swin tiny, first stage: 64 windows of 7 by 7, one bias for all of them",
        spec: || {
            AttentionSpec {
                score: vec![ScoreModifier::Bias("bias".to_owned())],
                ..sized(64, [3, 3], [49, 49], [32, 32])
            }
            .into()
        },
        inputs: &[("bias", Dtype::F32, &[1, 3, 49, 49])],
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
            .into()
        },
        inputs: &[],
    },
    NamedProblem {
        name: "prefix_lm",
        origin: "PaliGemma: image and prompt seen from both sides, then causal",
        spec: || {
            AttentionSpec {
                dtype: Dtype::Bf16,
                mask: Mask::Or(vec![
                    Mask::Prefix(BatchCount::Tensor("prefix_len".to_owned())),
                    Mask::causal(),
                ]),
                ..sized(2, [8, 1], [320, 320], [256, 256])
            }
            .into()
        },
        inputs: &[],
    },
    NamedProblem {
        name: "block_sparse",
        origin: "BigBird-like: blocks of 64, the diagonal and a few others",
        spec: || {
            AttentionSpec {
                mask: Mask::BlockSparse { block: [64, 64], keep: "keep".to_owned() },
                ..sized(1, [4, 4], [1024, 1024], [64, 64])
            }
            .into()
        },
        inputs: &[],
    },
    NamedProblem {
        name: "deepseek_latent",
        origin: "DeepSeek-V2 Lite decoding in latent space: one key head of 576, values of 512",
        spec: || {
            AttentionSpec {
                dtype: Dtype::F16,
                softmax_scale: Some((1.0 / 192f32.sqrt()).into()),
                mask: Mask::causal(),
                ..sized(1, [16, 1], [1, 2048], [576, 512])
            }
            .into()
        },
        inputs: &[],
    },
    NamedProblem {
        name: "prefill_causal_128",
        origin: "prefill_causal over 128 tokens",
        spec: causal::<128>,
        inputs: &[],
    },
    NamedProblem {
        name: "prefill_causal_256",
        origin: "prefill_causal over 256 tokens",
        spec: causal::<256>,
        inputs: &[],
    },
    NamedProblem {
        name: "prefill_causal_512",
        origin: "prefill_causal over 512 tokens",
        spec: causal::<512>,
        inputs: &[],
    },
    NamedProblem {
        name: "prefill_causal_2048",
        origin: "prefill_causal over 2,048 tokens",
        spec: causal::<2048>,
        inputs: &[],
    },
    NamedProblem {
        name: "llama_decode_512",
        origin: "Llama 3 8B: one new token after 511",
        spec: llama_decode::<512>,
        inputs: &[],
    },
    NamedProblem {
        name: "llama_decode_2048",
        origin: "Llama 3 8B: one new token after 2,047",
        spec: llama_decode::<2048>,
        inputs: &[],
    },
    NamedProblem {
        name: "llama_decode_8192",
        origin: "Llama 3 8B: one new token after 8,191",
        spec: llama_decode::<8192>,
        inputs: &[],
    },
    NamedProblem {
        name: "llama_decode_16384",
        origin: "Llama 3 8B: one new token after 16,383",
        spec: llama_decode::<16384>,
        inputs: &[],
    },
    NamedProblem {
        name: "sliding_window_32",
        origin: "sliding_window with 32 keys a token",
        spec: sliding::<32>,
        inputs: &[],
    },
    NamedProblem {
        name: "sliding_window_512",
        origin: "sliding_window with 512 keys a token",
        spec: sliding::<512>,
        inputs: &[],
    },
    NamedProblem {
        name: "sliding_window_2048",
        origin: "sliding_window with 2048 keys a token",
        spec: sliding::<2048>,
        inputs: &[],
    },
    NamedProblem {
        name: "qwen3_decode",
        origin: "Qwen3 30B A3B: one new token after 4,095",
        spec: || {
            AttentionSpec {
                dtype: Dtype::Bf16,
                mask: Mask::causal(),
                ..sized(1, [32, 4], [1, 4096], [128, 128])
            }
            .into()
        },
        inputs: &[],
    },
    NamedProblem {
        name: "qwen3_prefill",
        origin: "Qwen3 30B A3B: a prompt of 256 tokens",
        spec: || {
            AttentionSpec {
                dtype: Dtype::Bf16,
                mask: Mask::causal(),
                ..sized(1, [32, 4], [256, 256], [128, 128])
            }
            .into()
        },
        inputs: &[],
    },
    NamedProblem {
        name: "gpt_oss_full",
        origin: "gpt-oss 20B: the layers between the windowed ones, causal, 512 tokens",
        spec: || {
            AttentionSpec {
                dtype: Dtype::Bf16,
                mask: Mask::causal(),
                normaliser: Normaliser::Softmax { sink: Some("sink_logits".to_owned()) },
                ..sized(1, [64, 8], [512, 512], [64, 64])
            }
            .into()
        },
        inputs: &[],
    },
    NamedProblem {
        name: "gpt_oss_decode",
        origin: "gpt-oss 20B: one new token after 4,095",
        spec: || {
            AttentionSpec {
                dtype: Dtype::Bf16,
                mask: Mask::causal(),
                normaliser: Normaliser::Softmax { sink: Some("sink_logits".to_owned()) },
                ..sized(1, [64, 8], [1, 4096], [64, 64])
            }
            .into()
        },
        inputs: &[],
    },
    NamedProblem {
        name: "flux_joint_1024",
        origin: "FLUX.1: the same cut to 1,024 of its 4,608 tokens",
        spec: || {
            AttentionSpec { dtype: Dtype::Bf16, ..sized(1, [24, 24], [1024, 1024], [128, 128]) }
                .into()
        },
        inputs: &[],
    },
    NamedProblem {
        name: "prefill_4096",
        origin: "an encoder layer over 4,096 tokens: 16 heads of 64, f32",
        spec: || sized(1, [16, 16], [4096, 4096], [64, 64]).into(),
        inputs: &[],
    },
    NamedProblem {
        name: "prefill_4096_128",
        origin: "the same of 8 heads of 128",
        spec: || sized(1, [8, 8], [4096, 4096], [128, 128]).into(),
        inputs: &[],
    },
    NamedProblem {
        name: "prefill_4096_f16",
        origin: "prefill_4096 in f16",
        spec: || {
            let spec = sized(1, [16, 16], [4096, 4096], [64, 64]);
            AttentionSpec { dtype: Dtype::F16, ..spec }.into()
        },
        inputs: &[],
    },
    NamedProblem {
        name: "llama_prefill_4096",
        origin: "Llama 3 8B: a prompt of 4,096 tokens, 8 of its 32 heads",
        spec: || {
            let spec = sized(1, [8, 2], [4096, 4096], [128, 128]);
            AttentionSpec { dtype: Dtype::F16, mask: Mask::causal(), ..spec }.into()
        },
        inputs: &[],
    },
    NamedProblem {
        name: "llama_decode_32768",
        origin: "Llama 3 8B: one new token after 32,767",
        spec: llama_decode::<32768>,
        inputs: &[],
    },
    NamedProblem {
        name: "long_full",
        origin: "16,384 tokens, two heads of 64, each token sees all: what masks that keep little are held against",
        spec: || long(Mask::Full),
        inputs: &[],
    },
    NamedProblem {
        name: "long_blocks",
        origin: "the same where each block of 64 queries sees one of keys: 0.4 % of the map",
        spec: || long(long_blocks()),
        inputs: &[],
    },
    NamedProblem {
        name: "long_blocks_of_heads",
        origin: "the same with that map once for each head",
        spec: || long(long_blocks()),
        inputs: &[("keep", Dtype::Bool, &[1, 2, 256, 256])],
    },
    NamedProblem {
        name: "long_documents",
        origin: "documents of 16 tokens in a row of 16,384, each sees itself, causal",
        spec: || {
            let ids = || "documents".to_owned();
            long(Mask::And(vec![Mask::causal(), Mask::Documents { q: ids(), kv: ids() }]))
        },
        inputs: &[],
    },
];
