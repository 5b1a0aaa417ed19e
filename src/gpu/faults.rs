//! What goes wrong on a device, as values of the call that meets it.

use std::sync::Arc;

use super::context::Gpu;
use super::lock::lock;
use super::scopes::{from_wgpu, is_lost, scoped};
use crate::error::GpuError;

impl Gpu {
    /// Takes loss and uncaught errors of a device that is the engine's own, to give them back as errors.
    pub fn watch(&self) {
        let fault = Arc::clone(&self.fault);
        let note = move |error| {
            let mut fault = lock(&fault);
            if fault.is_none() || matches!(error, GpuError::Lost { .. }) {
                *fault = Some(error);
            }
        };
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
    pub fn guarded<T>(&self, what: &str, calls: impl FnOnce() -> T) -> Result<T, GpuError> {
        let (made, error) = scoped(&self.device, calls);
        match error {
            // A device may be lost by it: the cause says more.
            Some(error @ wgpu::Error::OutOfMemory { .. }) => Err(from_wgpu(what, &error)),
            Some(error) => self.alive().and(Err(from_wgpu(what, &error))),
            None => self.alive().map(|()| made),
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

    /// The first error that nobody has seen yet, if any, of a device that is the engine's own; a loss before others.
    pub fn healthy(&self) -> Result<(), GpuError> {
        self.alive()?;
        lock(&self.fault).take().map_or(Ok(()), Err)
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
        match gpu.buffer("huge", bytes, wgpu::BufferUsages::STORAGE) {
            Ok(made) => assert_eq!(made.size(), bytes),
            Err(error) => assert_eq!(error, none),
        }
        let source = Box::new(std::fmt::Error);
        let refused = from_wgpu("huge", &wgpu::Error::OutOfMemory { source });
        assert_eq!(refused, GpuError::OutOfMemory { what: "huge".to_owned(), bytes: 0 });
        gpu.alive().unwrap();
    }
}
