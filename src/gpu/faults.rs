//! What goes wrong on a device, as values of the call that meets it.

use std::sync::{Arc, Mutex};

use super::context::Gpu;
use super::lock::lock;
use super::scopes::{Scopes, from_wgpu, is_lost};
use crate::error::GpuError;

impl Gpu {
    /// Takes loss and uncaught errors of a device that is the engine's own, to give them back as errors.
    pub fn watch(&self) {
        let fault = Arc::clone(&self.fault);
        let note = move |error| note(&fault, error);
        let lost = note.clone();
        self.device.set_device_lost_callback(move |reason, message| {
            lost(GpuError::Lost { message: format!("{reason:?} {message}").trim().to_owned() });
        });
        self.device.on_uncaptured_error(Arc::new(move |error| {
            note(from_wgpu("a call", &error));
        }));
    }

    /// Runs calls to wgpu, and gives back what they raise. A loss comes first: on a lost device whatever follows fails.
    /// Callbacks of the app that wgpu runs while it submits stand in the same scopes.
    pub async fn guarded_async<T>(
        &self,
        what: &str,
        calls: impl FnOnce() -> T,
    ) -> Result<T, GpuError> {
        let scopes = Scopes::open(&self.device);
        let made = calls();
        self.raised(what, scopes.close().await).map(|()| made)
    }

    /// [`Gpu::guarded_async`] for what cannot wait: recording, submitting, writing.
    #[cfg(not(target_arch = "wasm32"))]
    pub fn guarded<T>(&self, what: &str, calls: impl FnOnce() -> T) -> Result<T, GpuError> {
        pollster::block_on(self.guarded_async(what, calls))
    }

    /// [`Gpu::guarded_async`] for what cannot wait: recording, submitting, writing. What these calls raise is noted when
    /// the browser tells it; who waits for the device next gets it.
    #[cfg(target_arch = "wasm32")]
    pub fn guarded<T>(&self, what: &str, calls: impl FnOnce() -> T) -> Result<T, GpuError> {
        self.alive()?;
        let scopes = Scopes::open(&self.device);
        let made = calls();
        let (raised, fault, what) = (scopes.close(), Arc::clone(&self.fault), what.to_owned());
        wasm_bindgen_futures::spawn_local(async move {
            if let Some(error) = raised.await {
                note(&fault, from_wgpu(&what, &error));
            }
        });
        Ok(made)
    }

    fn raised(&self, what: &str, error: Option<wgpu::Error>) -> Result<(), GpuError> {
        match error {
            // A device may be lost by it: the cause says more.
            Some(error @ wgpu::Error::OutOfMemory { .. }) => Err(from_wgpu(what, &error)),
            Some(error) => self.alive().and(Err(from_wgpu(what, &error))),
            None => self.alive(),
        }
    }

    /// Whether the device can still be used; once lost, it stays lost.
    pub fn alive(&self) -> Result<(), GpuError> {
        if let Some(lost @ GpuError::Lost { .. }) = &*lock(&self.fault) {
            return Err(lost.clone());
        }
        if is_lost(&self.device) {
            return Err(GpuError::Lost { message: "it was lost, or destroyed".to_owned() });
        }
        Ok(())
    }

    /// The first error that nobody has seen yet, if any; a loss before others. There is one of a device that is the
    /// engine's own, and of calls in a browser that could not wait.
    pub fn healthy(&self) -> Result<(), GpuError> {
        self.alive()?;
        lock(&self.fault).take().map_or(Ok(()), Err)
    }
}

/// Keeps the first error, and a loss before others.
fn note(fault: &Mutex<Option<GpuError>>, error: GpuError) {
    let mut fault = lock(fault);
    if fault.is_none() || matches!(error, GpuError::Lost { .. }) {
        *fault = Some(error);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_buffer_that_the_device_has_no_memory_for_is_an_error_with_its_size() {
        let guard = wgpu::MemoryBudgetThresholds {
            for_resource_creation: Some(1),
            ..wgpu::MemoryBudgetThresholds::default()
        };
        let descriptor = wgpu::InstanceDescriptor {
            memory_budget_thresholds: guard,
            ..wgpu::InstanceDescriptor::new_without_display_handle()
        };
        let adapters = wgpu::Instance::new(descriptor).enumerate_adapters(wgpu::Backends::all());
        let adapters = pollster::block_on(adapters);
        let adapter = adapters.first().expect("tests need an adapter");
        let required_limits = adapter.limits();
        let bytes = required_limits.max_buffer_size & !3;
        let wanted =
            wgpu::DeviceDescriptor { required_limits, ..wgpu::DeviceDescriptor::default() };
        let (device, queue) = pollster::block_on(adapter.request_device(&wanted)).unwrap();
        device.on_uncaptured_error(Arc::new(|error| panic!("the app was told: {error}")));
        let gpu = Gpu::new(device, queue, false, None);
        let none = GpuError::OutOfMemory { what: "huge".to_owned(), bytes };
        // Of one percent of its memory, which not every driver tells.
        match pollster::block_on(gpu.buffer("huge", bytes, wgpu::BufferUsages::STORAGE)) {
            Ok(made) => assert_eq!(made.size(), bytes),
            Err(error) => assert_eq!(error, none),
        }
        let source = Box::new(std::fmt::Error);
        let refused = from_wgpu("huge", &wgpu::Error::OutOfMemory { source });
        assert_eq!(refused, GpuError::OutOfMemory { what: "huge".to_owned(), bytes: 0 });
        gpu.alive().unwrap();
    }
}
