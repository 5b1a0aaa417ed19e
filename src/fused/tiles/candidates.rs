//! Which tile sets are worth trying on a device, and which to take first.

use super::{FusedShape, FusedTiles};
use crate::gpu::limits::GpuLimits;

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

/// `tile_q, tile_kv, rows, cols, head_chunk, key_chunk, hold_q`, best first where everything fits. Compilers put the most
/// multiply-adds into those that hold q; an H100 is up to 1.6 times faster with those that leave memory to more workgroups.
const WORKGROUP_SETS: [[u32; 7]; 12] = [
    [64, 64, 4, 4, 16, 16, 0],
    [64, 32, 4, 4, 32, 16, 0],
    [64, 64, 4, 4, 32, 16, 1],
    [64, 32, 4, 4, 32, 16, 1],
    [64, 64, 8, 4, 16, 8, 0],
    [64, 64, 4, 8, 16, 8, 0],
    [32, 64, 4, 4, 16, 8, 0],
    [32, 128, 4, 4, 16, 8, 0],
    [32, 64, 2, 4, 16, 8, 0],
    [16, 64, 2, 2, 32, 4, 0],
    [8, 64, 2, 2, 32, 4, 0],
    [32, 16, 4, 2, 16, 8, 0],
];

/// The same for stages of halves: the memory that they save goes into larger chunks and more workgroups. 4 × 8 scores a lane
/// spill on no GPU's compiler, for what is on its way to memory takes fewer registers too.
const HALF_SETS: [[u32; 7]; 5] = [
    [64, 64, 4, 4, 32, 16, 0],
    [64, 64, 4, 4, 32, 32, 1],
    [64, 128, 4, 8, 32, 16, 0],
    [32, 64, 4, 4, 32, 16, 0],
    [32, 128, 4, 4, 32, 16, 0],
];

/// Rows from which a stream's kernel takes a processor's driver a second to compile, and floating-point operations below
/// which tens of calls are over before that pays: they begin with sets of fewer rows, up to a quarter slower, compiled in half
/// the time.
const SLOWLY_COMPILED_ROWS: u32 = 32;
const SMALL_CALL_FLOPS: f64 = 1e9;

/// Dims of a value beyond which a workgroup tile of more rows than this is too much for a workgroup.
const WIDE_DIM: u32 = 64;
const WIDE_ROWS: u32 = 32;

/// `key_groups, rows, keys` of streams whose lane groups share rows, for the few rows of decoding; a processor takes the
/// first.
const KEY_GROUP_STREAMS: [[u32; 3]; 8] =
    [[2, 4, 4], [2, 4, 2], [4, 1, 4], [4, 2, 4], [2, 1, 4], [2, 2, 4], [2, 8, 2], [1, 8, 4]];

/// Whether subgroups may have 64 lanes, as drivers for AMD and Apple say. Their multiply-adds take halves as operands, so
/// that stages of halves cost nothing; NVIDIA's compiler converts each, a third more operations.
fn has_wide_subgroups(limits: &GpuLimits) -> bool {
    limits.subgroup.is_some_and(|sizes| sizes.most > 32)
}

impl FusedTiles {
    /// Every tile set worth trying on a device, the heuristic's choice first; empty where none fits.
    ///
    /// `rows` is how many query rows share keys: the queries of a sequence and of the heads of a group; `flops` what a call
    /// computes.
    pub fn candidates(shape: FusedShape, rows: u64, flops: f64, limits: &GpuLimits) -> Vec<Self> {
        let mut tiles = Self::matrices(limits);
        let (floats, halves) = (Self::float_stages(limits), Self::half_stages(shape, limits));
        let [first, second] =
            if has_wide_subgroups(limits) { [halves, floats] } else { [floats, halves] };
        tiles.extend(first);
        tiles.extend(second);
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
            let too_wide = matches!(tiles, Self::Workgroup { tile_q, .. } if *tile_q > WIDE_ROWS)
                && shape.value_dim > WIDE_DIM;
            let late = tiles.compiles_too_long(flops, limits);
            (streams != limits.is_cpu, late, idle_rows, too_wide)
        });
        tiles
    }

    /// Whether compiling it takes a processor's driver longer than a call so small is worth.
    fn compiles_too_long(&self, flops: f64, limits: &GpuLimits) -> bool {
        let slow = matches!(self, Self::Stream { rows: SLOWLY_COMPILED_ROWS.., .. });
        limits.is_cpu && slow && flops < SMALL_CALL_FLOPS
    }

    /// Workgroup tiles staged as f32, with and without subgroups.
    fn float_stages(limits: &GpuLimits) -> Vec<Self> {
        let common = limits.workgroup_bytes <= COMMON_WORKGROUP_BYTES;
        let fits = |[_, _, rows, cols, ..]: &[u32; 7]| !common || rows * cols <= COMMON_MICRO_TILE;
        let sets = WORKGROUP_SETS.into_iter().filter(fits);
        sets.flat_map(|set| [true, false].map(|subgroup| Self::staged(set, false, subgroup)))
            .collect()
    }

    /// Those staged as f16, with subgroups where the device has them.
    fn half_stages(shape: FusedShape, limits: &GpuLimits) -> Vec<Self> {
        let best = |set| {
            let ways = [true, false].map(|subgroup| Self::staged(set, true, subgroup));
            ways.into_iter().find(|tiles| tiles.check(shape, limits).is_ok())
        };
        HALF_SETS.into_iter().filter_map(best).collect()
    }

    /// A set of the lists above.
    fn staged(set: [u32; 7], half: bool, subgroup: bool) -> Self {
        let [tile_q, tile_kv, rows, cols, head_chunk, key_chunk, hold_q] = set;
        Self::Workgroup {
            tile_q,
            tile_kv,
            rows,
            cols,
            head_chunk,
            key_chunk,
            hold_q: hold_q == 1,
            half,
            subgroup,
            kv_splits: 1,
        }
    }

    /// Sets of cooperative matrices, best first.
    fn matrices(limits: &GpuLimits) -> Vec<Self> {
        let (Some(size), Some(sizes)) = (limits.matrix, limits.subgroup) else { return Vec::new() };
        // Where subgroups may have 64 lanes, compilers need fewer cycles for turned ones (an eighth for RDNA 3); an H100 is
        // faster with those that lie as they are.
        let turns = has_wide_subgroups(limits);
        let set = |(row_matrices, subgroups, key_matrices, turn_v)| Self::Matrix {
            size,
            row_matrices,
            subgroups,
            tile_kv: size * key_matrices,
            workgroup_size: subgroups.saturating_mul(sizes.most),
            turn_v,
            kv_splits: 1,
        };
        let sets = [(1, 4, 4), (2, 4, 4), (1, 4, 2), (2, 4, 2), (1, 8, 4), (1, 2, 4)];
        let sets = sets.map(|(rows, subgroups, keys)| (rows, subgroups, keys, turns));
        sets.into_iter().chain([(1, 4, 4, !turns), (1, 4, 2, !turns)]).map(set).collect()
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
                key_groups: 1,
                kv_splits: 1,
            });
        }
        tiles.dedup();
        let grouped = &KEY_GROUP_STREAMS[..if limits.is_cpu { 1 } else { KEY_GROUP_STREAMS.len() }];
        tiles.extend(grouped.iter().map(|&[key_groups, rows, keys]| Self::Stream {
            rows,
            lanes: sizes.least / key_groups,
            keys,
            tile_kv: 64,
            workgroup_size: sizes.most,
            key_groups,
            kv_splits: 1,
        }));
        tiles
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
}
