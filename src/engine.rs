//! The door: a device, its compiled kernels, and the calls prepared for it.

use std::any::{Any, TypeId};
use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::attention::{AttentionProblem, AttentionSpec, TensorDescs};
use crate::error::{Error, GpuError, PlanError, SpecError};
use crate::gpu::device::{AdapterChoice, AdapterDescription, describe, open};
use crate::gpu::limits::GpuLimits;
use crate::gpu::pipeline::{Pipeline, compile};
use crate::gpu::recording::{Bound, Plan, Slot};
use crate::gpu::shader::Shader;
use crate::operator::Operator;
use crate::tensor::{HostTensor, TensorDesc, TensorView};

/// How to open an engine.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EngineOptions {
    /// Which adapter.
    pub adapter: AdapterChoice,
    /// Every kernel keeps naga's bounds checks and loop bounds (several times slower; for hunting bugs).
    pub checked: bool,
    /// WebGPU's default limits and no features, whatever the device has.
    pub floor: bool,
}

/// Attention on one device. Cheap to clone; many threads may use one.
#[derive(Clone, Debug)]
pub struct Engine {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    device: wgpu::Device,
    queue: wgpu::Queue,
    adapter: AdapterDescription,
    checked: bool,
    /// The first error that nobody waited for, of a device that is the engine's own.
    fault: Arc<Mutex<Option<GpuError>>>,
    pipelines: Mutex<HashMap<Arc<Shader>, Arc<Pipeline>>>,
    prepared: Mutex<HashMap<TypeId, Box<dyn Any + Send>>>,
    scratch: Mutex<Vec<wgpu::Buffer>>,
    /// Bound where a tensor has no element.
    stand_in: wgpu::Buffer,
}

/// A question made ready for one device: plan, pipelines, params. Recording it again costs microseconds.
#[derive(Debug)]
pub struct Prepared<O: Operator> {
    /// The question.
    pub operator: O,
    /// The tiles it runs with.
    pub tiles: O::Tiles,
    /// Its launches.
    pub plan: Plan,
    engine: Engine,
    pipelines: Vec<Arc<Pipeline>>,
    params: wgpu::Buffer,
    param_offsets: Vec<u64>,
    needed: Vec<Needed>,
}

/// The calls of one operator that were prepared before.
type PreparedOf<O> = HashMap<(O, Option<<O as Operator>::Tiles>), Arc<Prepared<O>>>;

/// Buffers of an attention call by their names in the contract: `q`, `k`, `v`, `out`, and what the spec names.
pub type Tensors<'a> = [(&'a str, TensorView<'a>)];

impl Engine {
    /// Opens an adapter of the machine. Blocks; see [`Engine::open_async`].
    ///
    /// # Errors
    /// [`GpuError::NoAdapter`] naming the adapters there are; [`GpuError::NoDevice`].
    pub fn open(options: &EngineOptions) -> Result<Self, GpuError> {
        pollster::block_on(Self::open_async(options))
    }

    /// Opens an adapter of the machine, or of the browser.
    ///
    /// # Errors
    /// As [`Engine::open`].
    pub async fn open_async(options: &EngineOptions) -> Result<Self, GpuError> {
        let (device, queue) = open(&options.adapter, options.floor).await?;
        let engine = Self::new(device, queue, options);
        let fault = Arc::clone(&engine.shared.fault);
        let note = move |error| {
            lock(&fault).get_or_insert(error);
        };
        let lost = note.clone();
        engine.shared.device.set_device_lost_callback(move |reason, message| {
            lost(GpuError::Lost { message: format!("{reason:?} {message}").trim().to_owned() });
        });
        engine.shared.device.on_uncaptured_error(Arc::new(move |error| {
            note(from_wgpu("a call", 0, &error));
        }));
        Ok(engine)
    }

    /// An engine in an app's own device; what the device was opened with is what kernels use
    /// (`Features::SUBGROUP` serves them best). The app's error and loss handlers stay its own.
    pub fn from_device(device: wgpu::Device, queue: wgpu::Queue) -> Self {
        Self::new(device, queue, &EngineOptions::default())
    }

    fn new(device: wgpu::Device, queue: wgpu::Queue, options: &EngineOptions) -> Self {
        let adapter = describe(&device.adapter_info(), &device.limits(), device.features());
        let stand_in = device.create_buffer(&wgpu::BufferDescriptor {
            label: Some("tilewise stand-in"),
            size: 16,
            usage: wgpu::BufferUsages::STORAGE,
            mapped_at_creation: false,
        });
        let shared = Shared {
            device,
            queue,
            adapter,
            checked: options.checked,
            fault: Arc::default(),
            pipelines: Mutex::default(),
            prepared: Mutex::default(),
            scratch: Mutex::default(),
            stand_in,
        };
        Self { shared: Arc::new(shared) }
    }

    /// The device.
    pub fn device(&self) -> &wgpu::Device {
        &self.shared.device
    }

    /// Its queue.
    pub fn queue(&self) -> &wgpu::Queue {
        &self.shared.queue
    }

    /// What the device is.
    pub fn adapter(&self) -> &AdapterDescription {
        &self.shared.adapter
    }

    /// What kernels may use of it.
    pub fn limits(&self) -> &GpuLimits {
        &self.shared.adapter.limits
    }

    /// Records attention into the app's encoder: no submit, no wait, no readback. The first call of a question
    /// compiles its kernels; later ones take microseconds.
    ///
    /// `tensors` holds views by the contract's names, with axes in the order of `spec.layout`.
    ///
    /// # Errors
    /// [`SpecError`] for a wrong question, [`PlanError`] for one that the device cannot take, [`GpuError`].
    pub fn record_attention(
        &self,
        encoder: &mut wgpu::CommandEncoder,
        spec: &AttentionSpec,
        tensors: &Tensors<'_>,
    ) -> Result<(), Error> {
        let descs: TensorDescs =
            tensors.iter().map(|(name, view)| ((*name).to_owned(), view.desc.clone())).collect();
        let problem = AttentionProblem::new(spec, &descs)?;
        let buffers: Vec<(&str, &wgpu::Buffer)> =
            tensors.iter().map(|(name, view)| (*name, view.buffer)).collect();
        self.prepare(&problem, None)?.record(encoder, &buffers)
    }

    /// Records and submits attention; returns at once.
    ///
    /// # Errors
    /// As [`Engine::record_attention`].
    pub fn attention(&self, spec: &AttentionSpec, tensors: &Tensors<'_>) -> Result<(), Error> {
        let mut encoder = self.encoder();
        self.record_attention(&mut encoder, spec, tensors)?;
        self.shared.queue.submit([encoder.finish()]);
        self.healthy().map_err(Error::from)
    }

    /// Makes a question ready: plans it and compiles its kernels, in parallel, once. Blocks.
    ///
    /// # Errors
    /// [`PlanError`] when tiles or tensors do not fit the device, [`GpuError`] when it fails.
    pub fn prepare<O: Operator>(
        &self,
        operator: &O,
        tiles: Option<O::Tiles>,
    ) -> Result<Arc<Prepared<O>>, Error> {
        self.healthy()?;
        let key = (operator.clone(), tiles);
        if let Some(known) = self.known(&key) {
            return Ok(known);
        }
        let (tiles, plan) = self.choose(operator, tiles)?;
        let pipelines = self.pipelines(&plan)?;
        self.keep(key, self.assemble(operator, tiles, plan, pipelines)?)
    }

    /// [`Engine::prepare`] without threads and without blocking, for the browser.
    ///
    /// # Errors
    /// As [`Engine::prepare`].
    pub async fn prepare_async<O: Operator>(
        &self,
        operator: &O,
        tiles: Option<O::Tiles>,
    ) -> Result<Arc<Prepared<O>>, Error> {
        self.healthy()?;
        let key = (operator.clone(), tiles);
        if let Some(known) = self.known(&key) {
            return Ok(known);
        }
        let (tiles, plan) = self.choose(operator, tiles)?;
        let mut pipelines = Vec::new();
        for step in &plan.steps {
            pipelines.push(self.pipeline(&step.shader).await?);
        }
        self.keep(key, self.assemble(operator, tiles, plan, pipelines)?)
    }

    fn known<O: Operator>(&self, key: &(O, Option<O::Tiles>)) -> Option<Arc<Prepared<O>>> {
        let operators = lock(&self.shared.prepared);
        let calls = operators.get(&TypeId::of::<O>())?.downcast_ref::<PreparedOf<O>>()?;
        calls.get(key).cloned()
    }

    fn keep<O: Operator>(
        &self,
        key: (O, Option<O::Tiles>),
        prepared: Prepared<O>,
    ) -> Result<Arc<Prepared<O>>, Error> {
        let prepared = Arc::new(prepared);
        let mut operators = lock(&self.shared.prepared);
        let calls =
            operators.entry(TypeId::of::<O>()).or_insert_with(|| Box::new(PreparedOf::<O>::new()));
        if let Some(calls) = calls.downcast_mut::<PreparedOf<O>>() {
            calls.insert(key, Arc::clone(&prepared));
        }
        Ok(prepared)
    }

    /// The tiles asked for, or the heuristic's, and their plan.
    fn choose<O: Operator>(
        &self,
        operator: &O,
        tiles: Option<O::Tiles>,
    ) -> Result<(O::Tiles, Plan), PlanError> {
        let limits = self.limits();
        let tiles = match tiles {
            Some(tiles) => tiles,
            None => operator.candidates(limits)?[0],
        };
        Ok((tiles, operator.plan(limits, &tiles)?))
    }

    fn pipelines(&self, plan: &Plan) -> Result<Vec<Arc<Pipeline>>, GpuError> {
        #[cfg(not(target_arch = "wasm32"))]
        std::thread::scope(|scope| {
            let known = lock(&self.shared.pipelines).clone();
            let mut wanted: Vec<&Arc<Shader>> = Vec::new();
            for step in &plan.steps {
                if !known.contains_key(&step.shader) && !wanted.contains(&&step.shader) {
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

    /// Compiles one kernel and runs nothing: for drivers that report on what they compile.
    #[cfg(feature = "cli")]
    pub(crate) fn compile(&self, shader: &Arc<Shader>) -> Result<(), GpuError> {
        pollster::block_on(self.pipeline(shader)).map(drop)
    }

    async fn pipeline(&self, shader: &Arc<Shader>) -> Result<Arc<Pipeline>, GpuError> {
        if let Some(known) = lock(&self.shared.pipelines).get(shader) {
            return Ok(Arc::clone(known));
        }
        let pipeline = Arc::new(compile(&self.shared.device, shader, self.shared.checked).await?);
        lock(&self.shared.pipelines).insert(Arc::clone(shader), Arc::clone(&pipeline));
        Ok(pipeline)
    }

    fn assemble<O: Operator>(
        &self,
        operator: &O,
        tiles: O::Tiles,
        plan: Plan,
        pipelines: Vec<Arc<Pipeline>>,
    ) -> Result<Prepared<O>, GpuError> {
        let alignment = self.limits().uniform_alignment as usize;
        let mut bytes = Vec::new();
        let mut param_offsets = Vec::new();
        for step in &plan.steps {
            bytes.resize(bytes.len().next_multiple_of(alignment), 0);
            param_offsets.push(bytes.len() as u64);
            bytes.extend(&step.params);
        }
        bytes.resize(bytes.len().max(16), 0);
        let usage = wgpu::BufferUsages::UNIFORM | wgpu::BufferUsages::COPY_DST;
        let params = self.buffer("params", bytes.len() as u64, usage)?;
        self.shared.queue.write_buffer(&params, 0, &bytes);
        Ok(Prepared {
            operator: operator.clone(),
            tiles,
            plan,
            engine: self.clone(),
            pipelines,
            params,
            param_offsets,
            needed: Needed::of(operator),
        })
    }

    /// A buffer, or the error of having no memory for it.
    pub(crate) fn buffer(
        &self,
        what: &str,
        size: u64,
        usage: wgpu::BufferUsages,
    ) -> Result<wgpu::Buffer, GpuError> {
        if size > self.limits().buffer_bytes {
            return Err(GpuError::OutOfMemory { what: what.to_owned(), bytes: size });
        }
        let device = &self.shared.device;
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

    pub(crate) fn encoder(&self) -> wgpu::CommandEncoder {
        let descriptor = wgpu::CommandEncoderDescriptor { label: Some("tilewise") };
        self.shared.device.create_command_encoder(&descriptor)
    }

    /// Scratch buffers of at least these sizes, shared by all calls: one queue runs them one after the other.
    fn scratch(&self, sizes: &[u64]) -> Result<Vec<wgpu::Buffer>, GpuError> {
        let mut pool = lock(&self.shared.scratch);
        for (index, &size) in sizes.iter().enumerate() {
            let enough = pool.get(index).is_some_and(|buffer| buffer.size() >= size);
            if enough {
                continue;
            }
            let buffer = self.buffer("scratch", size, wgpu::BufferUsages::STORAGE)?;
            match pool.get_mut(index) {
                Some(place) => *place = buffer,
                None => pool.push(buffer),
            }
        }
        Ok(pool[..sizes.len()].to_vec())
    }

    /// The first error that nobody has seen yet, if any; a lost device stays lost.
    fn healthy(&self) -> Result<(), GpuError> {
        let mut fault = lock(&self.shared.fault);
        match &*fault {
            None => Ok(()),
            Some(lost @ GpuError::Lost { .. }) => Err(lost.clone()),
            Some(_) => fault.take().map_or(Ok(()), Err),
        }
    }

    /// Waits until the device has done all that was submitted.
    ///
    /// # Errors
    /// What went wrong since the last look, such as [`GpuError::Lost`].
    pub fn wait(&self) -> Result<(), GpuError> {
        let waited = self.shared.device.poll(wgpu::PollType::wait_indefinitely());
        self.healthy()?;
        waited.map(drop).map_err(|error| GpuError::Lost { message: error.to_string() })
    }

    /// Copies a tensor to a new storage buffer.
    ///
    /// # Errors
    /// [`GpuError::OutOfMemory`].
    pub fn upload(&self, name: &str, tensor: &HostTensor) -> Result<wgpu::Buffer, GpuError> {
        let usage = wgpu::BufferUsages::STORAGE
            | wgpu::BufferUsages::COPY_DST
            | wgpu::BufferUsages::COPY_SRC;
        let buffer = self.buffer(name, tensor.bytes.len() as u64, usage)?;
        let mut bytes = tensor.bytes.clone();
        bytes.resize(bytes.len().next_multiple_of(4), 0);
        self.shared.queue.write_buffer(&buffer, 0, &bytes);
        Ok(buffer)
    }

    /// Reads the first `size` bytes of a buffer back. Blocks.
    ///
    /// # Errors
    /// [`GpuError::Map`], [`GpuError::OutOfMemory`], [`GpuError::Lost`].
    pub fn download(&self, buffer: &wgpu::Buffer, size: u64) -> Result<Vec<u8>, GpuError> {
        pollster::block_on(self.download_async(buffer, size))
    }

    /// Reads the first `size` bytes of a buffer back.
    ///
    /// # Errors
    /// As [`Engine::download`].
    pub async fn download_async(
        &self,
        buffer: &wgpu::Buffer,
        size: u64,
    ) -> Result<Vec<u8>, GpuError> {
        let usage = wgpu::BufferUsages::MAP_READ | wgpu::BufferUsages::COPY_DST;
        let staging = self.buffer("a readback", size, usage)?;
        let mut encoder = self.encoder();
        encoder.copy_buffer_to_buffer(buffer, 0, &staging, 0, size.next_multiple_of(4));
        self.shared.queue.submit([encoder.finish()]);
        let map = |message: String| GpuError::Map { what: "a tensor".to_owned(), message };
        let mapped = Mapped::default();
        let signal = mapped.clone();
        staging.map_async(wgpu::MapMode::Read, .., move |result| signal.set(result));
        // The browser drives its own queue; elsewhere somebody has to.
        #[cfg(not(target_arch = "wasm32"))]
        self.wait()?;
        mapped.await.map_err(|error| map(error.to_string()))?;
        let range = staging.get_mapped_range(..).map_err(|error| map(error.to_string()))?;
        Ok(range[..size as usize].to_vec())
    }

    /// Uploads, runs and downloads in one go, outputs starting as NaN; for programs and tests, not for apps that have buffers. Blocks.
    ///
    /// # Errors
    /// As [`Engine::prepare`] and [`Engine::download`]; [`SpecError::MissingTensor`] for an input that is not there.
    pub fn run<O: Operator>(
        &self,
        operator: &O,
        tiles: Option<O::Tiles>,
        inputs: &BTreeMap<String, HostTensor>,
    ) -> Result<BTreeMap<String, HostTensor>, Error> {
        let prepared = self.prepare(operator, tiles)?;
        let mut buffers = Vec::new();
        for (name, desc) in operator.tensors() {
            let host = if operator.outputs().contains(&name) {
                let bytes = desc.layout.end().unwrap_or(0) * desc.dtype.bytes();
                HostTensor { dtype: desc.dtype, shape: vec![], bytes: vec![0xff; bytes as usize] }
            } else {
                inputs.get(name).cloned().ok_or_else(|| SpecError::MissingTensor {
                    name: name.to_owned(),
                    why: "an input of this call".to_owned(),
                })?
            };
            buffers.push((name, self.upload(name, &host)?));
        }
        let bound: Vec<(&str, &wgpu::Buffer)> = buffers.iter().map(|(n, b)| (*n, b)).collect();
        let mut encoder = self.encoder();
        prepared.record(&mut encoder, &bound)?;
        self.shared.queue.submit([encoder.finish()]);
        let mut outputs = BTreeMap::new();
        for (name, desc) in operator.tensors() {
            let Some((_, buffer)) = buffers.iter().find(|(known, _)| *known == name) else {
                continue;
            };
            if operator.outputs().contains(&name) {
                let size = desc.layout.end().unwrap_or(0) * desc.dtype.bytes();
                let bytes = self.download(buffer, size)?;
                let shape = desc.layout.shape.clone();
                outputs.insert(name.to_owned(), HostTensor { dtype: desc.dtype, shape, bytes });
            }
        }
        Ok(outputs)
    }
}

impl<O: Operator> Prepared<O> {
    /// Records the call into an encoder: no submit, no wait. `buffers` are those of the views that the question was
    /// made of, by name.
    ///
    /// # Errors
    /// [`SpecError`] for a buffer that is missing, too small, without `STORAGE`, or shared between an output and
    /// another tensor; [`GpuError::OutOfMemory`] for scratch.
    pub fn record(
        &self,
        encoder: &mut wgpu::CommandEncoder,
        buffers: &[(&str, &wgpu::Buffer)],
    ) -> Result<(), Error> {
        self.check_buffers(buffers)?;
        let scratch = self.engine.scratch(&self.plan.scratch)?;
        let device = &self.engine.shared.device;
        let stand_in = &self.engine.shared.stand_in;
        let mut pass = encoder.begin_compute_pass(&wgpu::ComputePassDescriptor::default());
        for (index, step) in self.plan.steps.iter().enumerate() {
            let pipeline = &self.pipelines[index];
            let params = wgpu::BufferBinding {
                buffer: &self.params,
                offset: self.param_offsets[index],
                size: wgpu::BufferSize::new(step.params.len() as u64),
            };
            let mut entries = vec![wgpu::BindGroupEntry {
                binding: 0,
                resource: wgpu::BindingResource::Buffer(params),
            }];
            for (binding, Bound { slot, offset, size }) in step.bindings.iter().enumerate() {
                let buffer = match slot {
                    _ if *size == 0 => stand_in,
                    Slot::Scratch(index) => &scratch[*index],
                    Slot::Tensor(name) => find(buffers, name)?,
                };
                entries.push(wgpu::BindGroupEntry {
                    binding: binding as u32 + 1,
                    resource: wgpu::BindingResource::Buffer(wgpu::BufferBinding {
                        buffer,
                        offset: *offset,
                        size: wgpu::BufferSize::new((*size).max(16)).filter(|_| *size > 0),
                    }),
                });
            }
            let group = device.create_bind_group(&wgpu::BindGroupDescriptor {
                label: Some(step.shader.entry),
                layout: &pipeline.layout,
                entries: &entries,
            });
            let [x, y, z] = step.grid;
            pass.set_pipeline(&pipeline.pipeline);
            pass.set_bind_group(0, &group, &[]);
            pass.dispatch_workgroups(x, y, z);
        }
        Ok(())
    }

    fn check_buffers(&self, buffers: &[(&str, &wgpu::Buffer)]) -> Result<(), SpecError> {
        for Needed { name, bytes, written } in &self.needed {
            let buffer = find(buffers, name)?;
            if !buffer.usage().contains(wgpu::BufferUsages::STORAGE) {
                let got = format!("{:?}", buffer.usage());
                return Err(SpecError::value(format!("{name}'s buffer"), "usage STORAGE", got));
            }
            if buffer.size() < *bytes {
                let expected = format!("{bytes} bytes (whole words)");
                return Err(SpecError::value(format!("{name}'s buffer"), expected, buffer.size()));
            }
            let shares = |(other, it): &&(&str, &wgpu::Buffer)| other != name && *it == buffer;
            if *written && let Some((other, _)) = buffers.iter().find(shares) {
                let expected = "a buffer of its own (WebGPU forbids to write and bind one twice)";
                return Err(SpecError::value(name, expected, format!("the buffer of {other}")));
            }
        }
        Ok(())
    }
}

/// What a call needs of a buffer.
#[derive(Debug)]
struct Needed {
    name: String,
    bytes: u64,
    written: bool,
}

impl Needed {
    fn of<O: Operator>(operator: &O) -> Vec<Self> {
        let outputs = operator.outputs();
        let need = |(name, desc): (&str, TensorDesc)| {
            let bytes = desc.layout.end().unwrap_or(u64::MAX).saturating_mul(desc.dtype.bytes());
            Self {
                name: name.to_owned(),
                bytes: bytes.checked_next_multiple_of(4).unwrap_or(u64::MAX),
                written: outputs.contains(&name),
            }
        };
        operator.tensors().into_iter().map(need).collect()
    }
}

fn find<'a>(
    buffers: &[(&str, &'a wgpu::Buffer)],
    name: &str,
) -> Result<&'a wgpu::Buffer, SpecError> {
    buffers.iter().find(|(known, _)| *known == name).map(|(_, buffer)| *buffer).ok_or_else(|| {
        SpecError::MissingTensor { name: name.to_owned(), why: "no buffer was given".to_owned() }
    })
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn from_wgpu(what: &str, bytes: u64, error: &wgpu::Error) -> GpuError {
    match error {
        wgpu::Error::OutOfMemory { .. } => GpuError::OutOfMemory { what: what.to_owned(), bytes },
        other => GpuError::Validation { what: what.to_owned(), message: other.to_string() },
    }
}

/// The result of a mapping, awaited.
#[derive(Clone, Debug, Default)]
struct Mapped(Arc<Mutex<(Option<MapResult>, Option<std::task::Waker>)>>);

type MapResult = Result<(), wgpu::BufferAsyncError>;

impl Mapped {
    fn set(&self, result: Result<(), wgpu::BufferAsyncError>) {
        let mut state = lock(&self.0);
        state.0 = Some(result);
        if let Some(waker) = state.1.take() {
            waker.wake();
        }
    }
}

impl Future for Mapped {
    type Output = Result<(), wgpu::BufferAsyncError>;

    fn poll(
        self: std::pin::Pin<&mut Self>,
        context: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Self::Output> {
        let mut state = lock(&self.0);
        match state.0.take() {
            Some(result) => std::task::Poll::Ready(result),
            None => {
                state.1 = Some(context.waker().clone());
                std::task::Poll::Pending
            }
        }
    }
}
