//! The scratch memory that all calls on a device share.

use super::context::Gpu;
use super::lock::lock;
use super::recording::Scratch;
use crate::error::GpuError;

/// Scratch memory that an engine keeps between calls.
pub const KEPT_SCRATCH_BYTES: u64 = 256 << 20;

impl Gpu {
    /// Scratch buffers of at least these sizes, shared by all calls: one queue runs them one after the other. The pool
    /// keeps the largest of each index as long as all of them stay within [`KEPT_SCRATCH_BYTES`]; what goes beyond is
    /// the call's own, and lives until the device has run it. Says also whether all of them are the pool's.
    pub fn scratch(&self, wanted: &[Scratch]) -> Result<(Vec<wgpu::Buffer>, bool), GpuError> {
        let mut pool = lock(&self.scratch);
        let mut kept: u64 = pool.iter().map(wgpu::Buffer::size).sum();
        let mut buffers = Vec::with_capacity(wanted.len());
        let mut all_pooled = true;
        for (index, &Scratch { name, bytes }) in wanted.iter().enumerate() {
            let pooled = pool.get(index);
            if let Some(enough) = pooled.filter(|buffer| buffer.size() >= bytes) {
                buffers.push(enough.clone());
                continue;
            }
            let replaced = pooled.map_or(0, wgpu::Buffer::size);
            let usage = wgpu::BufferUsages::STORAGE | wgpu::BufferUsages::INDIRECT;
            let buffer = self.buffer_at_once(name, bytes, usage)?;
            if kept - replaced + buffer.size() <= KEPT_SCRATCH_BYTES && index <= pool.len() {
                kept = kept - replaced + buffer.size();
                match pool.get_mut(index) {
                    Some(place) => {
                        *place = buffer.clone();
                        lock(&self.bound).clear(); // what is bound holds the one that was there
                    }
                    None => pool.push(buffer.clone()),
                }
            } else {
                all_pooled = false;
            }
            buffers.push(buffer);
        }
        Ok((buffers, all_pooled))
    }

    /// Bytes in the pool of scratch buffers.
    pub fn scratch_bytes(&self) -> u64 {
        lock(&self.scratch).iter().map(wgpu::Buffer::size).sum()
    }

    /// Empties the pool of scratch buffers, and lets go of what is bound.
    pub fn free_scratch(&self) {
        lock(&self.scratch).clear();
        lock(&self.bound).clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gpu::device::{AdapterChoice, open};

    #[test]
    fn scratch_beyond_the_bound_is_not_kept() {
        let opened = pollster::block_on(open(&AdapterChoice::default(), false, false));
        let (device, queue, _) = opened.expect("tests need an adapter");
        let gpu = Gpu::new(device, queue, false, None);
        let wanted = |bytes: [u64; 3]| bytes.map(|bytes| Scratch { name: "scratch", bytes });
        let half = KEPT_SCRATCH_BYTES / 2;
        let (given, all_pooled) = gpu.scratch(&wanted([half, half + 16, 32])).unwrap();
        assert!(!all_pooled);
        let sizes: Vec<u64> = given.iter().map(wgpu::Buffer::size).collect();
        assert_eq!(sizes, [half, half + 16, 32]);
        assert_eq!(gpu.scratch_bytes(), half, "the second is the call's own, as is what follows");
        let made = gpu.buffers_made();
        let (again, all_pooled) = gpu.scratch(&wanted([16, 16, 32])).unwrap();
        assert!(all_pooled && again[0] == given[0]);
        assert_eq!((gpu.scratch_bytes(), gpu.buffers_made()), (half + 48, made + 2));
        gpu.scratch(&wanted([half, 16, 16])).unwrap();
        assert_eq!(gpu.buffers_made(), made + 2);
    }
}
