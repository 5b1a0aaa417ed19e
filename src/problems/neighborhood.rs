//! Neighborhood problems.

use super::NamedProblem;
use crate::neighborhood::NeighborhoodSpec;
use crate::tensor::Dtype;

/// A layer of one batch, f32.
fn layer(spatial: &[u32], window: &[u32], heads: u32, head_dim: u32) -> NeighborhoodSpec {
    NeighborhoodSpec {
        window: window.to_vec(),
        batch: Some(1),
        spatial: Some(spatial.to_vec()),
        q_heads: Some(heads),
        head_dim: Some(head_dim),
        ..NeighborhoodSpec::default()
    }
}

/// The same in groups that share a window.
fn grouped(spec: NeighborhoodSpec, stride: &[u32]) -> NeighborhoodSpec {
    NeighborhoodSpec { stride: stride.to_vec(), ..spec }
}

/// The same with every `step`th token.
fn dilated(spec: NeighborhoodSpec, step: u32) -> NeighborhoodSpec {
    NeighborhoodSpec { dilation: vec![step; spec.window.len()], ..spec }
}

/// The neighborhood problems.
pub(super) static PROBLEMS: &[NamedProblem] = &[
    NamedProblem {
        name: "na1d_sliding",
        origin: "a sequence of 4,096, each token sees the 65 around it",
        spec: || layer(&[4096], &[65], 2, 64).into(),
        inputs: &[],
    },
    NamedProblem {
        name: "na1d_blocked",
        origin: "a sequence of 4,096 in blocks of 64",
        spec: || grouped(layer(&[4096], &[64], 2, 64), &[64]).into(),
        inputs: &[],
    },
    NamedProblem {
        name: "na2d_blocked",
        origin: "an image of 64 by 64 tokens in blocks of 8 by 8",
        spec: || grouped(layer(&[64, 64], &[8, 8], 2, 64), &[8, 8]).into(),
        inputs: &[],
    },
    NamedProblem {
        name: "na2d_13",
        origin: "an image of 56 by 56 tokens, windows of 13 by 13",
        spec: || layer(&[56, 56], &[13, 13], 2, 64).into(),
        inputs: &[],
    },
    NamedProblem {
        name: "na3d_7",
        origin: "a video of 16 by 16 by 16 tokens, windows of 7 by 7 by 7",
        spec: || layer(&[16, 16, 16], &[7, 7, 7], 2, 64).into(),
        inputs: &[],
    },
    NamedProblem {
        name: "na2d_3",
        origin: "an image of 56 by 56 tokens, windows of 3 by 3",
        spec: || layer(&[56, 56], &[3, 3], 2, 64).into(),
        inputs: &[],
    },
    NamedProblem {
        name: "na2d_5",
        origin: "an image of 56 by 56 tokens, windows of 5 by 5",
        spec: || layer(&[56, 56], &[5, 5], 2, 64).into(),
        inputs: &[],
    },
    NamedProblem {
        name: "na2d_7",
        origin: "an image of 56 by 56 tokens, windows of 7 by 7",
        spec: || layer(&[56, 56], &[7, 7], 2, 64).into(),
        inputs: &[],
    },
    NamedProblem {
        name: "na2d_27",
        origin: "an image of 56 by 56 tokens, windows of 27 by 27",
        spec: || layer(&[56, 56], &[27, 27], 2, 64).into(),
        inputs: &[],
    },
    NamedProblem {
        name: "dinat_stage1",
        origin: "DiNAT mini, stage 1: 56 by 56 tokens, local layers",
        spec: || layer(&[56, 56], &[7, 7], 2, 32).into(),
        inputs: &[],
    },
    NamedProblem {
        name: "dinat_stage1_dilated",
        origin: "the same dilated by 8, its global layers",
        spec: || dilated(layer(&[56, 56], &[7, 7], 2, 32), 8).into(),
        inputs: &[],
    },
    NamedProblem {
        name: "dinat_stage2",
        origin: "DiNAT mini, stage 2: 28 by 28 tokens, local layers",
        spec: || layer(&[28, 28], &[7, 7], 4, 32).into(),
        inputs: &[],
    },
    NamedProblem {
        name: "dinat_stage2_dilated",
        origin: "the same dilated by 4, its global layers",
        spec: || dilated(layer(&[28, 28], &[7, 7], 4, 32), 4).into(),
        inputs: &[],
    },
    NamedProblem {
        name: "dinat_stage3",
        origin: "DiNAT mini, stage 3: 14 by 14 tokens, local layers",
        spec: || layer(&[14, 14], &[7, 7], 8, 32).into(),
        inputs: &[],
    },
    NamedProblem {
        name: "dinat_stage3_dilated",
        origin: "the same dilated by 2, its global layers",
        spec: || dilated(layer(&[14, 14], &[7, 7], 8, 32), 2).into(),
        inputs: &[],
    },
    NamedProblem {
        name: "hunyuan_video_quarter",
        origin: "HunyuanVideo with windows of 18 by 24 by 24 over 30 by 48 by 80: all cut to a quarter",
        spec: || {
            let spec = layer(&[8, 12, 20], &[5, 6, 6], 24, 128);
            NeighborhoodSpec { dtype: Dtype::Bf16, ..grouped(spec, &[4, 2, 2]) }.into()
        },
        inputs: &[],
    },
    NamedProblem {
        name: "na2d_13_large",
        origin: "an image of 128 by 128 tokens, windows of 13 by 13, 8 heads",
        spec: || layer(&[128, 128], &[13, 13], 8, 64).into(),
        inputs: &[],
    },
];
