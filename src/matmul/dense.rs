//! A part of a dense matmul: rows of x with columns of w, and what rounds before and after.

use std::ops::Range;

use super::kernel::{
    ByteRows, Matmul, Operand, Rows, Workgroups, add_column_bias, dense_rows, split_rows,
};
use super::problem::MatmulProblem;
use super::tiles::MatmulTiles;
use crate::error::PlanError;
use crate::gpu::limits::GpuLimits;
use crate::gpu::recording::{Bound, Slot, Step, fold_grid};
use crate::kernel::access::{Access, bound_range};
use crate::kernel::source::{KernelSource, Launch, add_fragment};
use crate::tensor::{Dtype, TensorDesc, WeightFormat};

/// Lanes of a workgroup that rounds sums.
const ROUND_LANES: u32 = 64;

/// What the parts of a plan share.
pub(super) struct Dense<'a> {
    pub problem: &'a MatmulProblem,
    pub limits: &'a GpuLimits,
    pub tiles: MatmulTiles,
    /// Of the inner dims.
    pub splits: u32,
}

/// What a matmul writes, or rounds its sums to.
#[derive(Clone)]
struct Written {
    bound: Bound,
    /// Where element 0 lies.
    first: u32,
    /// Elements between rows.
    stride: u32,
}

impl Dense<'_> {
    /// Bytes of `rows` rows of a tensor, and what alignment adds; 0 where there is none.
    pub fn end_bytes(&self, name: &str, rows: u32) -> u64 {
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
    pub fn sum_bytes(&self, rows: u32, columns: u32) -> u64 {
        let rows = u64::from(rows) * u64::from(self.splits);
        if self.rounds() { 4 * rows * u64::from(columns.next_multiple_of(4)) } else { 0 }
    }

    /// Rows of x as bytes.
    pub fn rounded_bytes(&self, rows: u32) -> u64 {
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

    /// The same as an operand takes it.
    fn bound(&self, name: &str, rows: &Range<u32>) -> Result<(Bound, u32), PlanError> {
        Ok(self.bind(name, rows))
    }

    /// What w is multiplied with: rows of x, or what a step rounds them to.
    fn rows(&self, x: Operand, rows: u32) -> Result<(Rows, Option<Step>), PlanError> {
        let size = self.rounded_bytes(rows);
        if size == 0 {
            return Ok((Rows::Numbers(x), None));
        }
        let bound = Bound { slot: Slot::Scratch(1), offset: 0, size };
        let bytes = ByteRows { bound, first: 0, rows, inner: self.problem.extents.inner };
        let step = bytes.quantise(&x, self.limits)?;
        Ok((Rows::Bytes(bytes), Some(step)))
    }

    /// The sums of some rows and columns, and what comes before and after.
    pub fn part(&self, rows: &Range<u32>, columns: &Range<u32>) -> Result<Vec<Step>, PlanError> {
        let extents = [rows.len() as u32, columns.len() as u32];
        let x = WeightFormat::plain(self.problem.spec.dtype);
        let x = Operand::of(x, "x", &self.problem.tensors, |name| self.bound(name, rows))?;
        let (a, rounding) = self.rows(x, extents[0])?;
        let out = self.out(rows, columns);
        let sums = self.sums(extents);
        let result = if self.rounds() { sums.clone() } else { out.clone() };
        let matmul = Matmul {
            inner: self.problem.extents.inner / self.splits,
            columns: 0..extents[1],
            tiles: self.tiles,
            a,
            weights: vec![self.weights(columns)?],
            result: result.bound,
            result_first: result.first,
            result_stride: result.stride,
            workgroups: Workgroups::Rows { rows: extents[0], splits: self.splits },
        };
        let mut steps: Vec<Step> = rounding.into_iter().collect();
        steps.push(matmul.step(self.source(extents[0], columns), self.limits)?);
        if self.rounds() {
            steps.push(self.round(sums.bound, out, extents)?);
        }
        Ok(steps)
    }

    /// A kernel with its row tiles and what becomes of sums.
    fn source(&self, rows: u32, columns: &Range<u32>) -> KernelSource {
        let mut source = match self.splits {
            1 => dense_rows(&(0..rows)),
            splits => split_rows(rows, rows.div_ceil(self.tiles.tile_rows()), splits),
        };
        self.finish(&mut source, columns);
        source
    }

    /// The weights of some columns.
    fn weights(&self, columns: &Range<u32>) -> Result<Operand, PlanError> {
        let tensors = &self.problem.tensors;
        let format = self.problem.spec.weight_format();
        let mut w = Operand::of(format, "w", tensors, |name| self.bound(name, columns))?;
        if self.splits > 1 {
            // A split's dims are where an expert's weights would be.
            let dims: u64 = tensors["w"].shape()[1..].iter().product();
            w.expert_stride = (dims / u64::from(self.splits)) as u32;
        }
        Ok(w)
    }

    /// Rows and columns of out.
    fn out(&self, rows: &Range<u32>, columns: &Range<u32>) -> Written {
        let (bound, first) = self.bind("out", rows);
        let stride = self.problem.tensors["out"].layout.strides()[0] as u32;
        Written { bound, first: first.wrapping_add(columns.start), stride }
    }

    /// Sums that wait.
    fn sums(&self, [rows, columns]: [u32; 2]) -> Written {
        let size = self.sum_bytes(rows, columns);
        let bound = Bound { slot: Slot::Scratch(0), offset: 0, size };
        Written { bound, first: 0, stride: columns.next_multiple_of(4) }
    }

    /// Nothing, or a column's bias.
    fn finish(&self, source: &mut KernelSource, columns: &Range<u32>) {
        let Some(bias) = self.problem.tensors.get("bias") else {
            add_fragment!(source, "matmul/finish_none.wgsl");
            return;
        };
        let (bound, first) = self.bind("bias", columns);
        source.bind("bias", KernelSource::element_type_of(bias.dtype), false, bound);
        source.params.u32("bias_first", first);
        source.element_reader("bias", bias.dtype);
        add_column_bias(source);
    }

    /// Sums as out's type.
    fn round(
        &self,
        sums: Bound,
        out: Written,
        [rows, columns]: [u32; 2],
    ) -> Result<Step, PlanError> {
        let desc = &self.problem.tensors["out"];
        let vectors = columns.div_ceil(4);
        let mut source = KernelSource::default();
        source.const_u32("WORKGROUP_SIZE", ROUND_LANES);
        source.params.u32("rows", rows);
        source.params.u32("vectors", vectors);
        source.params.u32("splits", self.splits);
        source.params.u32("out_first", out.first);
        source.params.u32("out_stride", out.stride);
        source.bind("sums", "vec4<f32>", false, sums);
        let access = Access::of(desc);
        let element = KernelSource::written_element(desc.dtype, access);
        source.bind("out", element, true, out.bound);
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
