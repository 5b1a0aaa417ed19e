//! A device in use: its queue, its compiled kernels, its buffers.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock};

use super::bound::BoundCalls;
use super::device::{AdapterDescription, describe_device};
use super::kept::KeptPipelines;
use super::limits::GpuLimits;
use super::lock::lock;
use super::params::ParamsChunk;
use super::pipeline::{Pipeline, compile};
use super::recording::Plan;
use super::shader::Shader;
use super::signal::Waiting;
use crate::cache::CachePlace;
use crate::error::GpuError;
use crate::recent::Recent;

/// Compiled kernels that are kept beside those of calls that an app holds. On Mesa's processor driver each takes two or
/// three megabytes.
pub const KEPT_PIPELINES: usize = 256;

/// What every call on a device shares.
#[derive(Debug)]
pub(crate) struct Gpu {
    pub device: wgpu::Device,
    pub queue: wgpu::Queue,
    pub adapter: AdapterDescription,
    checked: bool,
    /// The first error that nobody waited for, of a device that is the engine's own.
    pub(super) fault: Arc<Mutex<Option<GpuError>>>,
    /// Compiled kernels, of which [`KEPT_PIPELINES`] and those in use are kept.
    pipelines: Mutex<Recent<Arc<Shader>, Arc<Pipeline>>>,
    /// Pipelines between runs, where there is a place for them.
    kept: OnceLock<KeptPipelines>,
    /// The pool of scratch buffers, by their index in plans.
    pub(super) scratch: Mutex<Vec<wgpu::Buffer>>,
    /// Calls bound to buffers.
    pub(super) bound: Mutex<BoundCalls>,
    /// What is filled with params.
    pub(super) params_chunk: Mutex<Option<ParamsChunk>>,
    calls_made: AtomicU64,
    buffers_made: AtomicU64,
    /// Bound where a tensor has no element.
    stand_in: OnceLock<wgpu::Buffer>,
}

impl Gpu {
    /// `matrix`: the size of the cooperative matrices that kernels may use.
    pub fn new(
        device: wgpu::Device,
        queue: wgpu::Queue,
        checked: bool,
        matrix: Option<u32>,
    ) -> Self {
        let adapter = describe_device(&device, matrix);
        Self {
            device,
            queue,
            adapter,
            checked,
            fault: Arc::default(),
            pipelines: Mutex::new(Recent::new(usize::MAX)),
            kept: OnceLock::new(),
            scratch: Mutex::default(),
            bound: Mutex::default(),
            params_chunk: Mutex::default(),
            calls_made: AtomicU64::new(0),
            buffers_made: AtomicU64::new(0),
            stand_in: OnceLock::new(),
        }
    }

    /// Keeps pipelines between runs, where the place has a folder and the device can.
    pub fn keep_pipelines(&self, place: &CachePlace) {
        if let Some(opened) = KeptPipelines::open(&self.device, place) {
            self.kept.get_or_init(|| opened);
        }
    }

    /// Writes what was compiled to the place of [`Gpu::keep_pipelines`].
    pub fn save_pipelines(&self) -> std::io::Result<()> {
        self.kept.get().map_or(Ok(()), KeptPipelines::save)
    }

    pub fn limits(&self) -> &GpuLimits {
        &self.adapter.limits
    }

    /// The pipelines of a plan's steps. Those that are not known yet are compiled in parallel by who may block, else one
    /// after the other.
    pub async fn pipelines(
        &self,
        plan: &Plan,
        waiting: Waiting,
    ) -> Result<Vec<Arc<Pipeline>>, GpuError> {
        match waiting {
            #[cfg(not(target_arch = "wasm32"))]
            Waiting::Block => self.compile_in_parallel(plan),
            Waiting::Yield => {}
        }
        let mut pipelines = Vec::with_capacity(plan.steps.len());
        for step in &plan.steps {
            pipelines.push(self.pipeline(&step.shader).await?);
        }
        Ok(pipelines)
    }

    /// Compiles those of a plan's kernels that are not known yet.
    #[cfg(not(target_arch = "wasm32"))]
    fn compile_in_parallel(&self, plan: &Plan) {
        let mut wanted: Vec<&Arc<Shader>> = Vec::new();
        for step in &plan.steps {
            if !wanted.contains(&&step.shader) && !self.knows(&step.shader) {
                wanted.push(&step.shader);
            }
        }
        // What fails here fails again, with its error, when it is asked for.
        let compile = |shader| drop(pollster::block_on(self.pipeline(shader)));
        std::thread::scope(|scope| {
            // One is compiled here, so that a call of one kernel starts no thread.
            for &shader in wanted.iter().skip(1) {
                scope.spawn(move || compile(shader));
            }
            if let Some(shader) = wanted.first() {
                compile(shader);
            }
        });
    }

    pub async fn pipeline(&self, shader: &Arc<Shader>) -> Result<Arc<Pipeline>, GpuError> {
        if let Some(known) = lock(&self.pipelines).get(shader) {
            return Ok(Arc::clone(known));
        }
        let cache = self.kept.get().map(KeptPipelines::cache);
        let compiled = compile(&self.device, shader, self.checked, cache).await;
        self.alive()?;
        let pipeline = Arc::new(compiled?);
        lock(&self.pipelines).insert(Arc::clone(shader), Arc::clone(&pipeline));
        self.drop_idle_pipelines();
        Ok(pipeline)
    }

    /// Lets kernels go that no call holds, those first that were asked for least recently, until they are
    /// [`KEPT_PIPELINES`]; whether more are left.
    pub fn drop_idle_pipelines(&self) -> bool {
        let mut pipelines = lock(&self.pipelines);
        let is_idle = |pipeline: &Arc<Pipeline>| Arc::strong_count(pipeline) == 1;
        while pipelines.len() > KEPT_PIPELINES && pipelines.drop_oldest(is_idle) {}
        pipelines.len() > KEPT_PIPELINES
    }

    /// Compiled kernels.
    pub fn pipeline_count(&self) -> usize {
        lock(&self.pipelines).len()
    }

    /// Whether a kernel is compiled already.
    pub fn knows(&self, shader: &Arc<Shader>) -> bool {
        lock(&self.pipelines).contains(shader)
    }

    /// A number that no other prepared call has.
    pub fn next_call(&self) -> u64 {
        self.calls_made.fetch_add(1, Ordering::Relaxed)
    }

    /// Lets kernels go that nobody asks for again.
    pub fn forget(&self, shaders: &[Arc<Shader>]) {
        let mut pipelines = lock(&self.pipelines);
        for shader in shaders {
            pipelines.remove(shader);
        }
    }

    /// A buffer, or the error of having no memory for it.
    pub async fn buffer(
        &self,
        what: &str,
        size: u64,
        usage: wgpu::BufferUsages,
    ) -> Result<wgpu::Buffer, GpuError> {
        self.fits(what, size)?;
        let made = self.guarded_async(what, || self.create_buffer(what, size, usage)).await;
        made.map_err(|error| sized(error, size))
    }

    /// [`Gpu::buffer`] for what cannot wait, as [`Gpu::guarded`].
    pub fn buffer_at_once(
        &self,
        what: &str,
        size: u64,
        usage: wgpu::BufferUsages,
    ) -> Result<wgpu::Buffer, GpuError> {
        self.fits(what, size)?;
        let made = self.guarded(what, || self.create_buffer(what, size, usage));
        made.map_err(|error| sized(error, size))
    }

    fn fits(&self, what: &str, size: u64) -> Result<(), GpuError> {
        if size <= self.limits().buffer_bytes {
            return Ok(());
        }
        self.alive().and(Err(GpuError::OutOfMemory { what: what.to_owned(), bytes: size }))
    }

    fn create_buffer(&self, what: &str, size: u64, usage: wgpu::BufferUsages) -> wgpu::Buffer {
        self.buffers_made.fetch_add(1, Ordering::Relaxed);
        self.device.create_buffer(&wgpu::BufferDescriptor {
            label: Some(what),
            size: size.next_multiple_of(4).max(16),
            usage,
            mapped_at_creation: false,
        })
    }

    /// What is bound where a tensor has no element.
    pub fn stand_in(&self) -> Result<&wgpu::Buffer, GpuError> {
        if let Some(made) = self.stand_in.get() {
            return Ok(made);
        }
        let made = self.buffer_at_once("stand-in", 16, wgpu::BufferUsages::STORAGE)?;
        Ok(self.stand_in.get_or_init(|| made))
    }

    /// Buffers made so far.
    pub fn buffers_made(&self) -> u64 {
        self.buffers_made.load(Ordering::Relaxed)
    }
}

/// The error of making a buffer, which knows its bytes.
fn sized(error: GpuError, bytes: u64) -> GpuError {
    match error {
        GpuError::OutOfMemory { what, .. } => GpuError::OutOfMemory { what, bytes },
        other => other,
    }
}

impl Drop for Gpu {
    fn drop(&mut self) {
        if let (Some(kept), Err(error)) = (self.kept.get(), self.save_pipelines()) {
            log::warn!("{} was not written: {error}", kept.path().display());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gpu::device::{AdapterChoice, open};
    use crate::gpu::shader::{Part, Proven};

    /// A kernel that does nothing, unlike those of other numbers.
    fn kernel(number: usize) -> Arc<Shader> {
        let text = format!("// {number}\n@compute @workgroup_size(1) fn nothing() {{}}\n");
        Arc::new(Shader {
            entry: "nothing",
            parts: vec![Part { file: "nothing.wgsl".to_owned(), text }],
            bindings: Vec::new(),
            workgroup_size: 1,
            workgroup_bytes: 0,
            proven: Some(Proven::by_plan()),
        })
    }

    #[test]
    fn kernels_that_nobody_holds_leave_when_others_come() {
        let opened = pollster::block_on(open(&AdapterChoice::default(), true, false));
        let (device, queue, _) = opened.expect("tests need an adapter");
        let gpu = Gpu::new(device, queue, false, None);
        let compile = |number| {
            // The binding of params is declared by no text here, which layouts allow.
            pollster::block_on(gpu.pipeline(&kernel(number))).unwrap()
        };
        let held = compile(0);
        (1..=KEPT_PIPELINES + 3).for_each(|number| drop(compile(number)));
        assert_eq!(gpu.pipeline_count(), KEPT_PIPELINES);
        let known: Vec<bool> = [0, 1, 4, 5].map(|number| gpu.knows(&kernel(number))).to_vec();
        assert_eq!(
            known,
            [true, false, false, true],
            "what is held stays, the oldest others leave"
        );
        assert!(Arc::ptr_eq(&held, &compile(0)));
    }
}
