//! The constants of a matmul's body.

use super::rows::Rows;
use super::weights::Weights;
use crate::gpu::limits::GpuLimits;
use crate::kernel::blocks;
use crate::kernel::matrix::matrix_types;
use crate::kernel::source::KernelSource;
use crate::matmul::tiles::MatmulTiles;

/// 32 signed bytes of a row, and what they are multiplied by.
const BYTES: &str = "struct Bytes { low: vec4<u32>, high: vec4<u32>, scale: f32 }\n";

/// Sums of a lane, times the steps written out, that drivers still unroll.
const MOST_UNROLLED: u32 = 512;

/// Writes the constants of the tiles' family.
pub(super) fn constants(
    source: &mut KernelSource,
    a: &Rows,
    weights: &Weights<'_>,
    limits: &GpuLimits,
) {
    let tiles = weights.tiles;
    source.const_bool("GATED", weights.parts() == 2);
    source.const_u32("WORKGROUP_SIZE", tiles.workgroup_size());
    source.const_u32("TILE_ROWS", tiles.tile_rows());
    let step = tiles.chunk().unwrap_or(4 * weights.unit_vectors());
    source.const_bool("INNER_WHOLE", weights.inner.is_multiple_of(step));
    match *tiles {
        MatmulTiles::Workgroup { tile_columns, rows, columns, chunk, .. } => {
            staged_tile(source, tile_columns, [rows, columns], chunk);
            source.const_u32("STEPS", steps([rows, columns], chunk, limits.is_cpu));
        }
        MatmulTiles::Bytes { tile_columns, rows, columns, chunk, .. } => {
            staged_tile(source, tile_columns, [rows, columns], chunk);
            source.accessor(BYTES);
        }
        MatmulTiles::Matrix { .. } => {
            matrices(source, tiles, weights.parts());
            source.const_bool("A_WIDE", a.are_wide());
        }
        MatmulTiles::Stream { rows, columns, .. } => {
            micro_tile(source, [rows, columns]);
            units(source, weights);
        }
        MatmulTiles::Reduce { rows, columns, lanes, .. } => {
            micro_tile(source, [rows, columns]);
            source.const_u32("LANES_X", lanes);
            units(source, weights);
        }
    }
}

/// Rows and columns of a lane.
fn micro_tile(source: &mut KernelSource, [rows, columns]: [u32; 2]) {
    source.const_u32("ROWS", rows);
    source.const_u32("COLUMNS", columns);
}

/// The same of operands that are staged in workgroup memory.
fn staged_tile(source: &mut KernelSource, tile_columns: u32, micro: [u32; 2], chunk: u32) {
    source.const_u32("TILE_COLUMNS", tile_columns);
    micro_tile(source, micro);
    source.const_u32("CHUNK", chunk);
}

/// Steps of a chunk that are written out: as many as drivers still unroll; where a processor runs the kernel fewer
/// compile faster.
fn steps([rows, columns]: [u32; 2], chunk: u32, is_cpu: bool) -> u32 {
    let fits = |steps: &u32| {
        (chunk / 4).is_multiple_of(*steps) && steps * rows * columns * 4 <= MOST_UNROLLED
    };
    [4, 2].into_iter().find(fits).filter(|_| !is_cpu).unwrap_or(1)
}

/// Of tiles of cooperative matrices.
fn matrices(source: &mut KernelSource, tiles: &MatmulTiles, parts: u32) {
    let MatmulTiles::Matrix {
        size,
        row_matrices,
        column_matrices,
        subgroup_rows,
        subgroup_columns,
        chunk,
        workgroup_size: _,
    } = *tiles
    else {
        return;
    };
    matrix_types(source, size);
    source.const_u32("MATRIX", size);
    source.const_u32("TILE_COLUMNS", tiles.part_columns(1));
    source.const_u32("ROW_MATRICES", row_matrices);
    source.const_u32("COLUMN_MATRICES", column_matrices);
    let sums = row_matrices * column_matrices;
    source.const_u32("SUM_MATRICES", sums);
    source.const_u32("STRIPS", sums / parts);
    source.const_u32("SUBGROUP_ROWS", subgroup_rows);
    source.const_u32("SUBGROUP_COLUMNS", subgroup_columns);
    source.const_u32("CHUNK", chunk);
}

/// Of weights that are read by units.
fn units(source: &mut KernelSource, weights: &Weights<'_>) {
    source.const_u32("UNIT_VECS", weights.unit_vectors());
    source.const_f32("W_OFFSET", blocks::offset(weights.format().blocks()));
}
