//! Tile sets of the fused forward and their sizes.

mod candidates;
mod check;

pub(crate) use check::MOST_SPLITS;

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::operator::Tiles;
use crate::tensor::Dtype;

/// What a tile set is chosen for: the rows of q, k and v.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct FusedShape {
    /// Elements of a query and of a key.
    pub head_dim: u32,
    /// Elements of a value.
    pub value_dim: u32,
    /// Element type of q, k and v.
    pub dtype: Dtype,
}

/// How a fused kernel cuts its work. As JSON: `{"family": "workgroup", "tile_q": 64, …}`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(tag = "family", rename_all = "snake_case", deny_unknown_fields)]
pub enum FusedTiles {
    /// Tiles of q, k and v in workgroup memory, micro-tiles of scores and outputs in registers: for GPUs.
    Workgroup {
        /// Query rows a workgroup owns.
        tile_q: u32,
        /// Keys a tile has.
        tile_kv: u32,
        /// Query rows a lane owns.
        rows: u32,
        /// Keys of a tile a lane owns.
        cols: u32,
        /// Dims of q and k staged at once.
        head_chunk: u32,
        /// Keys of v staged at once.
        key_chunk: u32,
        /// All of q stays in workgroup memory instead of being staged again for each tile of keys.
        #[serde(default)]
        hold_q: bool,
        /// q, k, v and weights are staged as f16, in half the workgroup memory; sums are f32. For f16 tensors.
        #[serde(default)]
        half: bool,
        /// Row maxima by subgroup shuffles instead of workgroup memory.
        #[serde(default)]
        subgroup: bool,
        /// Parts that the keys of a row are split into.
        #[serde(default = "one")]
        kv_splits: u32,
    },
    /// K and V streamed from memory, head_dim spread over the lanes of a subgroup: for processors, and for few queries.
    Stream {
        /// Query rows a lane group owns.
        rows: u32,
        /// Lanes of a group, at most the device's smallest subgroup.
        lanes: u32,
        /// Keys taken at once.
        keys: u32,
        /// Keys between two looks at the mask.
        tile_kv: u32,
        /// Invocations a workgroup.
        workgroup_size: u32,
        /// Lane groups that own the same rows and take keys in turn.
        #[serde(default = "one")]
        key_groups: u32,
        /// Parts that the keys of a row are split into.
        #[serde(default = "one")]
        kv_splits: u32,
    },
    /// Cooperative matrices of halves with sums in f32: for devices that multiply matrices, and f16 tensors.
    Matrix {
        /// Rows and columns of a matrix.
        size: u32,
        /// Matrices of query rows that a subgroup owns.
        row_matrices: u32,
        /// Subgroups a workgroup has.
        subgroups: u32,
        /// Keys a tile has.
        tile_kv: u32,
        /// Invocations a workgroup: `subgroups` times the device's largest subgroup.
        workgroup_size: u32,
        /// v is turned when it is staged, for GPUs whose lanes hold columns of matrices.
        #[serde(default)]
        turn_v: bool,
        /// Parts that the keys of a row are split into.
        #[serde(default = "one")]
        kv_splits: u32,
    },
}

const fn one() -> u32 {
    1
}

impl FusedTiles {
    /// Whether q, k, v and the weights are halves in workgroup memory: q then stays as it is, unscaled.
    pub(crate) const fn stages_halves(&self) -> bool {
        matches!(self, Self::Matrix { .. } | Self::Workgroup { half: true, .. })
    }

    /// Query rows a workgroup owns.
    pub const fn tile_q(&self) -> u32 {
        match *self {
            Self::Workgroup { tile_q, .. } => tile_q,
            Self::Stream { rows, lanes, workgroup_size, key_groups, .. } => {
                over(workgroup_size, lanes.saturating_mul(key_groups)).saturating_mul(rows)
            }
            Self::Matrix { size, row_matrices, subgroups, .. } => {
                size.saturating_mul(row_matrices).saturating_mul(subgroups)
            }
        }
    }

    /// Keys a tile has.
    pub const fn tile_kv(&self) -> u32 {
        match *self {
            Self::Workgroup { tile_kv, .. }
            | Self::Stream { tile_kv, .. }
            | Self::Matrix { tile_kv, .. } => tile_kv,
        }
    }

    /// Parts that the keys of a row are split into.
    pub const fn kv_splits(&self) -> u32 {
        match *self {
            Self::Workgroup { kv_splits, .. }
            | Self::Stream { kv_splits, .. }
            | Self::Matrix { kv_splits, .. } => kv_splits,
        }
    }

    /// The same tiles with the keys of a row split into other parts.
    #[must_use]
    pub const fn with_kv_splits(mut self, splits: u32) -> Self {
        match &mut self {
            Self::Workgroup { kv_splits, .. }
            | Self::Stream { kv_splits, .. }
            | Self::Matrix { kv_splits, .. } => {
                *kv_splits = splits;
            }
        }
        self
    }

    /// Invocations a workgroup.
    pub const fn workgroup_size(&self) -> u32 {
        match *self {
            Self::Workgroup { tile_q, tile_kv, rows, cols, .. } => {
                over(tile_q, rows).saturating_mul(over(tile_kv, cols))
            }
            Self::Stream { workgroup_size, .. } | Self::Matrix { workgroup_size, .. } => {
                workgroup_size
            }
        }
    }

    /// Workgroup memory that the kernel takes.
    pub fn workgroup_bytes(&self, shape: FusedShape) -> u32 {
        let FusedShape { head_dim, value_dim, .. } = shape;
        let (tile_q, cols, tile_kv, head_chunk, key_chunk, hold_q, half, subgroup) = match *self {
            Self::Workgroup {
                tile_q,
                cols,
                tile_kv,
                head_chunk,
                key_chunk,
                hold_q,
                half,
                subgroup,
                ..
            } => (tile_q, cols, tile_kv, head_chunk, key_chunk, hold_q, half, subgroup),
            Self::Stream { .. } => return 0,
            Self::Matrix { size, tile_kv, turn_v, .. } => {
                let tile_q = self.tile_q();
                let q_or_k = tile_q.max(tile_kv) * (head_dim.next_multiple_of(size) + 8);
                let values = value_dim.next_multiple_of(size);
                let v = if turn_v { values * (tile_kv + 8) } else { tile_kv * (values + 8) };
                let (scores, weights) = (4 * tile_kv + 16, 2 * tile_kv + 16);
                return 2 * q_or_k.max(v) + tile_q * (scores + weights) + 32;
            }
        };
        let lanes_x = tile_kv / cols;
        let chunk_vecs = head_chunk / 4;
        let q_chunks = if hold_q { head_dim.div_ceil(head_chunk) } else { 1 };
        let q = tile_q * (chunk_vecs * q_chunks + 1);
        let scores = q + tile_kv * (chunk_vecs + 1);
        let value_vecs = value_dim.div_ceil(4 * lanes_x) * lanes_x;
        let values = tile_q * (tile_kv / 4 + 1) + key_chunk * value_vecs;
        let values = if hold_q { q + values } else { values };
        let reduce = if subgroup { 0 } else { tile_q * lanes_x.div_ceil(4) };
        let vector_bytes = if half { 8 } else { 16 };
        // Beside them two words that lanes share: what overflows, and what is not finite.
        vector_bytes * scores.max(values) + 16 * reduce + 4 * tile_q + 8
    }

    /// Loops of the forward kernel that stay rolled, as (trips, multiply-adds a lane does in one): what statistics of
    /// compiled kernels need to weigh them.
    pub fn rolled_loops(&self, shape: FusedShape) -> Vec<(u32, u32)> {
        let FusedShape { head_dim, value_dim, .. } = shape;
        match *self {
            Self::Matrix { .. } => Vec::new(),
            Self::Workgroup { tile_kv, rows, cols, head_chunk, key_chunk, .. } => {
                let values = 4 * value_dim.div_ceil(4 * tile_kv / cols);
                let scores = (head_dim.div_ceil(head_chunk), rows * cols * head_chunk);
                vec![scores, (tile_kv / key_chunk, rows * values * key_chunk)]
            }
            Self::Stream { rows, lanes, keys, .. } => {
                vec![(keys, rows * 4 * head_dim.div_ceil(4 * lanes))]
            }
        }
    }
}

/// How often a number goes into another; 0 goes nowhere: sets of a caller's may hold any numbers before they are checked.
const fn over(number: u32, by: u32) -> u32 {
    match number.checked_div(by) {
        Some(times) => times,
        None => 0,
    }
}

/// In a word: `q64.kv64.4x4.h32.k16.subgroup.split2`.
impl Tiles for FusedTiles {
    fn label(&self) -> String {
        let flag = |on: bool, word: &'static str| if on { word } else { "" };
        let shape = match *self {
            Self::Workgroup {
                tile_q,
                tile_kv,
                rows,
                cols,
                head_chunk,
                key_chunk,
                hold_q,
                half,
                subgroup,
                kv_splits: _,
            } => format!(
                "q{tile_q}.kv{tile_kv}.{rows}x{cols}.h{head_chunk}.k{key_chunk}{}{}{}",
                flag(hold_q, ".hold_q"),
                flag(half, ".half"),
                flag(subgroup, ".subgroup")
            ),
            Self::Stream {
                rows,
                lanes,
                keys,
                tile_kv,
                workgroup_size,
                key_groups,
                kv_splits: _,
            } => {
                let groups = match key_groups {
                    1 => String::new(),
                    groups => format!(".groups{groups}"),
                };
                format!("stream.{rows}x{keys}.lanes{lanes}{groups}.kv{tile_kv}.of{workgroup_size}")
            }
            Self::Matrix {
                size,
                row_matrices,
                subgroups,
                tile_kv,
                workgroup_size,
                turn_v,
                kv_splits: _,
            } => format!(
                "matrix{size}.{row_matrices}x{subgroups}.kv{tile_kv}.of{workgroup_size}{}",
                flag(turn_v, ".turn_v")
            ),
        };
        match self.kv_splits() {
            1 => shape,
            splits => format!("{shape}.split{splits}"),
        }
    }
}

impl fmt::Display for FusedTiles {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&serde_json::to_string(self).map_err(|_| fmt::Error)?)
    }
}
