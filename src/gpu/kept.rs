//! Compiled pipelines between runs: wgpu's pipeline cache in a file, where the backend has one (Vulkan).

use std::path::{Path, PathBuf};
use std::sync::Mutex;

use xxhash_rust::xxh3::xxh3_64;

use super::lock::lock;
use super::scopes::Scopes;
use crate::cache::{CachePlace, VERSION, write_atomically};

/// A device's pipeline cache and its file.
#[derive(Debug)]
pub(crate) struct KeptPipelines {
    cache: wgpu::PipelineCache,
    path: PathBuf,
    /// Hash of what the file holds.
    written: Mutex<u64>,
}

/// How a file begins: these bytes, then the hash of all that follows.
const MAGIC: &[u8; 8] = b"tilewise";
const HEADER: usize = 16;

impl KeptPipelines {
    /// The pipelines that a place holds for a device, empty where it holds none; `None` where the place has no folder, or
    /// the device cannot.
    pub fn open(device: &wgpu::Device, place: &CachePlace) -> Option<Self> {
        let folder = place.folder()?;
        if !device.features().contains(wgpu::Features::PIPELINE_CACHE) {
            return None;
        }
        let key = wgpu::util::pipeline_cache_key(&device.adapter_info())?;
        let path = folder.join(format!("{key}-{VERSION}.bin"));
        let data = read(&path);
        let written = Mutex::new(data.as_deref().map_or(0, xxh3_64));
        let scopes = Scopes::open(device);
        let cache = create(device, data.as_deref());
        if let Some(error) = pollster::block_on(scopes.close()) {
            log::warn!("pipelines are not kept in {}: {error}", path.display());
            return None;
        }
        Some(Self { cache, path, written })
    }

    /// What compiling is handed.
    pub fn cache(&self) -> &wgpu::PipelineCache {
        &self.cache
    }

    /// Writes the file where there is something new.
    pub fn save(&self) -> std::io::Result<()> {
        let Some(data) = self.cache.get_data() else { return Ok(()) };
        let hash = xxh3_64(&data);
        let mut written = lock(&self.written);
        if *written == hash {
            return Ok(());
        }
        let bytes = [&MAGIC[..], &hash.to_le_bytes(), &data].concat();
        write_atomically(&self.path, &bytes)?;
        *written = hash;
        Ok(())
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

/// What a file holds, if it is whole and ours.
fn read(path: &Path) -> Option<Vec<u8>> {
    let mut bytes = match std::fs::read(path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return None,
        Err(error) => {
            log::warn!("{} is ignored: {error}", path.display());
            return None;
        }
    };
    let whole = bytes.len() > HEADER && bytes[..8] == MAGIC[..];
    if !whole || bytes[8..HEADER] != xxh3_64(&bytes[HEADER..]).to_le_bytes() {
        log::warn!("{} is ignored: it is damaged", path.display());
        return None;
    }
    Some(bytes.split_off(HEADER))
}

#[allow(unsafe_code, reason = "wgpu asks for a promise about the data, see SAFETY")]
fn create(device: &wgpu::Device, data: Option<&[u8]>) -> wgpu::PipelineCache {
    let descriptor =
        wgpu::PipelineCacheDescriptor { label: Some("tilewise"), data, fallback: true };
    // SAFETY: the data must be what `get_data` gave, on such an adapter.
    // 1. `save` writes nothing else, and replaces the file whole. `read` gives back only what has the hash that was written
    //    with it, so that damage does not get here.
    // 2. wgpu's own header at the begin of the data refuses that of other adapters, drivers and versions of wgpu.
    // 3. Nobody proves that a file with the right hash is not forged. Who can write into the user's cache folder is
    //    trusted with it.
    unsafe { device.create_pipeline_cache(&descriptor) }
}
