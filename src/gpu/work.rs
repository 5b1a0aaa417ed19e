//! Work for a device: recorded, submitted, waited for; bytes to it and from it.

use std::ops::{Bound, Range, RangeBounds};

use super::context::Gpu;
use super::signal::{Signal, Waiting};
use crate::error::{Error, GpuError, SpecError};

impl Gpu {
    /// Records into an encoder of our own.
    pub fn record(
        &self,
        what: &str,
        record: impl FnOnce(&mut wgpu::CommandEncoder) -> Result<(), Error>,
    ) -> Result<wgpu::CommandBuffer, Error> {
        let descriptor = wgpu::CommandEncoderDescriptor { label: Some("tilewise") };
        self.guarded(what, || {
            let mut encoder = self.device.create_command_encoder(&descriptor);
            record(&mut encoder)?;
            Ok(encoder.finish())
        })?
    }

    /// Submits what was recorded.
    pub fn submit(&self, what: &str, commands: wgpu::CommandBuffer) -> Result<(), GpuError> {
        self.guarded(what, || self.queue.submit([commands])).map(drop)
    }

    /// Writes bytes to the begin of a buffer, the last word filled up with zeros.
    pub fn write(&self, what: &str, buffer: &wgpu::Buffer, bytes: &[u8]) -> Result<(), GpuError> {
        self.write_at(what, (buffer, 0), bytes)
    }

    /// The same from a whole word of the buffer on.
    pub fn write_at(
        &self,
        what: &str,
        (buffer, first): (&wgpu::Buffer, u64),
        bytes: &[u8],
    ) -> Result<(), GpuError> {
        let (words, rest) = bytes.split_at(bytes.len() / WORD as usize * WORD as usize);
        self.guarded(what, || {
            self.queue.write_buffer(buffer, first, words);
            if !rest.is_empty() {
                let mut last = [0; WORD as usize];
                last[..rest.len()].copy_from_slice(rest);
                self.queue.write_buffer(buffer, first + words.len() as u64, &last);
            }
        })
    }

    /// Reads a range of a buffer back, in bytes.
    pub async fn download(
        &self,
        buffer: &wgpu::Buffer,
        range: impl RangeBounds<u64>,
        waiting: Waiting,
    ) -> Result<Vec<u8>, Error> {
        let bytes = readable(buffer, &range)?;
        let start = bytes.start / WORD * WORD;
        let size = bytes.end.next_multiple_of(WORD) - start;
        let what = "a readback";
        let usage = wgpu::BufferUsages::MAP_READ | wgpu::BufferUsages::COPY_DST;
        let staging = self.buffer(what, size, usage).await?;
        let commands = self.record(what, |encoder| {
            encoder.copy_buffer_to_buffer(buffer, start, &staging, 0, size);
            Ok(())
        })?;
        self.submit(what, commands)?;
        let signal = Signal::default();
        let mapped = signal.clone();
        self.guarded(what, || {
            staging.map_async(wgpu::MapMode::Read, .., move |result| mapped.set(result));
        })?;
        let mapped = self.signalled(signal, waiting).await?;
        mapped.map_err(|error| self.unmapped(&error))?;
        #[cfg(target_arch = "wasm32")]
        self.healthy()?; // what was recorded without waiting
        let words = staging.get_mapped_range(..).map_err(|error| self.unmapped(&error))?;
        Ok(words[(bytes.start - start) as usize..(bytes.end - start) as usize].to_vec())
    }

    /// Why a buffer could not be mapped: a loss before others.
    fn unmapped(&self, error: &dyn std::error::Error) -> GpuError {
        let other = || GpuError::Map { what: "a buffer".to_owned(), message: error.to_string() };
        self.alive().err().unwrap_or_else(other)
    }

    /// Blocks until the device has done all that was submitted.
    #[cfg(not(target_arch = "wasm32"))]
    pub fn wait(&self) -> Result<(), GpuError> {
        self.poll(wgpu::PollType::wait_indefinitely())?;
        self.healthy()
    }

    /// Until the device has done all that was submitted.
    pub async fn finished(&self, waiting: Waiting) -> Result<(), GpuError> {
        #[cfg(not(target_arch = "wasm32"))]
        if waiting == Waiting::Block {
            return self.wait();
        }
        let signal = Signal::default();
        let done = signal.clone();
        self.queue.on_submitted_work_done(move || done.set(()));
        self.signalled(signal, waiting).await?;
        self.healthy()
    }

    /// What the device reports. The browser drives its own queue; elsewhere somebody has to wait for it.
    async fn signalled<T>(&self, signal: Signal<T>, waiting: Waiting) -> Result<T, GpuError> {
        #[cfg(not(target_arch = "wasm32"))]
        match waiting {
            Waiting::Block => self.wait()?,
            Waiting::Yield => self.waited_for_by_a_thread().await?,
        }
        #[cfg(target_arch = "wasm32")]
        let _ = waiting;
        Ok(signal.await)
    }

    /// Until a thread that waits for the device has seen it done: whoever polls meanwhile costs no core.
    #[cfg(not(target_arch = "wasm32"))]
    async fn waited_for_by_a_thread(&self) -> Result<(), GpuError> {
        self.alive()?;
        let signal = Signal::default();
        let (device, done) = (self.device.clone(), signal.clone());
        let wait = move || done.set(looked_after(&device, wgpu::PollType::wait_indefinitely()));
        let thread = std::thread::Builder::new().name("tilewise wait".to_owned());
        thread.spawn(wait).map_err(|error| unwaited(&error))?;
        let looked = signal.await;
        self.looked(looked)
    }

    /// Looks after what the device has done.
    #[cfg(not(target_arch = "wasm32"))]
    fn poll(&self, poll: wgpu::PollType) -> Result<(), GpuError> {
        self.alive()?;
        self.looked(looked_after(&self.device, poll))
    }

    /// What a look says. A loss is an error before the look and after it.
    #[cfg(not(target_arch = "wasm32"))]
    fn looked(&self, looked: Looked) -> Result<(), GpuError> {
        self.alive()?;
        match looked {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(error)) => Err(unwaited(&error)),
            Err(panic) => std::panic::resume_unwind(panic),
        }
    }
}

/// What `wgpu::Device::poll` says, or panics with.
#[cfg(not(target_arch = "wasm32"))]
type Looked = std::thread::Result<Result<wgpu::PollStatus, wgpu::PollError>>;

/// Looks after a device. wgpu panics where the driver tells of a loss (`handle_error_fatal`, up to wgpu 30). Panics of the
/// app's own callbacks, which run in there, go on where the look was asked for.
#[cfg(not(target_arch = "wasm32"))]
fn looked_after(device: &wgpu::Device, poll: wgpu::PollType) -> Looked {
    std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| device.poll(poll)))
}

#[cfg(not(target_arch = "wasm32"))]
fn unwaited(error: &dyn std::error::Error) -> GpuError {
    GpuError::Validation { what: "waiting for the device".to_owned(), message: error.to_string() }
}

/// What WebGPU copies: whole words, from offsets that are multiples of their size.
const WORD: u64 = wgpu::COPY_BUFFER_ALIGNMENT;

/// The bytes of a buffer that a range names, if they can be read back.
fn readable(buffer: &wgpu::Buffer, range: &impl RangeBounds<u64>) -> Result<Range<u64>, SpecError> {
    if !buffer.usage().contains(wgpu::BufferUsages::COPY_SRC) {
        let got = format!("{:?}", buffer.usage());
        return Err(SpecError::value("the buffer to download", "usage COPY_SRC", got));
    }
    let start = match range.start_bound() {
        Bound::Included(&start) => start,
        Bound::Excluded(&before) => before.saturating_add(1),
        Bound::Unbounded => 0,
    };
    let end = match range.end_bound() {
        Bound::Included(&last) => last.saturating_add(1),
        Bound::Excluded(&end) => end,
        Bound::Unbounded => buffer.size(),
    };
    // Beyond the last whole word nothing can be copied.
    let most = buffer.size() / WORD * WORD;
    if start <= end && end <= most {
        return Ok(start..end);
    }
    let expected = format!("bytes within 0..{most} (the buffer's whole words)");
    Err(SpecError::value("the range to download", expected, format!("{start}..{end}")))
}
