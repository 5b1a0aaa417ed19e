//! The launch that finds which tiles a mask leaves empty or whole.

use crate::error::PlanError;
use crate::gpu::limits::GpuLimits;
use crate::gpu::recording::{Bound, Step, fold_grid};
use crate::kernel::source::{KernelSource, Launch, add_fragment};

/// The entry point.
pub(crate) const CLASSIFY_ENTRY: &str = "fused_classify";

/// Invocations a workgroup where elements are asked, of which there are many.
pub(crate) const CLASSIFY_SIZE: u32 = 128;

/// Where tiles alone are asked: one for each bit of a word, and words enough that finding the rows costs little beside them.
const TILES_SIZE: u32 = 32;
const TILES_WORDS: u32 = 8;

/// How the tiles of a domain are found out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Classified {
    /// Some tiles are known by their elements alone.
    pub asks_elements: bool,
    /// Lanes side by side that ask keys of one row.
    pub key_lanes: u32,
}

impl Classified {
    fn workgroup_size(self) -> u32 {
        if self.asks_elements { CLASSIFY_SIZE } else { TILES_SIZE }
    }

    /// Words of the map that a workgroup writes.
    fn words(self) -> u32 {
        if self.asks_elements { 1 } else { TILES_WORDS }
    }
}

/// A source that writes `tile_map`.
pub(crate) fn classify_source(classified: Classified, tile_map: Bound) -> KernelSource {
    let mut source = KernelSource::default();
    source.const_u32("WORKGROUP_SIZE", classified.workgroup_size());
    source.const_u32("WORDS", classified.words());
    source.const_bool("ASKS_ELEMENTS", classified.asks_elements);
    source.const_u32("KEY_LANES", classified.key_lanes);
    source.bind("tile_map", "vec2<u32>", true, tile_map);
    source
}

/// Closes a source that has its domain and mask: workgroups for each tile of rows, which has so many words.
pub(crate) fn classify_step(
    mut source: KernelSource,
    classified: Classified,
    [row_tiles, words]: [u64; 2],
    checked: bool,
    limits: &GpuLimits,
) -> Result<Step, PlanError> {
    add_fragment!(source, "fused/classify.wgsl");
    let workgroups = row_tiles.saturating_mul(words.div_ceil(classified.words().into()));
    Ok(source.step(Launch {
        entry: CLASSIFY_ENTRY,
        workgroup_size: classified.workgroup_size(),
        workgroup_bytes: 8 * classified.words(),
        checked,
        grid: fold_grid("classification", workgroups, limits)?,
    }))
}
