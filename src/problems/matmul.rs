//! Problems of matmuls.

use super::NamedProblem;
use crate::matmul::MatmulSpec;
use crate::tensor::{ActivationFormat, Dtype, WeightFormat};

/// `x [rows, inner]` by `w [columns, inner]`.
fn sized(rows: u32, columns: u32, inner: u32) -> MatmulSpec {
    MatmulSpec {
        rows: Some(rows),
        columns: Some(columns),
        inner: Some(inner),
        ..MatmulSpec::default()
    }
}

/// The problems of matmuls.
pub(super) static PROBLEMS: &[NamedProblem] = &[
    NamedProblem {
        name: "matmul_1024",
        origin: "1,024 rows, 512 to 1024: as much as the experts of moe_prefill do",
        spec: || sized(1024, 1024, 512).into(),
        inputs: &[],
    },
    NamedProblem {
        name: "llama_up_decode",
        origin: "Llama 3 8B: one token through an up projection, q4_0",
        spec: || {
            MatmulSpec {
                dtype: Dtype::F16,
                weights: Some(WeightFormat::Q4_0),
                ..sized(1, 14_336, 4096)
            }
            .into()
        },
        inputs: &[],
    },
    NamedProblem {
        name: "llama_up_prefill",
        origin: "Llama 3 8B: 32 tokens through an up projection, q4_0",
        spec: || {
            MatmulSpec {
                dtype: Dtype::F16,
                weights: Some(WeightFormat::Q4_0),
                ..sized(32, 14_336, 4096)
            }
            .into()
        },
        inputs: &[],
    },
    NamedProblem {
        name: "llama_up_prefill_mxint8",
        origin: "the same with activations rounded to bytes",
        spec: || {
            MatmulSpec {
                dtype: Dtype::F16,
                weights: Some(WeightFormat::Q4_0),
                quantise_activations: Some(ActivationFormat::Mxint8),
                ..sized(32, 14_336, 4096)
            }
            .into()
        },
        inputs: &[],
    },
    NamedProblem {
        name: "llama_q_decode",
        origin: "Llama 3 8B: one token through the projection of queries, f16",
        spec: || MatmulSpec { dtype: Dtype::F16, ..sized(1, 4096, 4096) }.into(),
        inputs: &[],
    },
    NamedProblem {
        name: "matmul_4096",
        origin: "2,048 rows, 4096 to 4096, f32",
        spec: || sized(2048, 4096, 4096).into(),
        inputs: &[],
    },
    NamedProblem {
        name: "matmul_4096_f16",
        origin: "the same in f16",
        spec: || MatmulSpec { dtype: Dtype::F16, ..sized(2048, 4096, 4096) }.into(),
        inputs: &[],
    },
];
