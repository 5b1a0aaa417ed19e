//! What apps without kernels of their own need of a device: to wait, to write tensors, to read buffers.

use std::ops::RangeBounds;

use super::Engine;
use crate::error::{Error, GpuError, SpecError};
use crate::gpu::signal::Waiting;
use crate::tensor::HostTensor;

impl Engine {
    /// Waits until the device has done all that was submitted. Blocks.
    ///
    /// # Errors
    /// [`GpuError::Lost`]; what else went wrong since the last look, on a device that is the engine's own.
    #[cfg(not(target_arch = "wasm32"))]
    pub fn wait(&self) -> Result<(), GpuError> {
        self.gpu.wait()
    }

    /// Until the device has done all that was submitted. Nothing spins meanwhile: the browser wakes the task, or a thread that
    /// waits for the device.
    ///
    /// # Errors
    /// As [`Engine::wait`]; in a browser also what calls raised since the last look that could not wait.
    pub async fn wait_async(&self) -> Result<(), GpuError> {
        self.gpu.finished(Waiting::Yield).await
    }

    /// [`Engine::upload_async`] that blocks.
    ///
    /// # Errors
    /// As [`Engine::upload_async`].
    #[cfg(not(target_arch = "wasm32"))]
    pub fn upload(&self, name: &str, tensor: &HostTensor) -> Result<wgpu::Buffer, Error> {
        pollster::block_on(self.upload_async(name, tensor))
    }

    /// Copies a tensor to a new storage buffer, which can be read back.
    ///
    /// # Errors
    /// [`SpecError`] for a tensor with fewer bytes than its shape takes; [`GpuError::OutOfMemory`],
    /// [`GpuError::Lost`].
    pub async fn upload_async(
        &self,
        name: &str,
        tensor: &HostTensor,
    ) -> Result<wgpu::Buffer, Error> {
        let (needed, bytes) = (tensor.desc().bytes(), tensor.bytes.len() as u64);
        if bytes < needed {
            let expected = format!("{needed} (shape {:?} of {})", tensor.shape, tensor.dtype);
            return Err(SpecError::value(format!("{name}'s bytes"), expected, bytes).into());
        }
        let usage = wgpu::BufferUsages::STORAGE
            | wgpu::BufferUsages::COPY_DST
            | wgpu::BufferUsages::COPY_SRC;
        let buffer = self.gpu.buffer(name, bytes, usage).await?;
        self.gpu.write(name, &buffer, &tensor.bytes)?;
        Ok(buffer)
    }

    /// Reads a range of a buffer back, in bytes: `..`, `..size`, `start..end`. Neither end need be a multiple of
    /// anything. Blocks.
    ///
    /// # Errors
    /// [`SpecError`] for a buffer without `COPY_SRC`, or a range beyond its whole words; [`GpuError::OutOfMemory`],
    /// [`GpuError::Lost`], [`GpuError::Map`], and [`GpuError::Validation`] for a buffer that is destroyed or another
    /// device's.
    #[cfg(not(target_arch = "wasm32"))]
    pub fn download(
        &self,
        buffer: &wgpu::Buffer,
        range: impl RangeBounds<u64>,
    ) -> Result<Vec<u8>, Error> {
        pollster::block_on(self.gpu.download(buffer, range, Waiting::Block))
    }

    /// Reads a range of a buffer back without blocking: outside of a browser a thread waits for the device meanwhile.
    ///
    /// # Errors
    /// As [`Engine::download`]; in a browser also what calls raised since the last look that could not wait.
    pub async fn download_async(
        &self,
        buffer: &wgpu::Buffer,
        range: impl RangeBounds<u64>,
    ) -> Result<Vec<u8>, Error> {
        self.gpu.download(buffer, range, Waiting::Yield).await
    }
}
