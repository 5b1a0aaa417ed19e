//! The door: a device, its compiled kernels, and the calls prepared for it.

mod calls;
mod matrix;
mod options;
mod transfer;
mod tune;

use std::sync::Arc;

use self::calls::{Asked, KeptCalls, by_name, hash_of};
use self::matrix::MatrixCheck;
pub use self::options::{EngineOptions, Matrices};
use self::tune::Tuner;
use crate::cache::CachePlace;
use crate::error::{Error, GpuError, PlanError};
use crate::gpu::bound::{BoundCall, Given};
use crate::gpu::context::Gpu;
pub use crate::gpu::context::KEPT_PIPELINES;
#[cfg(not(target_arch = "wasm32"))]
use crate::gpu::device::offered_matrix;
use crate::gpu::device::{AdapterDescription, open};
use crate::gpu::limits::GpuLimits;
use crate::gpu::recording::Plan;
pub use crate::gpu::scratch::KEPT_SCRATCH_BYTES;
#[cfg(feature = "cli")]
use crate::gpu::shader::Shader;
use crate::gpu::signal::Waiting;
use crate::names::{refuse_others, refuse_twice};
use crate::operator::{Operator, Spec, TilesFrom};
use crate::prepared::Prepared;
use crate::tensor::TensorView;
use crate::tune::TunePolicy;

/// Operators on one device. Cheap to clone; many threads may use one.
#[derive(Clone, Debug)]
pub struct Engine {
    pub(crate) gpu: Arc<Gpu>,
    calls: Arc<Calls>,
}

/// The calls that were prepared before.
#[derive(Debug, Default)]
struct Calls {
    kept: KeptCalls,
    tuner: Tuner,
}

impl Calls {
    fn new(policy: TunePolicy, place: &CachePlace) -> Self {
        Self { tuner: Tuner::open(policy, place), ..Self::default() }
    }

    /// Forgets the calls that have the engine's choice of tiles, which may be another now. Forced ones come back at the
    /// cost of a plan.
    fn forget_unforced(&self) {
        self.kept.clear();
    }
}

/// Memory of an engine's own, beside the caller's tensors.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EngineMemory {
    /// Bytes of the scratch buffers that all calls share, at most [`KEPT_SCRATCH_BYTES`].
    pub scratch_bytes: u64,
    /// Buffers made so far, of any kind: recording a prepared call again makes none.
    pub buffers_made: u64,
    /// Compiled kernels: those of calls that the app holds, and others, at most [`KEPT_PIPELINES`] in all. What each takes
    /// is the driver's secret; on Mesa's processor driver it is two or three megabytes.
    pub pipelines: usize,
}

/// A call and what it is recorded with.
type BoundTo<O> = (Arc<Prepared<O>>, Arc<BoundCall>);

/// Views of a call's tensors by their names in the contract: `q`, `k`, `v`, `out`, `lse`, and what the spec names.
pub type Tensors<'a> = [(&'a str, TensorView<'a>)];

/// The size of a device's matrices if they are multiplied as kernels take them to be.
async fn working_matrix(device: &wgpu::Device, queue: &wgpu::Queue, size: u32) -> Option<u32> {
    let gpu = Gpu::new(device.clone(), queue.clone(), false, Some(size));
    let engine = Engine { gpu: Arc::new(gpu), calls: Arc::default() };
    let check = MatrixCheck { size };
    let inputs = check.inputs();
    let results = engine.run_async(&check, None, &inputs).await.ok()?;
    check.is_right(&inputs, &results["result"]).then_some(size)
}

impl Engine {
    /// Opens an adapter of the machine. Blocks; see [`Engine::open_async`].
    ///
    /// # Errors
    /// [`GpuError::NoAdapter`] naming the adapters there are; [`GpuError::NoDevice`].
    #[cfg(not(target_arch = "wasm32"))]
    pub fn open(options: &EngineOptions) -> Result<Self, GpuError> {
        pollster::block_on(Self::open_async(options))
    }

    /// Opens an adapter of the machine, or of the browser.
    ///
    /// # Errors
    /// [`GpuError::NoAdapter`] naming the adapters there are; [`GpuError::NoDevice`].
    pub async fn open_async(options: &EngineOptions) -> Result<Self, GpuError> {
        let wanted = options.matrices != Matrices::Off;
        let (device, queue, offered) = open(&options.adapter, options.floor, wanted).await?;
        let matrix = match (options.matrices, offered) {
            (Matrices::Checked, Some(size)) => working_matrix(&device, &queue, size).await,
            (_, offered) => offered,
        };
        let gpu = Gpu::new(device, queue, options.checked, matrix);
        gpu.keep_pipelines(&options.cache);
        gpu.watch();
        let calls = Calls::new(options.tuning, &options.cache);
        Ok(Self { gpu: Arc::new(gpu), calls: Arc::new(calls) })
    }

    /// An engine in an app's own device. Kernels use what the device was opened with (`Features::SUBGROUP` and
    /// `SHADER_F16` serve them best). The app's error and loss handlers stay its own, and hear nothing of the engine's
    /// calls: each gives back what it meets, a lost device too. Nothing is read from disk or written there.
    pub fn from_device(device: wgpu::Device, queue: wgpu::Queue) -> Self {
        Self { gpu: Arc::new(Gpu::new(device, queue, false, None)), calls: Arc::default() }
    }

    /// [`Engine::from_device`] for a device that was opened with `Features::EXPERIMENTAL_COOPERATIVE_MATRIX` and
    /// `SHADER_F16`: multiplies two matrices first, and uses them only if that comes out right. Blocks; browsers have no
    /// such matrices.
    #[cfg(not(target_arch = "wasm32"))]
    pub fn from_device_with_matrices(
        adapter: &wgpu::Adapter,
        device: wgpu::Device,
        queue: wgpu::Queue,
    ) -> Self {
        let needed = wgpu::Features::EXPERIMENTAL_COOPERATIVE_MATRIX | wgpu::Features::SHADER_F16;
        let opened = device.features().contains(needed);
        let offered = if opened { offered_matrix(adapter) } else { None };
        let check = |size| pollster::block_on(working_matrix(&device, &queue, size));
        let matrix = offered.and_then(check);
        Self { gpu: Arc::new(Gpu::new(device, queue, false, matrix)), calls: Arc::default() }
    }

    /// This engine, new, that uses measured tiles as `tuning` says and keeps in `cache` what it measures and, on Vulkan
    /// devices that were opened with `Features::PIPELINE_CACHE`, what it compiles. For engines in an app's own device;
    /// others say so in [`EngineOptions`].
    #[must_use]
    pub fn with_cache(self, tuning: TunePolicy, cache: &CachePlace) -> Self {
        self.gpu.keep_pipelines(cache);
        Self { gpu: self.gpu, calls: Arc::new(Calls::new(tuning, cache)) }
    }

    /// The device.
    pub fn device(&self) -> &wgpu::Device {
        &self.gpu.device
    }

    /// Its queue.
    pub fn queue(&self) -> &wgpu::Queue {
        &self.gpu.queue
    }

    /// What the device is.
    pub fn adapter(&self) -> &AdapterDescription {
        &self.gpu.adapter
    }

    /// What kernels may use of it.
    pub fn limits(&self) -> &GpuLimits {
        self.gpu.limits()
    }

    /// Records a call of any operator into the app's encoder, as a pass of its own: no submit, no wait, no readback. The
    /// first call of a problem compiles its kernels; later ones take microseconds. Blocks; see [`Engine::record_async`].
    ///
    /// `tensors` holds views by the contract's names, with axes in the order of the spec's layout; no others, and each
    /// once. They may lie in one buffer, outputs too, where their bytes do not overlap. Views that have moved by a multiple
    /// of the device's alignment (at most 256 bytes), such as those of another layer, are the same call: nothing is
    /// planned, compiled or made anew.
    ///
    /// ```no_run
    /// # use tilewise::attention::{AttentionSpec, Mask};
    /// # use tilewise::tensor::{Dtype, Layout, TensorView};
    /// # use tilewise::{Engine, Error};
    /// # fn layers(engine: &Engine, encoder: &mut wgpu::CommandEncoder, arena: &wgpu::Buffer) -> Result<(), Error> {
    /// // 32 layers of 8 key heads, 4096 keys and 128 dims; q and out behind them, all in one buffer.
    /// let cache = 8 * 4096 * 128;
    /// let spec = AttentionSpec { mask: Mask::causal(), ..AttentionSpec::default() };
    /// let view = |heads: u64, seq: u64, offset: u64| {
    ///     let strides = [heads * seq * 128, seq * 128, 128, 1];
    ///     let layout = Layout::new(&[1, heads, seq, 128], &strides, offset)?;
    ///     Ok::<_, Error>(TensorView::strided(arena, Dtype::F32, layout))
    /// };
    /// for layer in 0..32 {
    ///     let tensors = [
    ///         ("q", view(32, 1, 64 * cache)?),
    ///         ("k", view(8, 4096, 2 * layer * cache)?),
    ///         ("v", view(8, 4096, (2 * layer + 1) * cache)?),
    ///         ("out", view(32, 1, 64 * cache + 32 * 128)?),
    ///     ];
    ///     engine.record(encoder, &spec, &tensors)?;
    /// }
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`SpecError`](crate::SpecError) for a wrong problem, a tensor that is not asked for, and buffers as
    /// [`Prepared::record`] tells; [`PlanError`] for a problem that the device cannot take; [`GpuError`].
    #[cfg(not(target_arch = "wasm32"))]
    pub fn record<S: Spec>(
        &self,
        encoder: &mut wgpu::CommandEncoder,
        spec: &S,
        tensors: &Tensors<'_>,
    ) -> Result<(), Error> {
        pollster::block_on(self.record_with(Waiting::Block, encoder, spec, tensors))
    }

    /// [`Engine::record`] into a pass that is open, between the app's own dispatches, as [`Prepared::record_in`].
    ///
    /// # Errors
    /// As [`Engine::record`].
    #[cfg(not(target_arch = "wasm32"))]
    pub fn record_in<S: Spec>(
        &self,
        pass: &mut wgpu::ComputePass<'_>,
        spec: &S,
        tensors: &Tensors<'_>,
    ) -> Result<(), Error> {
        pollster::block_on(self.record_in_with(Waiting::Block, pass, spec, tensors))
    }

    /// [`Engine::record`] without threads and without blocking, for the browser. What wgpu refuses there is told later,
    /// as by [`Prepared::record`].
    ///
    /// # Errors
    /// As `Engine::record`.
    pub async fn record_async<S: Spec>(
        &self,
        encoder: &mut wgpu::CommandEncoder,
        spec: &S,
        tensors: &Tensors<'_>,
    ) -> Result<(), Error> {
        self.record_with(Waiting::Yield, encoder, spec, tensors).await
    }

    /// [`Engine::record_async`] into a pass that is open, as [`Prepared::record_in`].
    ///
    /// # Errors
    /// As `Engine::record`.
    pub async fn record_in_async<S: Spec>(
        &self,
        pass: &mut wgpu::ComputePass<'_>,
        spec: &S,
        tensors: &Tensors<'_>,
    ) -> Result<(), Error> {
        self.record_in_with(Waiting::Yield, pass, spec, tensors).await
    }

    async fn record_with<S: Spec>(
        &self,
        waiting: Waiting,
        encoder: &mut wgpu::CommandEncoder,
        spec: &S,
        tensors: &Tensors<'_>,
    ) -> Result<(), Error> {
        let (prepared, bound) = self.bound(waiting, spec, tensors).await?;
        prepared.write(encoder, &bound, None)
    }

    async fn record_in_with<S: Spec>(
        &self,
        waiting: Waiting,
        pass: &mut wgpu::ComputePass<'_>,
        spec: &S,
        tensors: &Tensors<'_>,
    ) -> Result<(), Error> {
        let (prepared, bound) = self.bound(waiting, spec, tensors).await?;
        prepared.write_in(pass, &bound)
    }

    /// The call of a spec, bound to its tensors' buffers.
    async fn bound<S: Spec>(
        &self,
        waiting: Waiting,
        spec: &S,
        tensors: &Tensors<'_>,
    ) -> Result<BoundTo<S::Problem>, Error> {
        // Kernels read whole vectors of 16 bytes, from where a binding begins.
        let alignment = u64::from(self.limits().storage_alignment).max(16);
        let asked = Asked { spec, tensors, alignment };
        let hash = asked.hash();
        let prepared = match self.calls.kept.find(hash, |known| asked.is(known)) {
            Some(prepared) => prepared,
            None => {
                refuse_twice(tensors.iter().map(|(name, _)| *name))?;
                let key = asked.kept();
                let problem = spec.ask(&by_name(&key))?;
                refuse_others(&problem, tensors.iter().map(|(name, _)| *name))?;
                let prepared = self.prepare_with(waiting, &problem, None).await?;
                self.calls.kept.keep(hash, key, &prepared);
                prepared
            }
        };
        let given = tensors.iter().map(|(name, view)| Given {
            name,
            buffer: view.buffer,
            shift: asked.shift(&view.desc),
        });
        let bound = prepared.bound_async(given).await?;
        Ok((prepared, bound))
    }

    /// Records and submits a call; returns at once.
    ///
    /// # Errors
    /// As [`Engine::record`].
    #[cfg(not(target_arch = "wasm32"))]
    pub fn submit<S: Spec>(&self, spec: &S, tensors: &Tensors<'_>) -> Result<(), Error> {
        pollster::block_on(self.submit_with(Waiting::Block, spec, tensors))
    }

    /// [`Engine::submit`] as [`Engine::record_async`] records.
    ///
    /// # Errors
    /// As [`Engine::record`].
    pub async fn submit_async<S: Spec>(
        &self,
        spec: &S,
        tensors: &Tensors<'_>,
    ) -> Result<(), Error> {
        self.submit_with(Waiting::Yield, spec, tensors).await
    }

    async fn submit_with<S: Spec>(
        &self,
        waiting: Waiting,
        spec: &S,
        tensors: &Tensors<'_>,
    ) -> Result<(), Error> {
        let descriptor = wgpu::CommandEncoderDescriptor { label: Some("tilewise") };
        let create = || self.gpu.device.create_command_encoder(&descriptor);
        let mut encoder = self.gpu.guarded("a call", create)?;
        self.record_with(waiting, &mut encoder, spec, tensors).await?;
        let commands = self.gpu.guarded("a call", || encoder.finish())?;
        self.gpu.submit("a call", commands)?;
        Ok(self.gpu.healthy()?)
    }

    /// Makes a problem ready: plans it and compiles its kernels, in parallel, once. `None` takes stored tiles, where
    /// the engine's policy and cache have some, else the heuristic's. Blocks; see [`Engine::prepare_async`].
    ///
    /// # Errors
    /// [`PlanError`] when tiles or tensors do not fit the device, [`GpuError`] when it fails.
    #[cfg(not(target_arch = "wasm32"))]
    pub fn prepare<O: Operator>(
        &self,
        operator: &O,
        tiles: Option<O::Tiles>,
    ) -> Result<Arc<Prepared<O>>, Error> {
        pollster::block_on(self.prepare_with(Waiting::Block, operator, tiles))
    }

    /// [`Engine::prepare`] without threads and without blocking, for the browser.
    ///
    /// # Errors
    /// [`PlanError`] when tiles or tensors do not fit the device, [`GpuError`] when it fails.
    pub async fn prepare_async<O: Operator>(
        &self,
        operator: &O,
        tiles: Option<O::Tiles>,
    ) -> Result<Arc<Prepared<O>>, Error> {
        self.prepare_with(Waiting::Yield, operator, tiles).await
    }

    pub(crate) async fn prepare_with<O: Operator>(
        &self,
        waiting: Waiting,
        operator: &O,
        tiles: Option<O::Tiles>,
    ) -> Result<Arc<Prepared<O>>, Error> {
        self.gpu.healthy()?;
        let asked = (operator.clone(), tiles);
        let hash = hash_of(&asked);
        if let Some(known) = self.calls.kept.find(hash, |known: &(O, _)| *known == asked) {
            return Ok(known);
        }
        self.limits().check_floor()?;
        let (chosen, plan) = self.choose(operator, tiles)?;
        let pipelines = self.gpu.pipelines(&plan, waiting).await?;
        let prepared = Prepared::new(&self.gpu, operator, chosen, plan, pipelines).await?;
        let prepared = Arc::new(prepared);
        self.calls.kept.keep(hash, asked, &prepared);
        // Kept calls hold their kernels: the oldest leave until those are few.
        while self.gpu.drop_idle_pipelines() && self.calls.kept.drop_oldest() {}
        Ok(prepared)
    }

    /// The tiles asked for, or stored ones, or the heuristic's, and their plan.
    fn choose<O: Operator>(
        &self,
        operator: &O,
        tiles: Option<O::Tiles>,
    ) -> Result<((O::Tiles, TilesFrom), Plan), PlanError> {
        let limits = self.limits();
        if let Some(tiles) = tiles {
            return Ok(((tiles, TilesFrom::Forced), operator.plan(limits, &tiles)?));
        }
        if let Some((tiles, plan)) = self.calls.tuner.stored(operator, self.adapter()) {
            return Ok(((tiles, TilesFrom::Stored), plan));
        }
        self.calls.tuner.note(operator);
        let tiles = operator.candidates(limits)?[0];
        Ok(((tiles, TilesFrom::Heuristic), operator.plan(limits, &tiles)?))
    }

    /// Compiles one kernel and runs nothing: for drivers that report on what they compile.
    #[cfg(feature = "cli")]
    pub(crate) fn compile(&self, shader: &Arc<Shader>) -> Result<(), GpuError> {
        pollster::block_on(self.gpu.pipeline(shader)).map(drop)
    }

    /// Writes what was compiled so far to the engine's cache folder, if it has one; so does dropping the engine and all
    /// that was prepared by it. The next process compiles less, where the driver keeps pipelines.
    ///
    /// # Errors
    /// What the file system says.
    pub fn save_pipelines(&self) -> std::io::Result<()> {
        self.gpu.save_pipelines()
    }

    /// What the engine holds beside the caller's tensors. Scratch comes from a pool that all calls share and that keeps
    /// at most [`KEPT_SCRATCH_BYTES`]; a call that needs more gets the rest for itself alone, made each time that it
    /// is recorded.
    pub fn memory(&self) -> EngineMemory {
        EngineMemory {
            scratch_bytes: self.gpu.scratch_bytes(),
            buffers_made: self.gpu.buffers_made(),
            pipelines: self.gpu.pipeline_count(),
        }
    }

    /// Lets the pool of scratch buffers go; calls that need scratch make it anew. Also lets go of the app's buffers: an
    /// engine holds those that calls were recorded with several times, until others come or this is called.
    pub fn free_scratch(&self) {
        self.gpu.free_scratch();
    }
}
