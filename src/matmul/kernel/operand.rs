//! What a matmul multiplies: matrices as they lie in memory.

use crate::gpu::recording::Bound;
use crate::kernel::access::Access;
use crate::kernel::blocks::BLOCK_VECTORS;
use crate::kernel::readers::Reader;
use crate::kernel::reads::{Reads, Storage};
use crate::kernel::source::KernelSource;
use crate::matmul::weights::scales_name;
use crate::tensor::{BLOCK, TensorDescs, WeightFormat};

/// A matrix, or one an expert, with unit stride along the inner dims. Strides and offsets are in elements, in bytes
/// where it is in blocks.
pub(crate) struct Operand {
    pub bound: Bound,
    /// Where element 0 lies.
    pub first: u32,
    pub format: WeightFormat,
    /// Halves hold its numbers: it is f16, or what plain implementations store as f16.
    pub halves: bool,
    pub access: Access,
    pub row_stride: u32,
    /// From one expert's matrix to the next.
    pub expert_stride: u32,
    /// The scales of mxfp4 where they are a tensor of their own, and where the first lies.
    pub scales: Option<(Bound, u32)>,
}

impl Operand {
    /// Weights `[columns, inner]` or `[experts, columns, inner]`; `bind` finds a tensor's range and where its element 0
    /// lies.
    pub fn of<E>(
        format: WeightFormat,
        name: &str,
        tensors: &TensorDescs,
        bind: impl Fn(&str) -> Result<(Bound, u32), E>,
    ) -> Result<Self, E> {
        let desc = &tensors[name];
        let (bound, first) = bind(name)?;
        let scales_name = scales_name(name);
        let paired = format.blocks().is_some() && tensors.contains_key(&scales_name);
        let scales = if paired { Some(bind(&scales_name)?) } else { None };
        let inner_axes = if paired { 2 } else { 1 };
        let outer = &desc.layout.strides()[..desc.layout.strides().len() - inner_axes];
        let (row_stride, expert_stride) = match *outer {
            [.., experts, rows] => (rows as u32, experts as u32),
            [rows] => (rows as u32, 0),
            [] => (0, 0),
        };
        let access = if format.blocks().is_some() { Access::Vec4 } else { Access::of(desc) };
        let halves = format == WeightFormat::F16;
        Ok(Self { bound, first, format, halves, access, row_stride, expert_stride, scales })
    }

    /// Vectors that are best read at once: 16 bytes, a block, two that start at whole words together, or as much as
    /// alignment allows.
    pub fn unit_vectors(&self, inner: u32) -> u32 {
        let starts_at = |n: u32| {
            [self.first, self.row_stride, self.expert_stride].iter().all(|at| at.is_multiple_of(n))
        };
        match self.format {
            WeightFormat::Q4_0 if inner.is_multiple_of(64) && starts_at(4) => 2 * BLOCK_VECTORS,
            WeightFormat::Q8_0 | WeightFormat::Q4_0 | WeightFormat::Mxfp4 => BLOCK_VECTORS,
            WeightFormat::F16 | WeightFormat::Bf16 if inner.is_multiple_of(8) && starts_at(8) => 2,
            _ => 1,
        }
    }

    /// Vectors that lanes of a workgroup tile read at once, of `share` that each has of a chunk: as many as lie in a
    /// block's neighbouring words.
    pub fn run_vectors(&self, share: u32, chunk: u32, inner: u32) -> u32 {
        let whole = chunk.is_multiple_of(BLOCK as u32) && inner.is_multiple_of(chunk);
        let in_blocks = self.format.blocks().is_some() && whole;
        if in_blocks && share >= 2 { 1 << share.min(BLOCK_VECTORS).ilog2() } else { 1 }
    }

    /// Whether the numbers in a word of a block lie 16 apart, in two lots of four.
    pub fn spreads(&self) -> bool {
        match self.format {
            WeightFormat::Q4_0 => true,
            WeightFormat::Mxfp4 => self.scales.is_none(),
            _ => false,
        }
    }

    /// How its rows are stored.
    fn storage(&self) -> Storage {
        match (self.format.blocks(), &self.scales) {
            (None, _) => Storage::Numbers { dtype: self.format.dtype(), access: self.access },
            (Some(_), Some(_)) => Storage::BlocksBesideScales,
            (Some(format), None) => {
                Storage::Blocks { format, wide: self.bound.size.is_multiple_of(16) }
            }
        }
    }

    /// Binds it as `name`, with its reader.
    pub fn bind(&self, source: &mut KernelSource, name: &str, reads: Reads) {
        let scales = self.scales.as_ref().filter(|_| self.format.blocks().is_some());
        let bounds = [&self.bound].into_iter().chain(scales.map(|(bound, _)| bound));
        Reader { name, storage: self.storage(), reads }.bind(source, bounds.cloned());
        source.params.u32(format!("{name}_first"), self.first);
        source.params.u32(format!("{name}_stride"), self.row_stride);
        if let Some((_, first)) = scales {
            source.params.u32(format!("{name}_scales_first"), *first);
        }
    }
}
