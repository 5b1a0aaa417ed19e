//! A matmul as a dispatch: its constants, its operands' readers, its body.

use std::ops::Range;

use super::activations::ByteRows;
use super::operand::Operand;
use super::tiles::{MatmulTiles, Operands};
use crate::error::PlanError;
use crate::gpu::limits::GpuLimits;
use crate::gpu::recording::{Bound, Grid, Step};
use crate::kernel::blocks::{self, BLOCK_VECTORS, raw_type, taken_type};
use crate::kernel::matrix::matrix_types;
use crate::kernel::reads::Reads;
use crate::kernel::source::{KernelSource, Launch, add_fragment};
use crate::tensor::WeightFormat;

/// How many row tiles there are.
pub(crate) enum Workgroups {
    /// Those of so many rows, known to the host, for each split of the inner dims.
    Rows { rows: u32, splits: u32 },
    /// What a scratch buffer says, at this byte.
    Scratch { index: usize, offset: u64 },
}

/// What weights are multiplied with.
pub(crate) enum Rows {
    Numbers(Operand),
    Bytes(ByteRows),
}

/// A matmul; the kernel's source brings `tile_at`, `a_start`, `a_scale` and `finish` with it.
pub(crate) struct Matmul {
    pub inner: u32,
    pub columns: u32,
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

/// 32 signed bytes of a row, and what they are multiplied by.
const BYTES: &str = "struct Bytes { low: vec4<u32>, high: vec4<u32>, scale: f32 }\n";

/// A kernel whose row tiles are of these rows, one after another.
pub(crate) fn dense_rows(rows: &Range<u32>) -> KernelSource {
    let mut source = KernelSource::default();
    source.params.u32("row_first", rows.start);
    source.params.u32("rows", rows.end);
    add_fragment!(source, "matmul/rows_dense.wgsl");
    source
}

/// A kernel whose row tiles are of these rows for every split of the inner dims, one split after another.
pub(crate) fn split_rows(rows: u32, row_tiles: u32, splits: u32) -> KernelSource {
    let mut source = KernelSource::default();
    source.params.u32("rows", rows);
    source.params.u32("row_tiles", row_tiles);
    source.params.u32("splits", splits);
    add_fragment!(source, "matmul/rows_split.wgsl");
    source
}

/// Adds the side tensor `bias`, an element a column, to the sums, once where they are split.
pub(crate) fn add_column_bias(source: &mut KernelSource) {
    source.accessor("fn bias_at(expert: u32, column: u32) -> f32 { return select(0.0, bias_get(column), expert == 0u); }\n");
    add_fragment!(source, "matmul/finish_bias.wgsl");
}

impl Matmul {
    /// Closes a source that has the fragments of rows and finish already.
    pub fn step(mut self, mut source: KernelSource, limits: &GpuLimits) -> Result<Step, PlanError> {
        let operands = self.operands();
        self.tiles = self.tiles.suiting(operands, self.inner);
        self.tiles.check(operands, limits)?;
        let gated = self.weights.len() == 2;
        self.constants(&mut source, gated, limits.is_cpu);
        let params = &mut source.params;
        params.u32("inner", self.inner);
        params.u32("columns", self.columns);
        params.u32("column_tile_first", 0);
        params.u32("result_first", self.result_first);
        params.u32("result_stride", self.result_stride);
        let reads = match self.tiles {
            MatmulTiles::Matrix { .. } => Reads::Halves,
            MatmulTiles::Bytes { .. } => Reads::Blocks,
            _ => Reads::Vectors,
        };
        match &self.a {
            Rows::Numbers(a) => a.bind(&mut source, "a", reads),
            Rows::Bytes(a) => a.bind(&mut source, reads),
        }
        self.weight_readers(&mut source);
        source.bind("result", "f32", true, self.result.clone());
        if source.binding_count() > limits.storage_buffers {
            return Err(PlanError::Limit {
                what: "a matmul with its weights' scales and biases".to_owned(),
                limit: "storage buffers (max_storage_buffers_per_shader_stage)",
                needed: u64::from(source.binding_count()),
                available: u64::from(limits.storage_buffers),
            });
        }
        let entry = self.body(&mut source, limits);
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

    fn operands(&self) -> Operands {
        match &self.a {
            Rows::Bytes(_) => Operands::Bytes,
            Rows::Numbers(a) if a.halves && self.weights.iter().all(|w| w.halves) => {
                Operands::Halves
            }
            Rows::Numbers(_) => Operands::Floats,
        }
    }

    fn constants(&self, source: &mut KernelSource, gated: bool, is_cpu: bool) {
        source.const_bool("GATED", gated);
        source.const_u32("WORKGROUP_SIZE", self.tiles.workgroup_size());
        source.const_u32("TILE_ROWS", self.tiles.tile_rows());
        let step = self.tiles.chunk().unwrap_or(4 * self.unit_vectors());
        source.const_bool("INNER_WHOLE", self.inner.is_multiple_of(step));
        match self.tiles {
            MatmulTiles::Workgroup { tile_columns, rows, columns, chunk, .. } => {
                source.const_u32("TILE_COLUMNS", tile_columns);
                source.const_u32("ROWS", rows);
                source.const_u32("COLUMNS", columns);
                source.const_u32("CHUNK", chunk);
                // As many steps as drivers still unroll; where a processor runs the kernel fewer compile faster.
                let fits = |steps: &u32| {
                    (chunk / 4).is_multiple_of(*steps) && steps * rows * columns * 4 <= 512
                };
                let steps = [4, 2].into_iter().find(fits).filter(|_| !is_cpu).unwrap_or(1);
                source.const_u32("STEPS", steps);
            }
            MatmulTiles::Bytes { tile_columns, rows, columns, chunk, .. } => {
                source.const_u32("TILE_COLUMNS", tile_columns);
                source.const_u32("ROWS", rows);
                source.const_u32("COLUMNS", columns);
                source.const_u32("CHUNK", chunk);
                source.accessor(BYTES);
            }
            MatmulTiles::Matrix {
                size,
                row_matrices,
                column_matrices,
                subgroup_rows,
                subgroup_columns,
                chunk,
                ..
            } => {
                matrix_types(source, size);
                source.const_u32("MATRIX", size);
                source.const_u32("TILE_COLUMNS", self.tiles.part_columns(1));
                source.const_u32("ROW_MATRICES", row_matrices);
                source.const_u32("COLUMN_MATRICES", column_matrices);
                let sums = row_matrices * column_matrices;
                source.const_u32("SUM_MATRICES", sums);
                source.const_u32("STRIPS", sums / self.weights.len() as u32);
                source.const_u32("SUBGROUP_ROWS", subgroup_rows);
                source.const_u32("SUBGROUP_COLUMNS", subgroup_columns);
                source.const_u32("CHUNK", chunk);
                let halves = |a: &Operand| a.format == WeightFormat::F16;
                source.const_bool("A_WIDE", !matches!(&self.a, Rows::Numbers(a) if halves(a)));
            }
            MatmulTiles::Stream { rows, columns, .. } => {
                source.const_u32("ROWS", rows);
                source.const_u32("COLUMNS", columns);
                self.unit_constants(source);
            }
            MatmulTiles::Reduce { rows, columns, lanes, .. } => {
                source.const_u32("ROWS", rows);
                source.const_u32("COLUMNS", columns);
                source.const_u32("LANES_X", lanes);
                self.unit_constants(source);
            }
        }
    }

    fn unit_constants(&self, source: &mut KernelSource) {
        source.const_u32("UNIT_VECS", self.unit_vectors());
        source.const_f32("W_OFFSET", blocks::offset(self.weights[0].format.blocks()));
    }

    /// Vectors of a column that a lane stages at once, of all matrices.
    fn run_vectors(&self) -> u32 {
        let parts = self.weights.len() as u32;
        let share =
            |chunk: u32| self.tiles.part_columns(parts) * (chunk / 4) / self.tiles.workgroup_size();
        let runs = |chunk: u32| {
            self.weights.iter().map(|w| w.run_vectors(share(chunk), chunk, self.inner)).min()
        };
        match self.tiles {
            MatmulTiles::Workgroup { chunk, .. } => runs(chunk).unwrap_or(1),
            MatmulTiles::Bytes { .. } => BLOCK_VECTORS,
            _ => 1,
        }
    }

    /// Vectors that all matrices are read by.
    fn unit_vectors(&self) -> u32 {
        self.weights.iter().map(|w| w.unit_vectors(self.inner)).min().unwrap_or(1)
    }

    /// `w_row(part, expert, column)`, and `w_take(part, offset, d)` with
    /// `w_run(part, taken)`, or `w_raw(part, offset, unit)` and
    /// `w_vector(part, raw, v)`.
    fn weight_readers(&self, source: &mut KernelSource) {
        let vectors = self.unit_vectors();
        let (reads, functions) = match self.tiles {
            MatmulTiles::Matrix { .. }
            | MatmulTiles::Workgroup { .. }
            | MatmulTiles::Bytes { .. } => {
                let run = self.run_vectors();
                source.const_u32("RUN", run);
                let reads = match self.tiles {
                    MatmulTiles::Bytes { .. } => Reads::Blocks,
                    MatmulTiles::Matrix { .. } => Reads::Halves,
                    _ if run > 1 => Reads::Runs { vectors: run },
                    _ => Reads::Vectors,
                };
                source.accessor(&taken_type(self.weights[0].format, reads));
                let take = ["take", "offset: u32, d: u32", "offset, d", "Taken"];
                let make = if reads == Reads::Blocks {
                    ["block", "taken: Taken", "taken", "Bytes"]
                } else {
                    source.const_bool("RUN_SPREAD", run > 1 && self.weights[0].spreads());
                    ["run", "taken: Taken", "taken", "Run"]
                };
                (reads, vec![take, make])
            }
            MatmulTiles::Stream { .. } | MatmulTiles::Reduce { .. } => {
                source.accessor(&raw_type(self.weights[0].format, vectors));
                let raw = ["raw", "offset: u32, unit: u32", "offset, unit", "Raw"];
                let vector = ["vector", "raw: Raw, v: u32", "raw, v", "vec4<f32>"];
                (Reads::Units { vectors }, vec![raw, vector])
            }
        };
        let mut rows = Vec::new();
        for (part, weights) in self.weights.iter().enumerate() {
            let name = format!("w{part}");
            weights.bind(source, &name, reads);
            // Runs of a single vector.
            let single = match reads {
                Reads::Vectors => "load4",
                Reads::Halves => "half4",
                Reads::Runs { .. } | Reads::Blocks | Reads::Units { .. } => "",
            };
            if !single.is_empty() {
                source.accessor(&format!("fn {name}_take(offset: u32, d: u32) -> Taken {{ return {name}_{single}(offset, d); }}\nfn {name}_run(taken: Taken) -> Run {{ return Run(taken); }}\n"));
            }
            source.params.u32(format!("{name}_expert_stride"), weights.expert_stride);
            rows.push(format!(
                "params.{name}_first + expert * params.{name}_expert_stride + column * params.{name}_stride"
            ));
        }
        source.accessor(&by_part("w_row", "expert: u32, column: u32", "u32", &rows));
        for [function, takes, gives, kind] in functions {
            let call = |part: usize| format!("w{part}_{function}({gives})");
            let calls: Vec<String> = (0..self.weights.len()).map(call).collect();
            source.accessor(&by_part(&format!("w_{function}"), takes, kind, &calls));
        }
    }

    fn body(&self, source: &mut KernelSource, limits: &GpuLimits) -> &'static str {
        match self.tiles {
            MatmulTiles::Workgroup { .. } => {
                add_fragment!(source, "common/staging.wgsl");
                add_fragment!(source, "matmul/places.wgsl");
                add_fragment!(source, "matmul/stage.wgsl");
                add_fragment!(source, "matmul/tile_floats.wgsl");
                add_fragment!(source, "matmul/tile.wgsl");
                "matmul_tile"
            }
            MatmulTiles::Bytes { .. } => {
                add_fragment!(source, "common/staging.wgsl");
                add_fragment!(source, "matmul/places.wgsl");
                add_fragment!(source, "matmul/tile_bytes.wgsl");
                add_fragment!(source, "matmul/tile.wgsl");
                "matmul_tile"
            }
            MatmulTiles::Matrix { .. } => {
                add_fragment!(source, "common/lanes_subgroup.wgsl");
                add_fragment!(source, "common/staging.wgsl");
                add_fragment!(source, "matmul/places.wgsl");
                add_fragment!(source, "matmul/stage.wgsl");
                add_fragment!(source, "matmul/matrix.wgsl");
                "matmul_matrix"
            }
            MatmulTiles::Stream { .. } => {
                // Where a workgroup is one whole subgroup, whatever the driver picks, its lanes share their reads.
                let size = self.tiles.workgroup_size();
                let whole = limits.subgroup.is_some_and(|s| s.least == size && s.most == size);
                if whole {
                    add_fragment!(source, "matmul/stream_shared.wgsl");
                } else {
                    add_fragment!(source, "matmul/stream_own.wgsl");
                }
                add_fragment!(source, "matmul/stream.wgsl");
                "matmul_stream"
            }
            MatmulTiles::Reduce { .. } => {
                if self.tiles.sums_by_subgroup(limits) {
                    add_fragment!(source, "common/lanes_subgroup.wgsl");
                    add_fragment!(source, "matmul/sum_subgroup.wgsl");
                } else {
                    add_fragment!(source, "common/lanes_workgroup.wgsl");
                    add_fragment!(source, "matmul/sum_workgroup.wgsl");
                }
                add_fragment!(source, "matmul/reduce.wgsl");
                "matmul_reduce"
            }
        }
    }

    /// Column tiles along x, row tiles folded over y and z.
    fn grid(&self, limits: &GpuLimits) -> Result<([u32; 3], Option<Grid>), PlanError> {
        let most = limits.workgroups_per_dimension;
        let column_tiles =
            self.columns.div_ceil(self.tiles.part_columns(self.weights.len() as u32));
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

/// A function that gives a value for each part.
fn by_part(name: &str, takes: &str, kind: &str, values: &[String]) -> String {
    let mut text = format!("fn {name}(part: u32, {takes}) -> {kind} {{\n");
    for (part, value) in values.iter().enumerate() {
        match part + 1 < values.len() {
            true => text.push_str(&format!("    if (part == {part}u) {{ return {value}; }}\n")),
            false => text.push_str(&format!("    return {value};\n}}\n")),
        }
    }
    text
}
