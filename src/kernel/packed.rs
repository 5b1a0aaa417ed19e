//! Small tensors in one buffer, a word an element: where a kernel would bind more of them than the device takes.

use crate::error::PlanError;
use crate::gpu::limits::GpuLimits;
use crate::gpu::recording::{Bound, Step, fold_grid};
use crate::kernel::source::{KernelSource, Launch, add_fragment};
use crate::tensor::Dtype;

/// Lanes of a workgroup that packs.
const PACK_SIZE: u32 = 128;

/// What shares a buffer, in this order, and how many words each has.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Packed(Vec<(String, u64)>);

impl Packed {
    pub const fn new(words: Vec<(String, u64)>) -> Self {
        Self(words)
    }

    /// How many of so many tensors share a buffer, so that all take at most `room` bindings: as few as that needs.
    pub fn count(tensors: usize, room: usize) -> usize {
        if tensors > room { tensors + 1 - room.max(1) } else { 0 }
    }

    /// Each with its words.
    pub fn iter(&self) -> impl Iterator<Item = (&str, u64)> {
        self.0.iter().map(|(name, words)| (name.as_str(), *words))
    }

    pub const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Words in all.
    pub fn words(&self) -> u64 {
        self.iter().map(|(_, words)| words).sum()
    }

    /// Where one begins, if it is among them.
    pub fn first(&self, name: &str) -> Option<u32> {
        let index = self.iter().position(|(packed, _)| packed == name)?;
        Some(self.iter().take(index).map(|(_, words)| words).sum::<u64>() as u32)
    }

    /// Copies one of them into the buffer. `bind` makes it readable, and gives the name that it has in the kernel.
    pub fn step(
        &self,
        (name, words): (&str, u64),
        buffer: Bound,
        limits: &GpuLimits,
        bind: impl FnOnce(&mut KernelSource) -> Result<(String, Dtype), PlanError>,
    ) -> Result<Step, PlanError> {
        let mut source = KernelSource::default();
        source.const_u32("WORKGROUP_SIZE", PACK_SIZE);
        source.params.u32("count", words as u32);
        source.params.u32("inputs_first", self.first(name).unwrap_or(0));
        source.bind("inputs", "u32", true, buffer);
        let (id, dtype) = bind(&mut source)?;
        let bits = match dtype {
            Dtype::Bool => format!("u32({id}_get(i))"),
            _ => format!("bitcast<u32>({id}_get(i))"),
        };
        source.accessor(&format!("fn input_bits(i: u32) -> u32 {{ return {bits}; }}\n"));
        add_fragment!(source, "common/pack.wgsl");
        let grid = fold_grid("packing", words.div_ceil(u64::from(PACK_SIZE)), limits)?;
        Ok(source.step(Launch {
            entry: "common_pack",
            workgroup_size: PACK_SIZE,
            workgroup_bytes: 0,
            checked: false,
            grid,
        }))
    }
}
