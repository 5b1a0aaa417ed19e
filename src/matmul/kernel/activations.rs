//! Rows that are rounded to blocks of bytes before they are multiplied with weights in blocks.

use super::operand::Operand;
use crate::error::PlanError;
use crate::gpu::limits::GpuLimits;
use crate::gpu::recording::{Bound, Step, fold_grid};
use crate::kernel::reads::Reads;
use crate::kernel::source::{KernelSource, Launch, add_fragment};
use crate::kernel::template::template;
use crate::tensor::BLOCK;

/// Lanes of a workgroup, which have four numbers each.
const WORKGROUP_SIZE: u32 = 64;

/// Rows `[rows, inner]` as MXINT8, without gaps: the bytes of all rows, then an f32 scale for each block.
pub(crate) struct ByteRows {
    pub bound: Bound,
    /// The number that the first of them has.
    pub first: u32,
    pub rows: u32,
    pub inner: u32,
}

impl ByteRows {
    /// Bytes that so many rows take, in whole vectors.
    pub fn size(rows: u64, inner: u32) -> u64 {
        let blocks = rows * u64::from(inner) / BLOCK as u64;
        (blocks * (BLOCK as u64 + 4)).next_multiple_of(16)
    }

    /// The launch that rounds as many rows of `from`.
    pub fn quantise(&self, from: &Operand, limits: &GpuLimits) -> Result<Step, PlanError> {
        let mut source = KernelSource::default();
        source.const_u32("WORKGROUP_SIZE", WORKGROUP_SIZE);
        source.const_bool("INNER_WHOLE", true);
        source.params.u32("inner", self.inner);
        source.params.u32("row_first", self.first);
        source.params.u32("rows", self.rows);
        from.bind(&mut source, "x", Reads::Vectors);
        source.bind("bytes", "u32", true, self.bound.clone());
        add_fragment!(source, "matmul/quantise.wgsl");
        let words = u64::from(self.rows) * u64::from(self.inner / 4);
        Ok(source.step(Launch {
            entry: "quantise_mxint8",
            workgroup_size: WORKGROUP_SIZE,
            workgroup_bytes: 4 * WORKGROUP_SIZE,
            checked: false,
            grid: fold_grid("rounding of rows", words.div_ceil(WORKGROUP_SIZE.into()), limits)?,
        }))
    }

    /// Binds them as `a` with their reader: `a_load4(offset, d)` or, in blocks, `a_block(offset, d)`. Offsets are in
    /// numbers.
    pub fn bind(&self, source: &mut KernelSource, reads: Reads) {
        source.params.u32("a_first", self.first.wrapping_mul(self.inner).wrapping_neg());
        source.params.u32("a_stride", self.inner);
        source.params.u32("a_scales", self.rows * (self.inner / 4));
        let (element, text) = match reads {
            Reads::Blocks => ("vec4<u32>", template!("matmul/bytes_block.wgsl")),
            _ => ("u32", template!("matmul/bytes_vectors.wgsl")),
        };
        source.bind("a", element, false, self.bound.clone());
        source.accessor(&text);
    }
}
