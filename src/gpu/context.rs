//! A device in use: its queue, its compiled kernels, its scratch memory, its faults.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock};

use super::device::{AdapterDescription, describe};
use super::kept::KeptPipelines;
use super::limits::GpuLimits;
use super::lock::lock;
use super::pipeline::{Pipeline, compile};
use super::recording::{Plan, Scratch};
use super::shader::Shader;
use crate::cache::CachePlace;
use crate::error::GpuError;

/// Scratch memory that an engine keeps between calls.
pub const KEPT_SCRATCH_BYTES: u64 = 256 << 20;

/// What every call on a device shares.
#[derive(Debug)]
pub(crate) struct Gpu {
    pub device: wgpu::Device,
    pub queue: wgpu::Queue,
    pub adapter: AdapterDescription,
    checked: bool,
    /// The first error that nobody waited for, of a device that is the engine's own.
    fault: Arc<Mutex<Option<GpuError>>>,
    pipelines: Mutex<HashMap<Arc<Shader>, Arc<Pipeline>>>,
    /// Pipelines between runs, where there is a place for them.
    kept: OnceLock<KeptPipelines>,
    /// The pool of scratch buffers, by their index in plans.
    scratch: Mutex<Vec<wgpu::Buffer>>,
    buffers_made: AtomicU64,
    /// Bound where a tensor has no element.
    pub stand_in: wgpu::Buffer,
}

impl Gpu {
    /// `matrix`: the size of the cooperative matrices that kernels may use.
    pub fn new(
        device: wgpu::Device,
        queue: wgpu::Queue,
        checked: bool,
        matrix: Option<u32>,
    ) -> Self {
        let (limits, features) = (device.limits(), device.features());
        let adapter = describe(&device.adapter_info(), &limits, features, matrix);
        let stand_in = device.create_buffer(&wgpu::BufferDescriptor {
            label: Some("tilewise stand-in"),
            size: 16,
            usage: wgpu::BufferUsages::STORAGE,
            mapped_at_creation: false,
        });
        Self {
            device,
            queue,
            adapter,
            checked,
            fault: Arc::default(),
            pipelines: Mutex::default(),
            kept: OnceLock::new(),
            scratch: Mutex::default(),
            buffers_made: AtomicU64::new(0),
            stand_in,
        }
    }

    /// Keeps pipelines between runs, where the place has a folder and the device can.
    pub fn keep_pipelines(&self, place: &CachePlace) {
        let opened = place.folder().and_then(|folder| KeptPipelines::open(&self.device, &folder));
        if let Some(opened) = opened {
            self.kept.get_or_init(|| opened);
        }
    }

    /// Writes what was compiled to the place of [`Gpu::keep_pipelines`].
    pub fn save_pipelines(&self) -> std::io::Result<()> {
        self.kept.get().map_or(Ok(()), KeptPipelines::save)
    }

    /// Takes loss and uncaught errors of a device that is the engine's own, to give them back as errors.
    pub fn watch(&self) {
        let fault = Arc::clone(&self.fault);
        let note = move |error| {
            lock(&fault).get_or_insert(error);
        };
        let lost = note.clone();
        self.device.set_device_lost_callback(move |reason, message| {
            lost(GpuError::Lost { message: format!("{reason:?} {message}").trim().to_owned() });
        });
        self.device.on_uncaptured_error(Arc::new(move |error| {
            note(from_wgpu("a call", 0, &error));
        }));
    }

    pub fn limits(&self) -> &GpuLimits {
        &self.adapter.limits
    }

    /// The pipelines of a plan's steps; those not known yet are compiled in parallel.
    pub fn pipelines(&self, plan: &Plan) -> Result<Vec<Arc<Pipeline>>, GpuError> {
        #[cfg(not(target_arch = "wasm32"))]
        std::thread::scope(|scope| {
            let mut wanted: Vec<&Arc<Shader>> = Vec::new();
            for step in &plan.steps {
                if !wanted.contains(&&step.shader) && !self.knows(&step.shader) {
                    wanted.push(&step.shader);
                }
            }
            // One is compiled here, so that a call of one kernel starts no thread.
            for shader in wanted.iter().skip(1) {
                scope.spawn(|| pollster::block_on(self.pipeline(shader)));
            }
            if let Some(shader) = wanted.first() {
                let _ = pollster::block_on(self.pipeline(shader));
            }
        });
        plan.steps.iter().map(|step| pollster::block_on(self.pipeline(&step.shader))).collect()
    }

    pub async fn pipeline(&self, shader: &Arc<Shader>) -> Result<Arc<Pipeline>, GpuError> {
        if let Some(known) = lock(&self.pipelines).get(shader) {
            return Ok(Arc::clone(known));
        }
        let cache = self.kept.get().map(|kept| &kept.cache);
        let pipeline = Arc::new(compile(&self.device, shader, self.checked, cache).await?);
        lock(&self.pipelines).insert(Arc::clone(shader), Arc::clone(&pipeline));
        Ok(pipeline)
    }

    /// Whether a kernel is compiled already.
    pub fn knows(&self, shader: &Arc<Shader>) -> bool {
        lock(&self.pipelines).contains_key(shader)
    }

    /// Lets kernels go that nobody asks for again.
    pub fn forget(&self, shaders: &[Arc<Shader>]) {
        let mut pipelines = lock(&self.pipelines);
        for shader in shaders {
            pipelines.remove(shader);
        }
    }

    /// A buffer, or the error of having no memory for it.
    pub fn buffer(
        &self,
        what: &str,
        size: u64,
        usage: wgpu::BufferUsages,
    ) -> Result<wgpu::Buffer, GpuError> {
        if size > self.limits().buffer_bytes {
            return Err(GpuError::OutOfMemory { what: what.to_owned(), bytes: size });
        }
        self.buffers_made.fetch_add(1, Ordering::Relaxed);
        let device = &self.device;
        let memory = device.push_error_scope(wgpu::ErrorFilter::OutOfMemory);
        let buffer = device.create_buffer(&wgpu::BufferDescriptor {
            label: Some(what),
            size: size.next_multiple_of(4).max(16),
            usage,
            mapped_at_creation: false,
        });
        match pollster::block_on(memory.pop()) {
            Some(error) => Err(from_wgpu(what, size, &error)),
            None => Ok(buffer),
        }
    }

    pub fn encoder(&self) -> wgpu::CommandEncoder {
        let descriptor = wgpu::CommandEncoderDescriptor { label: Some("tilewise") };
        self.device.create_command_encoder(&descriptor)
    }

    /// Scratch buffers of at least these sizes, shared by all calls: one queue runs them one after the other. The pool
    /// keeps the largest of each index as long as all of them stay within [`KEPT_SCRATCH_BYTES`]; what goes beyond is
    /// the call's own, and lives until the device has run it.
    pub fn scratch(&self, wanted: &[Scratch]) -> Result<Vec<wgpu::Buffer>, GpuError> {
        let mut pool = lock(&self.scratch);
        let mut kept: u64 = pool.iter().map(wgpu::Buffer::size).sum();
        let mut buffers = Vec::with_capacity(wanted.len());
        for (index, &Scratch { name, bytes }) in wanted.iter().enumerate() {
            let pooled = pool.get(index);
            if let Some(enough) = pooled.filter(|buffer| buffer.size() >= bytes) {
                buffers.push(enough.clone());
                continue;
            }
            let replaced = pooled.map_or(0, wgpu::Buffer::size);
            let usage = wgpu::BufferUsages::STORAGE | wgpu::BufferUsages::INDIRECT;
            let buffer = self.buffer(name, bytes, usage)?;
            if kept - replaced + buffer.size() <= KEPT_SCRATCH_BYTES && index <= pool.len() {
                kept = kept - replaced + buffer.size();
                match pool.get_mut(index) {
                    Some(place) => *place = buffer.clone(),
                    None => pool.push(buffer.clone()),
                }
            }
            buffers.push(buffer);
        }
        Ok(buffers)
    }

    /// Bytes in the pool of scratch buffers.
    pub fn scratch_bytes(&self) -> u64 {
        lock(&self.scratch).iter().map(wgpu::Buffer::size).sum()
    }

    /// Empties the pool of scratch buffers.
    pub fn free_scratch(&self) {
        lock(&self.scratch).clear();
    }

    /// Buffers made so far.
    pub fn buffers_made(&self) -> u64 {
        self.buffers_made.load(Ordering::Relaxed)
    }

    /// The first error that nobody has seen yet, if any; a lost device stays lost.
    pub fn healthy(&self) -> Result<(), GpuError> {
        let mut fault = lock(&self.fault);
        match &*fault {
            None => Ok(()),
            Some(lost @ GpuError::Lost { .. }) => Err(lost.clone()),
            Some(_) => fault.take().map_or(Ok(()), Err),
        }
    }

    pub fn wait(&self) -> Result<(), GpuError> {
        let waited = self.device.poll(wgpu::PollType::wait_indefinitely());
        self.healthy()?;
        waited.map(drop).map_err(|error| GpuError::Lost { message: error.to_string() })
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

    /// Reads the first `size` bytes of a buffer back.
    pub async fn download(
        &self,
        buffer: &wgpu::Buffer,
        size: u64,
        waiting: Waiting,
    ) -> Result<Vec<u8>, GpuError> {
        let usage = wgpu::BufferUsages::MAP_READ | wgpu::BufferUsages::COPY_DST;
        let staging = self.buffer("a readback", size, usage)?;
        let mut encoder = self.encoder();
        encoder.copy_buffer_to_buffer(buffer, 0, &staging, 0, size.next_multiple_of(4));
        self.queue.submit([encoder.finish()]);
        let map = |message: String| GpuError::Map { what: "a tensor".to_owned(), message };
        let signal = Signal::default();
        let mapped = signal.clone();
        staging.map_async(wgpu::MapMode::Read, .., move |result| mapped.set(result));
        let mapped = self.signalled(signal, waiting).await?;
        mapped.map_err(|error| map(error.to_string()))?;
        let range = staging.get_mapped_range(..).map_err(|error| map(error.to_string()))?;
        Ok(range[..size as usize].to_vec())
    }

    /// What the device reports. The browser drives its own queue; elsewhere somebody has to.
    async fn signalled<T>(&self, signal: Signal<T>, waiting: Waiting) -> Result<T, GpuError> {
        #[cfg(not(target_arch = "wasm32"))]
        match waiting {
            Waiting::Block => self.wait()?,
            Waiting::Yield => {
                while !signal.is_set() {
                    let looked = self.device.poll(wgpu::PollType::Poll);
                    self.healthy()?;
                    looked.map_err(|error| GpuError::Lost { message: error.to_string() })?;
                    if !signal.is_set() {
                        yielded().await;
                    }
                }
            }
        }
        #[cfg(target_arch = "wasm32")]
        let _ = waiting;
        Ok(signal.await)
    }
}

impl Drop for Gpu {
    fn drop(&mut self) {
        if let (Some(kept), Err(error)) = (self.kept.get(), self.save_pipelines()) {
            log::warn!("{} was not written: {error}", kept.path().display());
        }
    }
}

/// How a future waits for the device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Waiting {
    /// It blocks its thread, which costs nothing; not in a browser.
    Block,
    /// It looks once each time that it is polled, and asks to be polled again.
    Yield,
}

/// Gives the executor a turn.
#[cfg(not(target_arch = "wasm32"))]
async fn yielded() {
    let mut given = false;
    std::future::poll_fn(|context| {
        if std::mem::replace(&mut given, true) {
            return std::task::Poll::Ready(());
        }
        context.waker().wake_by_ref();
        std::task::Poll::Pending
    })
    .await;
}

fn from_wgpu(what: &str, bytes: u64, error: &wgpu::Error) -> GpuError {
    match error {
        wgpu::Error::OutOfMemory { .. } => GpuError::OutOfMemory { what: what.to_owned(), bytes },
        other => GpuError::Validation { what: what.to_owned(), message: other.to_string() },
    }
}

/// Something that a callback reports, awaited.
#[derive(Debug)]
struct Signal<T>(Arc<Mutex<SignalState<T>>>);

/// What is reported, once it is, and who waits for it.
type SignalState<T> = (Option<T>, Option<std::task::Waker>);

impl<T> Default for Signal<T> {
    fn default() -> Self {
        Self(Arc::new(Mutex::new((None, None))))
    }
}

impl<T> Clone for Signal<T> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<T> Signal<T> {
    fn set(&self, reported: T) {
        let mut state = lock(&self.0);
        state.0 = Some(reported);
        if let Some(waker) = state.1.take() {
            waker.wake();
        }
    }

    #[cfg(not(target_arch = "wasm32"))]
    fn is_set(&self) -> bool {
        lock(&self.0).0.is_some()
    }
}

impl<T> Future for Signal<T> {
    type Output = T;

    fn poll(
        self: std::pin::Pin<&mut Self>,
        context: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Self::Output> {
        let mut state = lock(&self.0);
        match state.0.take() {
            Some(reported) => std::task::Poll::Ready(reported),
            None => {
                state.1 = Some(context.waker().clone());
                std::task::Poll::Pending
            }
        }
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
        let given = gpu.scratch(&wanted([half, half + 16, 32])).unwrap();
        let sizes: Vec<u64> = given.iter().map(wgpu::Buffer::size).collect();
        assert_eq!(sizes, [half, half + 16, 32]);
        assert_eq!(gpu.scratch_bytes(), half, "the second is the call's own, as is what follows");
        let made = gpu.buffers_made();
        assert_eq!(gpu.scratch(&wanted([16, 16, 32])).unwrap()[0], given[0]);
        assert_eq!((gpu.scratch_bytes(), gpu.buffers_made()), (half + 48, made + 2));
        gpu.scratch(&wanted([half, 16, 16])).unwrap();
        assert_eq!(gpu.buffers_made(), made + 2);
    }
}
