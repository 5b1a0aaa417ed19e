//! From a dense matmul, limits and tiles to dispatches. Pure: needs no device.

use std::collections::BTreeMap;
use std::ops::Range;

use super::activations::ByteRows;
use super::kernel::{Matmul, Rows, Workgroups, add_column_bias, dense_rows, split_rows};
use super::operand::Operand;
use super::problem::{MatmulExtents, MatmulProblem};
use super::tiles::MatmulTiles;
use super::weights;
use crate::error::PlanError;
use crate::fused::slices::workgroups_a_dispatch;
use crate::fused::source::{Access, KernelSource, Launch, add_fragment, bound_range};
use crate::gpu::limits::GpuLimits;
use crate::gpu::recording::{Bound, Plan, Scratch, Slot, Step, check_step_count, fold_grid};
use crate::operator::{self, Operator};
use crate::tensor::{BLOCK, Dtype, HostTensor, TensorDesc, WeightFormat};

/// Lanes of a workgroup that rounds sums.
const ROUND_LANES: u32 = 64;

/// Where workgroups do not fill a GPU the inner dims are split, up to as many times and into parts no shorter than these.
const MOST_SPLITS: u32 = 8;
const LEAST_PART: u32 = 512;

impl crate::operator::sealed::Sealed for MatmulProblem {}

impl Operator for MatmulProblem {
    type Tiles = MatmulTiles;

    fn candidates(&self, limits: &GpuLimits) -> Result<Vec<MatmulTiles>, PlanError> {
        MatmulTiles::some_candidates(u64::from(self.extents.rows), self.operands(), limits)
    }

    fn plan(&self, limits: &GpuLimits, tiles: &MatmulTiles) -> Result<Plan, PlanError> {
        tiles.check(self.operands(), limits)?;
        let dense =
            Dense { problem: self, limits, tiles: *tiles, splits: splits(self, limits, tiles) };
        let MatmulExtents { rows, columns, .. } = self.extents;
        let column_step = dense.column_step()?;
        let row_step = dense.row_step(column_step)?;
        let parts = [(columns, column_step), (rows, row_step)];
        let [column_parts, row_parts] =
            parts.map(|(extent, step)| u64::from(extent.div_ceil(step)));
        check_step_count("parts of a matmul", column_parts * row_parts)?;
        let mut steps = Vec::new();
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
        Plan::fitting(steps, scratch.into(), limits)
    }

    fn tensors(&self) -> Vec<(&str, TensorDesc)> {
        self.tensors.iter().map(|(name, desc)| (name.as_str(), desc.clone())).collect()
    }

    fn outputs(&self) -> Vec<&'static str> {
        vec!["out"]
    }

    /// Weights shrink with what is summed, so that results are about as large as x.
    fn sample(&self, seed: u64) -> BTreeMap<String, HostTensor> {
        let scale = 1.0 / f64::from(self.extents.inner.max(1)).sqrt();
        let fill = |(name, desc): (&String, &TensorDesc)| {
            let host = match name.as_str() {
                "x" | "bias" => operator::noise(name, desc, seed, 1.0),
                _ => weights::noise(self.spec.weight_format(), name, desc, seed, scale),
            };
            (name.clone(), host)
        };
        self.tensors.iter().filter(|(name, _)| *name != "out").map(fill).collect()
    }
}

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

/// What the parts of a plan share.
struct Dense<'a> {
    problem: &'a MatmulProblem,
    limits: &'a GpuLimits,
    tiles: MatmulTiles,
    /// Of the inner dims.
    splits: u32,
}

impl Dense<'_> {
    /// Columns whose weights fit a binding: all, or whole tiles.
    fn column_step(&self) -> Result<u32, PlanError> {
        let columns = self.problem.extents.columns;
        // Whole tiles that end where vectors of out do.
        let tile = self.tiles.part_columns(1);
        let tile = if tile.is_multiple_of(4) { tile } else { 4 * tile };
        let bytes = |step: u32| {
            let ends = ["w", "w_scales"].map(|name| self.end_bytes(name, step));
            ends.into_iter().max().unwrap_or(0)
        };
        let most = tile.saturating_mul(self.limits.workgroups_per_dimension);
        self.step("w", columns.min(most), tile, bytes)
    }

    /// Rows whose tensors fit a binding and whose work stays clear of a watchdog: all, or whole tiles.
    fn row_step(&self, columns: u32) -> Result<u32, PlanError> {
        let MatmulExtents { rows, inner, .. } = self.problem.extents;
        let tile = self.tiles.tile_rows();
        let bytes = |step: u32| {
            let ends = ["x", "out"].map(|name| self.end_bytes(name, step));
            let ends = ends.into_iter().max().unwrap_or(0);
            ends.max(self.sum_bytes(step, columns)).max(self.rounded_bytes(step))
        };
        let flops = || 2.0 * f64::from(tile) * f64::from(columns) * f64::from(inner);
        let tiles = workgroups_a_dispatch(flops, self.limits).min(u64::from(u32::MAX / tile));
        self.step("x or out", rows.min(tiles as u32 * tile), tile, bytes)
    }

    /// As much as fits, halved until it does.
    fn step(
        &self,
        what: &str,
        most: u32,
        tile: u32,
        bytes: impl Fn(u32) -> u64,
    ) -> Result<u32, PlanError> {
        let mut step = most.max(1);
        let available = self.limits.storage_binding_bytes;
        while bytes(step) > available {
            if step <= tile {
                return Err(PlanError::Limit {
                    what: format!("a tile of {what}"),
                    limit: "bytes of one binding (max_storage_buffer_binding_size)",
                    needed: bytes(step),
                    available,
                });
            }
            step = (step / 2).next_multiple_of(tile).min(step - 1);
        }
        Ok(step)
    }

    /// Bytes of `rows` rows of a tensor, and what alignment adds; 0 where there is none.
    fn end_bytes(&self, name: &str, rows: u32) -> u64 {
        self.problem.tensors.get(name).map_or(0, |desc| {
            let range = row_range(desc, &(0..rows));
            (range.end - range.start) * desc.dtype.bytes()
                + 2 * u64::from(self.limits.storage_alignment)
        })
    }

    /// Whether sums wait to be added up or rounded.
    fn rounds(&self) -> bool {
        self.splits > 1 || self.problem.out_dtype() != Dtype::F32
    }

    /// f32 sums that wait.
    fn sum_bytes(&self, rows: u32, columns: u32) -> u64 {
        let rows = u64::from(rows) * u64::from(self.splits);
        if self.rounds() { 4 * rows * u64::from(columns.next_multiple_of(4)) } else { 0 }
    }

    /// Rows of x as bytes.
    fn rounded_bytes(&self, rows: u32) -> u64 {
        match self.problem.spec.quantise_activations {
            Some(_) => ByteRows::size(rows.into(), self.problem.extents.inner),
            None => 0,
        }
    }

    /// Rows of a tensor, and where element 0 of the first lies.
    fn bind(&self, name: &str, rows: &Range<u32>) -> (Bound, u32) {
        let desc = &self.problem.tensors[name];
        let range = row_range(desc, rows);
        let alignment = self.limits.storage_alignment;
        let (bound, origin) = bound_range(name, desc.dtype, range.start, range.end, alignment);
        (bound, origin.wrapping_add(range.start as u32))
    }

    /// What w is multiplied with: rows of x, or what a step rounds them to.
    fn rows(&self, x: Operand, rows: u32) -> Result<(Rows, Option<Step>), PlanError> {
        let size = self.rounded_bytes(rows);
        if size == 0 {
            return Ok((Rows::Numbers(x), None));
        }
        let bound = Bound { slot: Slot::Scratch(1), offset: 0, size };
        let bytes = ByteRows { bound, rows, inner: self.problem.extents.inner };
        let step = bytes.quantise(&x, self.limits)?;
        Ok((Rows::Bytes(bytes), Some(step)))
    }

    /// The sums of some rows and columns, and what comes before and after.
    fn part(&self, rows: &Range<u32>, columns: &Range<u32>) -> Result<Vec<Step>, PlanError> {
        let problem = self.problem;
        let (splits, row_count) = (self.splits, rows.len() as u32);
        let mut source = match splits {
            1 => dense_rows(&(0..row_count)),
            _ => split_rows(row_count, row_count.div_ceil(self.tiles.tile_rows()), splits),
        };
        self.finish(&mut source, columns);
        let bind = |name: &str| {
            Ok::<_, PlanError>(self.bind(name, if name == "x" { rows } else { columns }))
        };
        let x_format = WeightFormat::plain(problem.spec.dtype);
        let x = weights::operand(x_format, "x", &problem.tensors, bind)?;
        let (a, rounding) = self.rows(x, row_count)?;
        let format = problem.spec.weight_format();
        let mut w = weights::operand(format, "w", &problem.tensors, bind)?;
        if splits > 1 {
            // A split's dims are where an expert's weights would be.
            let dims: u64 = problem.tensors["w"].shape()[1..].iter().product();
            w.expert_stride = (dims / u64::from(splits)) as u32;
        }
        let sums = self.sum_bytes(row_count, columns.len() as u32);
        let out_stride = problem.tensors["out"].layout.strides()[0] as u32;
        let (out, out_first) = self.bind("out", rows);
        let out_first = out_first.wrapping_add(columns.start);
        let padded = (columns.len() as u32).next_multiple_of(4);
        let sums = Bound { slot: Slot::Scratch(0), offset: 0, size: sums };
        let (result, result_first, result_stride) = match self.rounds() {
            true => (sums.clone(), 0, padded),
            false => (out.clone(), out_first, out_stride),
        };
        let matmul = Matmul {
            inner: problem.extents.inner / splits,
            columns: columns.len() as u32,
            tiles: self.tiles,
            a,
            weights: vec![w],
            result,
            result_first,
            result_stride,
            workgroups: Workgroups::Rows { rows: row_count, splits },
        };
        let mut steps: Vec<Step> = rounding.into_iter().collect();
        steps.push(matmul.step(source, self.limits)?);
        if self.rounds() {
            let extents = [row_count, columns.len() as u32];
            steps.push(self.round(sums, out, [out_first, out_stride], extents)?);
        }
        Ok(steps)
    }

    /// Nothing, or a column's bias.
    fn finish(&self, source: &mut KernelSource, columns: &Range<u32>) {
        let Some(bias) = self.problem.tensors.get("bias") else {
            add_fragment!(source, "matmul/finish_none.wgsl");
            return;
        };
        let (bound, first) = self.bind("bias", columns);
        source.bind("bias", KernelSource::side_element(bias.dtype), false, bound);
        source.params.u32("bias_first", first);
        source.side_reader("bias", bias.dtype);
        add_column_bias(source);
    }

    /// Sums as out's type.
    fn round(
        &self,
        sums: Bound,
        out: Bound,
        [out_first, out_stride]: [u32; 2],
        [rows, columns]: [u32; 2],
    ) -> Result<Step, PlanError> {
        let desc = &self.problem.tensors["out"];
        let vectors = columns.div_ceil(4);
        let mut source = KernelSource::default();
        source.const_u32("WORKGROUP_SIZE", ROUND_LANES);
        source.params.u32("rows", rows);
        source.params.u32("vectors", vectors);
        source.params.u32("splits", self.splits);
        source.params.u32("out_first", out_first);
        source.params.u32("out_stride", out_stride);
        source.bind("sums", "vec4<f32>", false, sums);
        let access = Access::of(desc);
        let element = KernelSource::written_element(desc.dtype, access);
        source.bind("out", element, true, out);
        source.row_writer("out", desc.dtype, access, columns);
        add_fragment!(source, "matmul/round.wgsl");
        let lanes = u64::from(rows) * u64::from(vectors);
        Ok(source.step(Launch {
            entry: "matmul_round",
            workgroup_size: ROUND_LANES,
            workgroup_bytes: 0,
            checked: false,
            grid: fold_grid("rounding", lanes.div_ceil(u64::from(ROUND_LANES)), self.limits)?,
        }))
    }
}

/// First element and end of some rows of a tensor.
fn row_range(desc: &TensorDesc, rows: &Range<u32>) -> Range<u64> {
    desc.layout.range_of(rows.clone())
}

#[cfg(test)]
mod tests;
