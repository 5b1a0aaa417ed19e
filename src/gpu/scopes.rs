//! Calls to wgpu whose errors are ours.
//!
//! A device may be an app's, whose handlers stay its own. So calls of ours stand in error scopes, which wgpu keeps by
//! thread: neither the app's handlers nor its scopes hear of our errors, and ours take none of the app's.

use crate::error::GpuError;

/// Runs calls to wgpu in error scopes, on this thread from begin to end; the first error that they raise.
#[cfg(not(target_arch = "wasm32"))]
pub(super) fn scoped<T>(
    device: &wgpu::Device,
    calls: impl FnOnce() -> T,
) -> (T, Option<wgpu::Error>) {
    let validation = device.push_error_scope(wgpu::ErrorFilter::Validation);
    let internal = device.push_error_scope(wgpu::ErrorFilter::Internal);
    let memory = device.push_error_scope(wgpu::ErrorFilter::OutOfMemory);
    let made = calls();
    // In reverse. What they hold is there at once: only a browser lets wait.
    let popped = [memory.pop(), internal.pop(), validation.pop()].map(pollster::block_on);
    (made, popped.into_iter().flatten().next())
}

/// A browser tells errors later, when nobody here can wait: they go to the device's handler.
#[cfg(target_arch = "wasm32")]
pub(super) fn scoped<T>(_: &wgpu::Device, calls: impl FnOnce() -> T) -> (T, Option<wgpu::Error>) {
    (calls(), None)
}

/// Whether a device is lost or destroyed. wgpu tells a loss to one callback, which is the app's, and to no error scope.
/// But a lost device takes every call in silence, where a living one refuses a buffer that is of no use.
#[cfg(not(target_arch = "wasm32"))]
pub(super) fn is_lost(device: &wgpu::Device) -> bool {
    let useless = wgpu::BufferDescriptor {
        label: None,
        size: 0,
        usage: wgpu::BufferUsages::empty(),
        mapped_at_creation: false,
    };
    let refusal = device.push_error_scope(wgpu::ErrorFilter::Validation);
    let _buffer = device.create_buffer(&useless);
    pollster::block_on(refusal.pop()).is_none()
}

/// A browser cannot be asked; what waits for the device fails there.
#[cfg(target_arch = "wasm32")]
pub(super) fn is_lost(_: &wgpu::Device) -> bool {
    false
}

/// An error as the crate tells it; `what` was being done.
pub(super) fn from_wgpu(what: &str, error: &wgpu::Error) -> GpuError {
    let what = what.to_owned();
    match error {
        wgpu::Error::OutOfMemory { .. } => GpuError::OutOfMemory { what, bytes: 0 },
        other => GpuError::Validation { what, message: other.to_string() },
    }
}
