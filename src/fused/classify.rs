//! The launch that finds which tiles a mask leaves empty or whole.

use crate::error::PlanError;
use crate::gpu::limits::GpuLimits;
use crate::gpu::recording::{Bound, Step, fold_grid};
use crate::kernel::source::{KernelSource, Launch, add_fragment};

/// Invocations a workgroup.
pub(crate) const CLASSIFY_SIZE: u32 = 128;

/// How the tiles of a domain are found out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Classified {
    /// Some tiles are known by their elements alone.
    pub asks_elements: bool,
    /// Lanes side by side that ask keys of one row.
    pub key_lanes: u32,
}

/// A source that writes `tile_map`.
pub(crate) fn classify_source(classified: Classified, tile_map: Bound) -> KernelSource {
    let mut source = KernelSource::default();
    source.const_u32("WORKGROUP_SIZE", CLASSIFY_SIZE);
    source.const_bool("ASKS_ELEMENTS", classified.asks_elements);
    source.const_u32("KEY_LANES", classified.key_lanes);
    source.bind("tile_map", "vec2<u32>", true, tile_map);
    source
}

/// Closes a source that has its domain and mask: a workgroup for each of the map's words.
pub(crate) fn classify_step(
    mut source: KernelSource,
    words: u64,
    checked: bool,
    limits: &GpuLimits,
) -> Result<Step, PlanError> {
    add_fragment!(source, "fused/classify.wgsl");
    Ok(source.step(Launch {
        entry: "fused_classify",
        workgroup_size: CLASSIFY_SIZE,
        workgroup_bytes: 8,
        checked,
        grid: fold_grid("classification", words, limits)?,
    }))
}
