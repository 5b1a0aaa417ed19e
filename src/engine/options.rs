//! How an engine is opened.

use crate::cache::CachePlace;
use crate::gpu::device::AdapterChoice;
use crate::tune::TunePolicy;

/// How to open an engine.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EngineOptions {
    /// Which adapter.
    pub adapter: AdapterChoice,
    /// Every kernel keeps naga's bounds checks and loop bounds (several times slower; for hunting bugs).
    pub checked: bool,
    /// WebGPU's default limits and no features, whatever the device has.
    pub floor: bool,
    /// Whether kernels may use cooperative matrices, which are experimental in wgpu.
    pub matrices: Matrices,
    /// Whether measured tiles are used.
    pub tuning: TunePolicy,
    /// Where measured tiles and compiled pipelines are kept between runs.
    pub cache: CachePlace,
}

/// Whether kernels may use a device's cooperative matrices.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Matrices {
    /// Where the device has some and multiplies two rightly when it is opened.
    #[default]
    Checked,
    /// Where the device has some: for devices that compile kernels and run none.
    Assumed,
    /// Never.
    Off,
}
