//! Which tile sets are worth trying on a device, and which to take first.

use std::cmp::Reverse;

use super::{MatmulTiles, Operands};
use crate::error::PlanError;
use crate::gpu::limits::GpuLimits;

/// `tile_rows, tile_columns, rows, columns, chunk`, best first where there are rows enough.
const WORKGROUP_SETS: [[u32; 5]; 14] = [
    [64, 128, 4, 8, 32],
    [64, 128, 4, 8, 16],
    [128, 128, 8, 8, 16],
    [128, 128, 8, 8, 8],
    [64, 64, 8, 8, 16],
    [64, 64, 4, 4, 32],
    [64, 64, 4, 4, 16],
    [128, 64, 8, 4, 16],
    [32, 128, 4, 8, 32],
    [32, 64, 4, 4, 32],
    [16, 128, 4, 4, 32],
    [16, 64, 2, 4, 32],
    [8, 128, 2, 4, 32],
    [8, 64, 1, 4, 32],
];

/// The same of bytes. Most lanes have a block of a column to stage.
const BYTES_SETS: [[u32; 5]; 6] = [
    [64, 128, 4, 8, 64],
    [128, 64, 8, 4, 64],
    [64, 64, 4, 4, 64],
    [32, 128, 4, 4, 64],
    [16, 128, 2, 4, 64],
    [8, 128, 1, 4, 32],
];

/// `row_matrices, column_matrices, subgroup_rows, subgroup_columns`, and matrices in a chunk, best first where there are
/// rows enough.
const MATRIX_SETS: [[u32; 5]; 8] = [
    [2, 4, 2, 2, 2],
    [2, 4, 2, 2, 4],
    [2, 4, 4, 2, 2],
    [2, 2, 2, 2, 4],
    [2, 2, 2, 2, 2],
    [1, 4, 2, 2, 2],
    [1, 2, 2, 2, 4],
    [1, 2, 1, 4, 2],
];

/// `rows, columns`, best first where there are rows enough.
const STREAM_SETS: [[u32; 2]; 8] =
    [[32, 2], [16, 4], [16, 2], [8, 4], [8, 2], [4, 2], [2, 2], [1, 2]];

/// `rows, columns`, best first where there are rows enough.
const REDUCE_SETS: [[u32; 2]; 6] = [[4, 4], [2, 4], [2, 8], [1, 4], [1, 8], [1, 16]];

/// Rows up to which reading weights takes longer than multiplying them.
const FEW_ROWS: u64 = 4;

impl MatmulTiles {
    /// [`MatmulTiles::candidates`], at least one.
    ///
    /// # Errors
    /// [`PlanError::Limit`] where none fits the device.
    pub(crate) fn some_candidates(
        rows: u64,
        operands: Operands,
        limits: &GpuLimits,
    ) -> Result<Vec<Self>, PlanError> {
        let tiles = Self::candidates(rows, operands, limits);
        if !tiles.is_empty() {
            return Ok(tiles);
        }
        Err(PlanError::Limit {
            what: "a matmul".to_owned(),
            limit: "invocations of a workgroup",
            needed: 128,
            available: u64::from(limits.workgroup_invocations),
        })
    }

    /// Every tile set worth trying where matrices have about `rows` rows, the best guess first.
    pub fn candidates(rows: u64, operands: Operands, limits: &GpuLimits) -> Vec<Self> {
        let mut all = Self::matrices(limits);
        all.extend(BYTES_SETS.map(|[tile_rows, tile_columns, rows, columns, chunk]| Self::Bytes {
            tile_rows,
            tile_columns,
            rows,
            columns,
            chunk,
        }));
        all.extend(WORKGROUP_SETS.map(|[tile_rows, tile_columns, rows, columns, chunk]| {
            Self::Workgroup { tile_rows, tile_columns, rows, columns, chunk }
        }));
        all.extend(Self::from_memory(limits));
        all.retain(|tiles| tiles.check(operands, limits).is_ok());
        all.sort_by_key(|tiles| tiles.rank(rows, limits));
        all
    }

    /// Sets that read operands straight from memory.
    fn from_memory(limits: &GpuLimits) -> impl Iterator<Item = Self> {
        let workgroup_size = limits.subgroup.map_or(32, |sizes| sizes.most.clamp(8, 64));
        let streams =
            STREAM_SETS.map(|[rows, columns]| Self::Stream { rows, columns, workgroup_size });
        // A whole subgroup adds up, and a workgroup of several hides more of the memory's latency.
        let lanes = limits.subgroup.map_or(32, |sizes| sizes.least.clamp(4, 32));
        let workgroup_size = if limits.is_cpu { lanes } else { 128 };
        let reduces = REDUCE_SETS.map(|[rows, columns]| Self::Reduce {
            rows,
            columns,
            lanes,
            workgroup_size,
        });
        streams.into_iter().chain(reduces)
    }

    /// How late a set stands in the list: whether its family suits, idle rows of a tile, then columns.
    fn rank(&self, rows: u64, limits: &GpuLimits) -> (bool, bool, u64, Reverse<u32>) {
        let suits = match self {
            Self::Reduce { .. } => rows <= FEW_ROWS,
            Self::Stream { .. } => limits.is_cpu && rows > FEW_ROWS,
            Self::Bytes { .. } if !limits.packed_dot => false,
            Self::Matrix { .. } | Self::Bytes { .. } | Self::Workgroup { .. } => {
                !limits.is_cpu && rows > FEW_ROWS
            }
        };
        // The rows of experts seldom end where a large tile does.
        let full = match self {
            Self::Stream { rows: 32.., .. } => 2 * self.tile_rows(),
            _ => self.tile_rows(),
        };
        let idle = u64::from(full).saturating_sub(rows.next_power_of_two());
        // Few columns a lane make many workgroups; a processor would rather read x for more of them at once.
        let narrow = match *self {
            Self::Reduce { columns, .. } if limits.is_cpu => Reverse(columns),
            _ => Reverse(0),
        };
        (!suits, matches!(self, Self::Stream { .. }) != limits.is_cpu, idle, narrow)
    }

    /// Sets of cooperative matrices, best first.
    fn matrices(limits: &GpuLimits) -> Vec<Self> {
        let (Some(size), Some(sizes)) = (limits.matrix, limits.subgroup) else { return Vec::new() };
        let set =
            |[row_matrices, column_matrices, subgroup_rows, subgroup_columns, chunk]: [u32; 5]| {
                Self::Matrix {
                    size,
                    row_matrices,
                    column_matrices,
                    subgroup_rows,
                    subgroup_columns,
                    chunk: chunk * size,
                    workgroup_size: (subgroup_rows * subgroup_columns).saturating_mul(sizes.most),
                }
            };
        MATRIX_SETS.map(set).to_vec()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_floor_has_tiles_for_many_rows_and_for_few() {
        let floor = GpuLimits::floor();
        let many = MatmulTiles::candidates(1000, Operands::Halves, &floor);
        assert!(
            many[0].tile_rows() >= 64 && many[0].workgroup_bytes(&floor) <= 16 << 10,
            "{}",
            many[0]
        );
        let few = MatmulTiles::candidates(1, Operands::Halves, &floor);
        assert!(few[0].tile_rows() <= 8, "{}", few[0]);
    }
}
