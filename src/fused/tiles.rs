//! Tile sets of the fused forward: what may be chosen, what fits a device, what to choose first.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::error::PlanError;
use crate::gpu::limits::GpuLimits;
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
        /// Parts that the keys of a row are split into.
        #[serde(default = "one")]
        kv_splits: u32,
    },
}

const fn one() -> u32 {
    1
}

/// The largest number of a tile set, and the most parts that keys are split into.
const LARGEST: u32 = 4096;
const MOST_SPLITS: u32 = 4096;

/// Floats of outputs a lane may hold in workgroup tiles, and of q and outputs in streams: more spills on some GPU's
/// compiler, or outgrows a processor's instruction cache.
const WORKGROUP_ACCUMULATORS: u32 = 32;
const STREAM_ACCUMULATORS: u32 = 96;
const STREAM_ACCUMULATORS_ON_CPU: u32 = 512;

/// Registers of a lane that the matrices of q and of the outputs may take.
const MATRIX_REGISTERS: u32 = 144;

/// Micro-tiles of more scores than this are for devices with more workgroup memory than this: those with 32 KiB have
/// register files that such tiles spill from.
const COMMON_MICRO_TILE: u32 = 16;
const COMMON_WORKGROUP_BYTES: u32 = 32 << 10;

/// `tile_q, tile_kv, rows, cols, head_chunk, key_chunk, hold_q`, best first where everything fits.
const WORKGROUP_SETS: [[u32; 7]; 12] = [
    [64, 32, 4, 4, 32, 16, 1],
    [64, 64, 4, 4, 16, 16, 0],
    [64, 64, 4, 4, 32, 16, 1],
    [64, 32, 4, 4, 32, 16, 0],
    [64, 64, 8, 4, 16, 8, 0],
    [64, 64, 4, 8, 16, 8, 0],
    [32, 64, 4, 4, 16, 8, 0],
    [32, 128, 4, 4, 16, 8, 0],
    [32, 64, 2, 4, 16, 8, 0],
    [16, 64, 2, 2, 32, 4, 0],
    [8, 64, 2, 2, 32, 4, 0],
    [32, 16, 4, 2, 16, 8, 0],
];

impl FusedTiles {
    /// Query rows a workgroup owns.
    pub const fn tile_q(&self) -> u32 {
        match *self {
            Self::Workgroup { tile_q, .. } => tile_q,
            Self::Stream { rows, lanes, workgroup_size, .. } => workgroup_size / lanes * rows,
            Self::Matrix { size, row_matrices, subgroups, .. } => size * row_matrices * subgroups,
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
                (tile_q / rows) * (tile_kv / cols)
            }
            Self::Stream { workgroup_size, .. } | Self::Matrix { workgroup_size, .. } => {
                workgroup_size
            }
        }
    }

    /// Workgroup memory that the kernel takes.
    pub fn workgroup_bytes(&self, shape: FusedShape) -> u32 {
        let FusedShape { head_dim, value_dim, .. } = shape;
        let (tile_q, cols, tile_kv, head_chunk, key_chunk, hold_q, subgroup) = match *self {
            Self::Workgroup {
                tile_q,
                cols,
                tile_kv,
                head_chunk,
                key_chunk,
                hold_q,
                subgroup,
                ..
            } => (tile_q, cols, tile_kv, head_chunk, key_chunk, hold_q, subgroup),
            Self::Stream { .. } => return 0,
            Self::Matrix { size, tile_kv, .. } => {
                let tile_q = self.tile_q();
                let q_or_k = tile_q.max(tile_kv) * (head_dim.next_multiple_of(size) + 8);
                let v = value_dim.next_multiple_of(size) * (tile_kv + 8);
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
        16 * (scores.max(values) + reduce) + 4 * tile_q
    }

    /// Holds the set against what the kernels can do and what the device has.
    ///
    /// # Errors
    /// [`PlanError::Tiles`] with the reason; [`PlanError::Limit`] with both numbers.
    pub fn check(&self, shape: FusedShape, limits: &GpuLimits) -> Result<(), PlanError> {
        let refused = |reason| PlanError::Tiles { tiles: self.to_string(), reason };
        let wrong = self
            .too_large()
            .or_else(|| self.workgroup_shape())
            .or_else(|| self.stream_shape(shape.head_dim.max(shape.value_dim)))
            .or_else(|| self.matrix_shape(shape.dtype, limits));
        if let Some(reason) = wrong {
            return Err(refused(reason));
        }
        if !(1..=MOST_SPLITS).contains(&self.kv_splits()) {
            let got = self.kv_splits();
            return Err(refused(format!("kv_splits is {got}, not 1 to {MOST_SPLITS}")));
        }
        let lanes = match *self {
            Self::Workgroup { subgroup: false, .. } => 0,
            Self::Workgroup { tile_kv, cols, .. } => tile_kv / cols,
            Self::Stream { lanes, .. } => lanes,
            Self::Matrix { workgroup_size, .. } => (workgroup_size / self.tile_q()).max(1),
        };
        let bytes = self.workgroup_bytes(shape);
        let least = limits.subgroup.map_or(0, |sizes| sizes.least);
        for (limit, needed, available) in [
            ("bytes of workgroup memory", bytes, limits.workgroup_bytes),
            ("invocations a workgroup", self.workgroup_size(), limits.workgroup_invocations),
            ("lanes in the smallest subgroup", lanes, least),
        ] {
            if needed > available {
                let (needed, available) = (u64::from(needed), u64::from(available));
                return Err(PlanError::Limit {
                    what: format!("tiles {self}"),
                    limit,
                    needed,
                    available,
                });
            }
        }
        // Lanes are numbered by subgroups, which therefore must be full.
        match limits.subgroup {
            Some(sizes) if lanes > 0 && !self.workgroup_size().is_multiple_of(sizes.most) => {
                Err(refused(format!(
                    "a workgroup of {} lanes is not a multiple of the largest subgroup, {}",
                    self.workgroup_size(),
                    sizes.most
                )))
            }
            _ => Ok(()),
        }
    }

    /// The first number that no device has room for, if any; what follows multiplies them.
    fn too_large(&self) -> Option<String> {
        let numbers = match *self {
            Self::Workgroup { tile_q, tile_kv, rows, cols, head_chunk, key_chunk, .. } => [
                ("tile_q", tile_q),
                ("tile_kv", tile_kv),
                ("rows", rows),
                ("cols", cols),
                ("head_chunk", head_chunk),
                ("key_chunk", key_chunk),
            ],
            Self::Stream { rows, lanes, keys, tile_kv, workgroup_size, .. } => [
                ("rows", rows),
                ("lanes", lanes),
                ("keys", keys),
                ("tile_kv", tile_kv),
                ("workgroup_size", workgroup_size),
                ("rows", rows),
            ],
            Self::Matrix { size, row_matrices, subgroups, tile_kv, workgroup_size, .. } => [
                ("size", size),
                ("row_matrices", row_matrices),
                ("subgroups", subgroups),
                ("tile_kv", tile_kv),
                ("workgroup_size", workgroup_size),
                ("size", size),
            ],
        };
        let (name, value) = numbers.into_iter().find(|(_, value)| *value > LARGEST)?;
        Some(format!("{name} is {value}, not up to {LARGEST}"))
    }

    /// What keeps the workgroup kernel from running with these numbers, if anything.
    fn workgroup_shape(&self) -> Option<String> {
        let Self::Workgroup { tile_q, tile_kv, rows, cols, head_chunk, key_chunk, .. } = *self
        else {
            return None;
        };
        let lanes = |lanes_x: u32| {
            let wrong = !lanes_x.is_power_of_two() || !(4..=64).contains(&lanes_x);
            wrong.then(|| format!("tile_kv / cols is {lanes_x}, not 4, 8, 16, 32 or 64"))
        };
        indivisible("tile_q in rows", tile_q, rows)
            .or_else(|| indivisible("tile_kv in cols", tile_kv, cols))
            .or_else(|| indivisible("tile_kv in pairs of vectors", tile_kv, 8))
            .or_else(|| indivisible("tile_kv in key_chunk", tile_kv, key_chunk))
            .or_else(|| indivisible("key_chunk in vectors", key_chunk, 4))
            .or_else(|| indivisible("head_chunk in pairs of vectors", head_chunk, 8))
            .or_else(|| indivisible("rows in pairs", rows, 2))
            .or_else(|| indivisible("cols in pairs", cols, 2))
            .or_else(|| lanes(tile_kv / cols))
    }

    /// What keeps the streaming kernel from running with these numbers, if anything.
    fn stream_shape(&self, dim: u32) -> Option<String> {
        let Self::Stream { rows, lanes, keys, tile_kv, workgroup_size, .. } = *self else {
            return None;
        };
        let power = |what: &str, value: u32, most: u32| {
            let wrong = !value.is_power_of_two() || value > most;
            wrong.then(|| format!("{what} {value} is not a power of two up to {most}"))
        };
        power("lanes", lanes, 32)
            .or_else(|| power("rows", rows, 64))
            .or_else(|| power("keys", keys, 8))
            .or_else(|| indivisible("tile_kv in keys", tile_kv, keys))
            .or_else(|| indivisible("workgroup_size in lanes", workgroup_size, lanes))
            .or_else(|| {
                let steps = dim.div_ceil(4 * lanes);
                let message = format!("lanes {lanes} hold {steps} vectors of a row, not up to 32");
                (steps > 32).then_some(message)
            })
    }

    /// What keeps the matrix kernel from running with these numbers, if anything.
    fn matrix_shape(&self, dtype: Dtype, limits: &GpuLimits) -> Option<String> {
        let Self::Matrix { size, row_matrices, subgroups, tile_kv, workgroup_size, .. } = *self
        else {
            return None;
        };
        let Some(side) = limits.matrix else {
            return Some("the device offers no cooperative matrices that pass their check".into());
        };
        let most = limits.subgroup.map_or(0, |sizes| sizes.most);
        let power = |what: &str, value: u32, most: u32| {
            let wrong = !value.is_power_of_two() || value > most;
            wrong.then(|| format!("{what} {value} is not a power of two up to {most}"))
        };
        if dtype != Dtype::F16 {
            return Some(format!("matrices are of f16, the tensors of {dtype}"));
        }
        if size != side {
            return Some(format!("size is {size}, the device's matrices have {side}"));
        }
        power("row_matrices", row_matrices, 4)
            .or_else(|| power("subgroups", subgroups, 8))
            .or_else(|| {
                let wrong = workgroup_size != subgroups * most;
                wrong.then(|| {
                    format!(
                        "workgroup_size is {workgroup_size}, not {subgroups} subgroups of {most}"
                    )
                })
            })
            .or_else(|| indivisible("tile_kv in matrices", tile_kv, size))
            .or_else(|| {
                let lanes = (workgroup_size / self.tile_q()).max(1);
                indivisible("tile_kv in the vectors of a row's lanes", tile_kv, 4 * lanes)
            })
    }

    /// Whether a lane's registers hold its share of q and outputs without spilling.
    fn fits_registers(&self, shape: FusedShape, is_cpu: bool) -> bool {
        let FusedShape { head_dim, value_dim, .. } = shape;
        match *self {
            Self::Matrix { size, row_matrices, subgroups, workgroup_size, .. } => {
                // Of q some GPUs' lanes hold whole rows.
                let q = row_matrices * head_dim.div_ceil(size) * size / 2;
                let outputs = row_matrices * value_dim.div_ceil(size) * size * size;
                q + outputs / (workgroup_size / subgroups).max(1) <= MATRIX_REGISTERS
            }
            Self::Workgroup { tile_kv, rows, cols, .. } => {
                rows * 4 * value_dim.div_ceil(4 * tile_kv / cols) <= WORKGROUP_ACCUMULATORS
            }
            Self::Stream { rows, lanes, .. } => {
                let steps = value_dim.div_ceil(4 * lanes) + head_dim.div_ceil(4 * lanes);
                let most = if is_cpu { STREAM_ACCUMULATORS_ON_CPU } else { STREAM_ACCUMULATORS };
                rows * 4 * steps <= most
            }
        }
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

    /// Every tile set worth trying on a device, the heuristic's choice first; empty where none fits.
    ///
    /// `rows` is how many query rows share keys: the queries of a sequence and of the heads of a group.
    pub fn candidates(shape: FusedShape, rows: u64, limits: &GpuLimits) -> Vec<Self> {
        let mut tiles = Self::matrices(limits);
        for [tile_q, tile_kv, rows, cols, head_chunk, key_chunk, hold_q] in WORKGROUP_SETS {
            if rows * cols > COMMON_MICRO_TILE && limits.workgroup_bytes <= COMMON_WORKGROUP_BYTES {
                continue;
            }
            for subgroup in [true, false] {
                tiles.push(Self::Workgroup {
                    tile_q,
                    tile_kv,
                    rows,
                    cols,
                    head_chunk,
                    key_chunk,
                    hold_q: hold_q == 1,
                    subgroup,
                    kv_splits: 1,
                });
            }
        }
        tiles.extend(Self::streams(limits));
        tiles.retain(|tiles| tiles.check(shape, limits).is_ok());
        // Where nothing fits the registers, what spills still computes.
        let fits = |tiles: &Self| tiles.fits_registers(shape, limits.is_cpu);
        if tiles.iter().any(fits) {
            tiles.retain(fits);
        }
        // Streams first where lanes are a processor's; then the largest tile that the rows fill.
        tiles.sort_by_key(|tiles| {
            let streams = matches!(tiles, Self::Stream { .. });
            let idle_rows = u64::from(tiles.tile_q()).saturating_sub(rows.next_power_of_two());
            (streams != limits.is_cpu, idle_rows)
        });
        tiles
    }

    /// Sets of cooperative matrices, best first.
    fn matrices(limits: &GpuLimits) -> Vec<Self> {
        let (Some(size), Some(sizes)) = (limits.matrix, limits.subgroup) else { return Vec::new() };
        let sets = [(1, 4, 4), (2, 4, 4), (1, 4, 2), (2, 4, 2), (1, 8, 4), (1, 2, 4)];
        let set = |(row_matrices, subgroups, key_matrices)| Self::Matrix {
            size,
            row_matrices,
            subgroups,
            tile_kv: size * key_matrices,
            workgroup_size: subgroups * sizes.most,
            kv_splits: 1,
        };
        sets.map(set).to_vec()
    }

    /// Streaming sets by the size of the device's subgroups.
    fn streams(limits: &GpuLimits) -> Vec<Self> {
        let Some(sizes) = limits.subgroup else { return Vec::new() };
        let lanes = sizes.least.min(8);
        let mut tiles = Vec::new();
        for (rows, keys) in [(4 * lanes, 2), (2 * lanes, 4), (2 * lanes, 2), (lanes, 4)]
            .into_iter()
            .chain([(4, 4), (4, 1), (2, 1), (1, 4)])
        {
            let workgroup_size = sizes.most.max(lanes);
            tiles.push(Self::Stream {
                rows,
                lanes,
                keys,
                tile_kv: 64,
                workgroup_size,
                kv_splits: 1,
            });
        }
        tiles.dedup();
        tiles
    }
}

fn indivisible(what: &str, whole: u32, part: u32) -> Option<String> {
    let wrong = part == 0 || whole == 0 || !whole.is_multiple_of(part);
    wrong.then(|| format!("{what}: {whole} is not a multiple of {part}"))
}

impl fmt::Display for FusedTiles {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&serde_json::to_string(self).map_err(|_| fmt::Error)?)
    }
}
