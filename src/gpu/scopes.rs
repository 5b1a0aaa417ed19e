//! Calls to wgpu whose errors are ours.
//!
//! A device may be an app's, whose handlers stay its own. So calls of ours stand in error scopes, which wgpu keeps by
//! thread: neither the app's handlers nor its scopes hear of our errors, and ours take none of the app's.

use crate::error::GpuError;

/// Error scopes that are open, on this thread until they are closed.
pub(super) struct Scopes([wgpu::ErrorScopeGuard; 3]);

impl Scopes {
    /// Opens scopes for every kind of error.
    pub fn open(device: &wgpu::Device) -> Self {
        let kinds = [
            wgpu::ErrorFilter::Validation,
            wgpu::ErrorFilter::Internal,
            wgpu::ErrorFilter::OutOfMemory,
        ];
        Self(kinds.map(|kind| device.push_error_scope(kind)))
    }

    /// Closes them at once, in reverse; the first error that was raised in between. It is there at once, but for a
    /// browser, which tells it later.
    pub fn close(self) -> impl Future<Output = Option<wgpu::Error>> + use<> {
        let [validation, internal, memory] = self.0;
        let raised = (memory.pop(), internal.pop(), validation.pop());
        async move {
            let raised = [raised.0.await, raised.1.await, raised.2.await];
            raised.into_iter().flatten().next()
        }
    }
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
