//! Tile sets of the fused forward: what may be chosen, what fits a device, what to choose first.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::error::PlanError;
use crate::gpu::limits::GpuLimits;

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
}

const fn one() -> u32 {
    1
}

/// Registers of accumulators a lane may hold before kernels spill, as measured on the compilers of real GPUs.
const ACCUMULATORS: u32 = 64;

impl FusedTiles {
    /// Query rows a workgroup owns.
    pub const fn tile_q(&self) -> u32 {
        match *self {
            Self::Workgroup { tile_q, .. } => tile_q,
            Self::Stream { rows, lanes, workgroup_size, .. } => workgroup_size / lanes * rows,
        }
    }

    /// Keys a tile has.
    pub const fn tile_kv(&self) -> u32 {
        match *self {
            Self::Workgroup { tile_kv, .. } | Self::Stream { tile_kv, .. } => tile_kv,
        }
    }

    /// Parts that the keys of a row are split into.
    pub const fn kv_splits(&self) -> u32 {
        match *self {
            Self::Workgroup { kv_splits, .. } | Self::Stream { kv_splits, .. } => kv_splits,
        }
    }

    /// The same tiles with the keys of a row split into other parts.
    #[must_use]
    pub const fn with_kv_splits(mut self, splits: u32) -> Self {
        match &mut self {
            Self::Workgroup { kv_splits, .. } | Self::Stream { kv_splits, .. } => {
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
            Self::Stream { workgroup_size, .. } => workgroup_size,
        }
    }

    /// Workgroup memory that the kernel takes for this value_dim.
    pub fn workgroup_bytes(&self, value_dim: u32) -> u32 {
        match *self {
            Self::Workgroup { tile_q, tile_kv, cols, head_chunk, key_chunk, subgroup, .. } => {
                let lanes_x = tile_kv / cols;
                let head_stride = head_chunk / 4 + 1;
                let scores = (tile_q + tile_kv) * head_stride;
                let value_stride = value_dim.div_ceil(4 * lanes_x) * lanes_x;
                let values = tile_q * (tile_kv / 4 + 1) + key_chunk * value_stride;
                let reduce = if subgroup { 0 } else { tile_q * lanes_x.div_ceil(4) };
                16 * (scores.max(values) + reduce) + 4 * tile_q
            }
            Self::Stream { .. } => 0,
        }
    }

    /// Holds the set against what the kernels can do and what the device has.
    ///
    /// # Errors
    /// [`PlanError::Tiles`] with the reason; [`PlanError::Limit`] with both numbers.
    pub fn check(&self, value_dim: u32, limits: &GpuLimits) -> Result<(), PlanError> {
        let reason = match *self {
            Self::Workgroup { tile_q, tile_kv, rows, cols, head_chunk, key_chunk, .. } => {
                workgroup_shape(tile_q, tile_kv, rows, cols, head_chunk, key_chunk)
            }
            Self::Stream { rows, lanes, keys, tile_kv, workgroup_size, .. } => {
                stream_shape(rows, lanes, keys, tile_kv, workgroup_size)
            }
        };
        let reason =
            reason.or_else(|| (self.kv_splits() == 0).then(|| "kv_splits is 0".to_owned()));
        if let Some(reason) = reason {
            return Err(PlanError::Tiles { tiles: self.to_string(), reason });
        }
        let limit = |limit, needed: u32, available: u32| {
            if needed <= available {
                return Ok(());
            }
            let (needed, available) = (u64::from(needed), u64::from(available));
            Err(PlanError::Limit { what: format!("tiles {self}"), limit, needed, available })
        };
        let bytes = self.workgroup_bytes(value_dim);
        limit("bytes of workgroup memory", bytes, limits.workgroup_bytes)?;
        limit("invocations a workgroup", self.workgroup_size(), limits.workgroup_invocations)?;
        let lanes = match *self {
            Self::Workgroup { subgroup: false, .. } => 0,
            Self::Workgroup { tile_kv, cols, .. } => tile_kv / cols,
            Self::Stream { lanes, .. } => lanes,
        };
        let least = limits.subgroup.map_or(0, |sizes| sizes.least);
        limit("lanes in the smallest subgroup", lanes, least)?;
        if let (Some(sizes), true) = (limits.subgroup, lanes > 0)
            && !self.workgroup_size().is_multiple_of(sizes.most)
        {
            let (size, most) = (self.workgroup_size(), sizes.most);
            let reason =
                format!("workgroup of {size} is not a multiple of the largest subgroup {most}");
            return Err(PlanError::Tiles { tiles: self.to_string(), reason });
        }
        Ok(())
    }

    /// Accumulators a lane holds: outputs, and the larger of scores and, when streaming, its share of q.
    fn accumulators(&self, head_dim: u32, value_dim: u32) -> u32 {
        match *self {
            Self::Workgroup { tile_kv, rows, cols, .. } => {
                let lanes_x = tile_kv / cols;
                rows * 4 * value_dim.div_ceil(4 * lanes_x)
            }
            Self::Stream { rows, lanes, .. } => {
                rows * 4 * (value_dim.div_ceil(4 * lanes) + head_dim.div_ceil(4 * lanes)) / 4
            }
        }
    }

    /// Every tile set worth trying on a device, the heuristic's choice first. Never empty.
    ///
    /// `rows` is how many query rows share keys: `seq_len_q`, or less than a tile for decoding.
    pub fn candidates(head_dim: u32, value_dim: u32, rows: u64, limits: &GpuLimits) -> Vec<Self> {
        let workgroup =
            |tile_q, tile_kv, rows, cols, head_chunk, key_chunk, subgroup| Self::Workgroup {
                tile_q,
                tile_kv,
                rows,
                cols,
                head_chunk,
                key_chunk,
                subgroup,
                kv_splits: 1,
            };
        let mut tiles = Vec::new();
        let shapes = [
            (64, 64, 4, 4, 32, 16),
            (64, 32, 4, 4, 32, 16),
            (64, 64, 8, 4, 32, 16),
            (32, 64, 4, 4, 32, 16),
            (32, 32, 4, 4, 16, 16),
            (16, 128, 4, 4, 16, 8),
            (16, 64, 4, 2, 16, 8),
            (16, 128, 4, 2, 16, 4),
            (8, 128, 4, 2, 16, 4),
        ];
        for (tile_q, tile_kv, rows, cols, head_chunk, key_chunk) in shapes {
            for subgroup in [true, false] {
                tiles.push(workgroup(tile_q, tile_kv, rows, cols, head_chunk, key_chunk, subgroup));
            }
        }
        if let Some(sizes) = limits.subgroup {
            let lanes = sizes.least.min(8);
            for (rows, keys) in
                [(4 * lanes, 2), (2 * lanes, 4), (lanes, 4), (lanes, 2), (4, 4), (1, 4)]
            {
                let workgroup_size = sizes.most.max(2 * lanes);
                let tile_kv = 64;
                tiles.push(Self::Stream {
                    rows,
                    lanes,
                    keys,
                    tile_kv,
                    workgroup_size,
                    kv_splits: 1,
                });
            }
        }
        tiles.retain(|tiles| tiles.check(value_dim, limits).is_ok());
        let accumulators = |tiles: &Self| tiles.accumulators(head_dim, value_dim);
        if tiles.iter().any(|tiles| accumulators(tiles) <= ACCUMULATORS) {
            tiles.retain(|tiles| accumulators(tiles) <= ACCUMULATORS);
        }
        // Streaming first where lanes are a processor's; else the largest tile that the rows fill.
        tiles.sort_by_key(|tiles| {
            let streams = matches!(tiles, Self::Stream { .. });
            let idle_rows = u64::from(tiles.tile_q()).saturating_sub(rows.next_power_of_two());
            (streams != limits.is_cpu, idle_rows)
        });
        tiles
    }
}

fn workgroup_shape(
    tile_q: u32,
    tile_kv: u32,
    rows: u32,
    cols: u32,
    head_chunk: u32,
    key_chunk: u32,
) -> Option<String> {
    let divides = |what: &str, whole: u32, part: u32| {
        (part == 0 || !whole.is_multiple_of(part) || whole == 0)
            .then(|| format!("{what}: {whole} is not a multiple of {part}"))
    };
    divides("tile_q in rows", tile_q, rows)
        .or_else(|| divides("tile_kv in cols", tile_kv, cols))
        .or_else(|| divides("tile_kv in key_chunk", tile_kv, key_chunk))
        .or_else(|| divides("key_chunk in vectors", key_chunk, 4))
        .or_else(|| divides("head_chunk in vectors", head_chunk, 4))
        .or_else(|| {
            let lanes_x = tile_kv / cols;
            (!lanes_x.is_power_of_two() || lanes_x > 64)
                .then(|| format!("tile_kv / cols is {lanes_x}, not a power of two up to 64"))
        })
}

fn stream_shape(rows: u32, lanes: u32, keys: u32, tile_kv: u32, size: u32) -> Option<String> {
    if !lanes.is_power_of_two() || lanes > 32 {
        return Some(format!("lanes {lanes} is not a power of two up to 32"));
    }
    if !rows.is_power_of_two() || rows > 64 {
        return Some(format!("rows {rows} is not a power of two up to 64"));
    }
    if keys == 0 || !tile_kv.is_multiple_of(keys) || tile_kv == 0 {
        return Some(format!("tile_kv {tile_kv} is not a multiple of keys {keys}"));
    }
    (size == 0 || !size.is_multiple_of(lanes))
        .then(|| format!("workgroup_size {size} is not a multiple of lanes {lanes}"))
}

impl fmt::Display for FusedTiles {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&serde_json::to_string(self).map_err(|_| fmt::Error)?)
    }
}
