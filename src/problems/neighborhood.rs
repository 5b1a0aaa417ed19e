//! Neighborhood problems.

use super::NamedProblem;
use crate::neighborhood::NeighborhoodSpec;

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

/// The neighborhood problems.
pub(super) static PROBLEMS: &[NamedProblem] = &[
    NamedProblem {
        name: "na1d_sliding",
        origin: "a sequence of 4,096, each token sees the 65 around it",
        spec: || layer(&[4096], &[65], 2, 64).into(),
        sides: &[],
    },
    NamedProblem {
        name: "na1d_blocked",
        origin: "a sequence of 4,096 in blocks of 64",
        spec: || grouped(layer(&[4096], &[64], 2, 64), &[64]).into(),
        sides: &[],
    },
    NamedProblem {
        name: "na2d_blocked",
        origin: "an image of 64 by 64 tokens in blocks of 8 by 8",
        spec: || grouped(layer(&[64, 64], &[8, 8], 2, 64), &[8, 8]).into(),
        sides: &[],
    },
    NamedProblem {
        name: "na2d_13",
        origin: "an image of 56 by 56 tokens, windows of 13 by 13",
        spec: || layer(&[56, 56], &[13, 13], 2, 64).into(),
        sides: &[],
    },
    NamedProblem {
        name: "na3d_7",
        origin: "a video of 16 by 16 by 16 tokens, windows of 7 by 7 by 7",
        spec: || layer(&[16, 16, 16], &[7, 7, 7], 2, 64).into(),
        sides: &[],
    },
];
