//! From a dense matmul, limits and tiles to launches. Pure: needs no device.

use std::ops::Range;

use super::dense::Dense;
use super::problem::{MatmulExtents, MatmulProblem};
use super::tiles::MatmulTiles;
use crate::error::PlanError;
use crate::gpu::limits::GpuLimits;
use crate::gpu::recording::{Plan, Scratch, Steps, check_step_count};
use crate::kernel::slices::workgroups_a_dispatch;
use crate::tensor::BLOCK;

/// Where workgroups do not fill a GPU the inner dims are split, up to as many times and into parts no shorter than these.
const MOST_SPLITS: u32 = 8;
const LEAST_PART: u32 = 512;

/// The plan of a problem with these tiles.
pub(super) fn plan(
    problem: &MatmulProblem,
    limits: &GpuLimits,
    tiles: &MatmulTiles,
) -> Result<Plan, PlanError> {
    tiles.check(problem.operands(), limits)?;
    let dense = Dense { problem, limits, tiles: *tiles, splits: splits(problem, limits, tiles) };
    let MatmulExtents { rows, columns, .. } = problem.extents;
    let column_step = column_step(&dense)?;
    let row_step = row_step(&dense, column_step)?;
    let parts = [(columns, column_step), (rows, row_step)];
    let [column_parts, row_parts] = parts.map(|(extent, step)| u64::from(extent.div_ceil(step)));
    check_step_count("parts of a matmul", column_parts * row_parts)?;
    let mut steps = Steps::default();
    for columns in cut(columns, column_step) {
        for rows in cut(rows, row_step) {
            steps.extend(dense.part(&rows, &columns)?);
        }
    }
    let (rows, columns) = (row_step.min(rows), column_step.min(columns));
    let scratch = [
        Scratch { name: "sums", bytes: dense.sum_bytes(rows, columns) },
        Scratch { name: "rounded x", bytes: dense.rounded_bytes(rows) },
    ];
    Plan::fitting(steps.into_vec(), scratch.into(), limits)
}

/// Ranges of `step` that make up an extent.
fn cut(extent: u32, step: u32) -> impl Iterator<Item = Range<u32>> {
    (0..extent)
        .step_by(step as usize)
        .map(move |first| first..first.saturating_add(step).min(extent))
}

/// Parts of the inner dims that different workgroups sum: several where a GPU would have too few.
fn splits(problem: &MatmulProblem, limits: &GpuLimits, tiles: &MatmulTiles) -> u32 {
    let Some(chunk) = tiles.chunk().filter(|_| !limits.is_cpu) else { return 1 };
    let MatmulExtents { rows, columns, inner } = problem.extents;
    let filling = limits.filling_workgroups(tiles.workgroup_size());
    let row_tiles = u64::from(rows.div_ceil(tiles.tile_rows()));
    let workgroups = row_tiles * u64::from(columns.div_ceil(tiles.part_columns(1)));
    let parts = |splits: &u32| {
        let part = inner / splits;
        let whole = part * splits == inner
            && part.is_multiple_of(chunk)
            && part.is_multiple_of(BLOCK as u32);
        whole && part >= LEAST_PART && workgroups * u64::from(splits / 2) < filling
    };
    let doubled = std::iter::successors(Some(2), |splits| Some(2 * splits));
    doubled.take_while(|splits| *splits <= MOST_SPLITS && parts(splits)).last().unwrap_or(1)
}

/// Columns whose weights fit a binding: all, whole tiles, or vectors of four.
fn column_step(dense: &Dense<'_>) -> Result<u32, PlanError> {
    let columns = dense.problem.extents.columns;
    // Whole tiles that end where vectors of out do.
    let tile = dense.tiles.part_columns(1);
    let tile = if tile.is_multiple_of(4) { tile } else { 4 * tile };
    let bytes = |step: u32| {
        let ends = ["w", "w_scales"].map(|name| dense.end_bytes(name, step));
        ends.into_iter().max().unwrap_or(0)
    };
    let most = tile.saturating_mul(dense.limits.workgroups_per_dimension);
    step_of(dense, "w", columns.min(most), [tile, 4], bytes)
}

/// Rows whose tensors fit a binding and whose work stays clear of a watchdog: all, or whole tiles.
fn row_step(dense: &Dense<'_>, columns: u32) -> Result<u32, PlanError> {
    let MatmulExtents { rows, inner, .. } = dense.problem.extents;
    let tile = dense.tiles.tile_rows();
    let bytes = |step: u32| {
        let ends = ["x", "out"].map(|name| dense.end_bytes(name, step));
        let ends = ends.into_iter().max().unwrap_or(0);
        ends.max(dense.sum_bytes(step, columns)).max(dense.rounded_bytes(step))
    };
    let flops = || 2.0 * f64::from(tile) * f64::from(columns) * f64::from(inner);
    let tiles = workgroups_a_dispatch(flops, dense.limits).min(u64::from(u32::MAX / tile));
    step_of(dense, "x or out", rows.min(tiles as u32 * tile), [tile, 1], bytes)
}

/// As much as fits, halved until it does: whole tiles, or parts of one by `least`.
fn step_of(
    dense: &Dense<'_>,
    what: &str,
    most: u32,
    [tile, least]: [u32; 2],
    bytes: impl Fn(u32) -> u64,
) -> Result<u32, PlanError> {
    let mut step = most.max(1);
    let available = dense.limits.storage_binding_bytes;
    while bytes(step) > available {
        if step <= least {
            return Err(PlanError::Limit {
                what: format!(
                    "{step} rows of {what} (inner dims are not cut: a device with larger bindings takes them)"
                ),
                limit: "bytes of one binding (max_storage_buffer_binding_size)",
                needed: bytes(step),
                available,
            });
        }
        let unit = if step > tile { tile } else { least };
        step = (step / 2).next_multiple_of(unit).min(step - 1);
    }
    Ok(step)
}

#[cfg(all(test, feature = "verify"))]
mod tests;
