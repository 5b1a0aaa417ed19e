//! The fragments that a matmul's kernel is made of.

use crate::gpu::limits::GpuLimits;
use crate::kernel::source::{KernelSource, add_fragment};
use crate::matmul::tiles::MatmulTiles;

/// Adds the body of the tiles' family; gives its entry point.
pub(super) fn body(
    source: &mut KernelSource,
    tiles: &MatmulTiles,
    limits: &GpuLimits,
) -> &'static str {
    match tiles {
        MatmulTiles::Workgroup { .. } => {
            staging(source);
            add_fragment!(source, "matmul/stage.wgsl");
            add_fragment!(source, "matmul/tile_floats.wgsl");
            add_fragment!(source, "matmul/tile.wgsl");
            "matmul_tile"
        }
        MatmulTiles::Bytes { .. } => {
            staging(source);
            add_fragment!(source, "matmul/tile_bytes.wgsl");
            add_fragment!(source, "matmul/tile.wgsl");
            "matmul_tile"
        }
        MatmulTiles::Matrix { .. } => {
            add_fragment!(source, "common/lanes_subgroup.wgsl");
            staging(source);
            add_fragment!(source, "matmul/stage.wgsl");
            add_fragment!(source, "matmul/matrix.wgsl");
            "matmul_matrix"
        }
        MatmulTiles::Stream { .. } => stream(source, tiles.workgroup_size(), limits),
        MatmulTiles::Reduce { .. } => reduce(source, tiles.sums_by_subgroup(limits)),
    }
}

/// What a lane stages, and where it lies.
fn staging(source: &mut KernelSource) {
    add_fragment!(source, "common/staging.wgsl");
    add_fragment!(source, "matmul/places.wgsl");
}

/// Where a workgroup is one whole subgroup, whatever the driver picks, its lanes share their reads.
fn stream(source: &mut KernelSource, workgroup_size: u32, limits: &GpuLimits) -> &'static str {
    let whole =
        limits.subgroup.is_some_and(|s| s.least == workgroup_size && s.most == workgroup_size);
    if whole {
        add_fragment!(source, "matmul/stream_shared.wgsl");
    } else {
        add_fragment!(source, "matmul/stream_own.wgsl");
    }
    add_fragment!(source, "matmul/stream.wgsl");
    "matmul_stream"
}

/// The lanes of a group add up by their subgroup, or through workgroup memory.
fn reduce(source: &mut KernelSource, sums_by_subgroup: bool) -> &'static str {
    if sums_by_subgroup {
        add_fragment!(source, "common/lanes_subgroup.wgsl");
        add_fragment!(source, "matmul/sum_subgroup.wgsl");
    } else {
        add_fragment!(source, "common/lanes_workgroup.wgsl");
        add_fragment!(source, "matmul/sum_workgroup.wgsl");
    }
    add_fragment!(source, "matmul/reduce.wgsl");
    "matmul_reduce"
}
