//! A matmul as a launch.

use std::ops::Range;

use super::body::body;
use super::constants::constants;
use super::operand::Operand;
use super::rows::Rows;
use super::weights::Weights;
use crate::error::PlanError;
use crate::gpu::limits::GpuLimits;
use crate::gpu::recording::{Bound, Grid, Step};
use crate::kernel::reads::Reads;
use crate::kernel::source::{KernelSource, Launch, add_fragment};
use crate::matmul::tiles::MatmulTiles;

/// How many row tiles there are.
pub(crate) enum Workgroups {
    /// Those of so many rows, known to the host, for each split of the inner dims.
    Rows { rows: u32, splits: u32 },
    /// What a scratch buffer says, at this byte.
    Scratch { index: usize, offset: u64 },
}

/// A matmul; the kernel's source brings `tile_at`, `a_start`, `a_scale` and `finish` with it.
pub(crate) struct Matmul {
    pub inner: u32,
    /// Rows of the weights, columns of the result: the first is a tile's first.
    pub columns: Range<u32>,
    pub tiles: MatmulTiles,
    pub a: Rows,
    /// One matrix, or gate and up.
    pub weights: Vec<Operand>,
    pub result: Bound,
    /// Where the result's element 0 lies.
    pub result_first: u32,
    /// Elements between rows of the f32 result.
    pub result_stride: u32,
    pub workgroups: Workgroups,
}

/// A kernel whose row tiles are of these rows, one after another.
pub(crate) fn dense_rows(rows: &Range<u32>) -> KernelSource {
    let mut source = KernelSource::default();
    source.params.u32("row_first", rows.start);
    source.params.u32("rows", rows.end);
    add_fragment!(source, "matmul/rows_dense.wgsl");
    source
}

/// A kernel whose row tiles are of these rows for every split of the inner dims, one split after another.
pub(in crate::matmul) fn split_rows(rows: u32, row_tiles: u32, splits: u32) -> KernelSource {
    let mut source = KernelSource::default();
    source.params.u32("rows", rows);
    source.params.u32("row_tiles", row_tiles);
    source.params.u32("splits", splits);
    add_fragment!(source, "matmul/rows_split.wgsl");
    source
}

/// Adds the extra input `bias`, an element a column, to the sums, once where they are split.
pub(crate) fn add_column_bias(source: &mut KernelSource) {
    source.accessor("fn bias_at(expert: u32, column: u32) -> f32 { return select(0.0, bias_get(column), expert == 0u); }\n");
    add_fragment!(source, "matmul/finish_bias.wgsl");
}

impl Matmul {
    /// Closes a source that has the fragments of rows and finish already.
    pub fn step(mut self, mut source: KernelSource, limits: &GpuLimits) -> Result<Step, PlanError> {
        let operands = self.a.operands(&self.weights);
        self.tiles = self.tiles.suiting(operands, self.inner);
        self.tiles.check(operands, limits)?;
        self.header(&mut source, limits);
        if source.binding_count() > limits.storage_buffers {
            return Err(PlanError::Limit {
                what: "a matmul with its weights' scales and biases".to_owned(),
                limit: "storage buffers (max_storage_buffers_per_shader_stage)",
                needed: u64::from(source.binding_count()),
                available: u64::from(limits.storage_buffers),
            });
        }
        let entry = body(&mut source, &self.tiles, limits);
        let (grid, indirect) = self.grid(limits)?;
        let mut step = source.step(Launch {
            entry,
            workgroup_size: self.tiles.workgroup_size(),
            workgroup_bytes: self.tiles.part_bytes(self.weights.len() as u32, limits),
            checked: false,
            grid,
        });
        if let Some(grid) = indirect {
            step.grid = grid;
        }
        Ok(step)
    }

    /// Constants, params, bindings and readers.
    fn header(&self, source: &mut KernelSource, limits: &GpuLimits) {
        let weights = Weights { matrices: &self.weights, tiles: &self.tiles, inner: self.inner };
        constants(source, &self.a, &weights, limits);
        let params = &mut source.params;
        params.u32("inner", self.inner);
        params.u32("columns", self.columns.end);
        let tile = self.tiles.part_columns(self.weights.len() as u32);
        params.u32("column_tile_first", self.columns.start / tile);
        params.u32("result_first", self.result_first);
        params.u32("result_stride", self.result_stride);
        let reads = match self.tiles {
            MatmulTiles::Matrix { .. } => Reads::Halves,
            MatmulTiles::Bytes { .. } => Reads::Blocks,
            _ => Reads::Vectors,
        };
        self.a.bind(source, reads);
        weights.bind(source);
        source.bind("result", "f32", true, self.result.clone());
    }

    /// Column tiles along x, row tiles folded over y and z.
    fn grid(&self, limits: &GpuLimits) -> Result<([u32; 3], Option<Grid>), PlanError> {
        let most = limits.workgroups_per_dimension;
        let columns = self.columns.end - self.columns.start;
        let column_tiles = columns.div_ceil(self.tiles.part_columns(self.weights.len() as u32));
        if column_tiles > most {
            return Err(PlanError::Limit {
                what: "column tiles of a matmul".to_owned(),
                limit: "workgroups (max_compute_workgroups_per_dimension)",
                needed: u64::from(column_tiles),
                available: u64::from(most),
            });
        }
        Ok(match self.workgroups {
            Workgroups::Rows { rows, splits } => {
                let tiles = rows.div_ceil(self.tiles.tile_rows()) * splits;
                let y = tiles.min(most);
                ([column_tiles, y, tiles.div_ceil(y.max(1))], None)
            }
            Workgroups::Scratch { index, offset } => {
                ([0; 3], Some(Grid::Indirect { scratch: index, offset }))
            }
        })
    }
}
