//! Compiled pipelines between runs, where there is no place for them: there are none.

use std::path::Path;

use crate::cache::CachePlace;

/// A device's pipeline cache, which cannot be.
#[derive(Debug)]
pub(crate) enum KeptPipelines {}

impl KeptPipelines {
    /// None.
    pub fn open(_: &wgpu::Device, _: &CachePlace) -> Option<Self> {
        None
    }

    pub fn cache(&self) -> &wgpu::PipelineCache {
        match *self {}
    }

    pub fn save(&self) -> std::io::Result<()> {
        match *self {}
    }

    pub fn path(&self) -> &Path {
        match *self {}
    }
}
