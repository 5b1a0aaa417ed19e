//! A problem's own tensors on the device, on which candidates run, and the clock that times them.

use std::sync::Arc;

use web_time::Instant;

use crate::error::{Error, SpecError};
use crate::gpu::context::Gpu;
use crate::gpu::signal::Waiting;
use crate::gpu::stamps::Stamps;
use crate::operator::Operator;
use crate::prepared::Prepared;
use crate::tensor::{HostTensor, TensorDesc};

/// Seed of the inputs.
const SEED: u64 = 1;

/// Buffers of a problem, with inputs in them.
pub(super) struct Stand<'a, O: Operator> {
    gpu: &'a Arc<Gpu>,
    operator: &'a O,
    waiting: Waiting,
    buffers: Vec<(String, wgpu::Buffer)>,
    clock: Clock,
}

/// What tells the time.
enum Clock {
    /// The device's own: its work alone counts.
    Device(Stamps),
    /// CPU time of the process: a software adapter shares its cores with others.
    #[cfg(not(target_arch = "wasm32"))]
    Processor,
    /// From submission to completion.
    Wall,
}

impl Clock {
    async fn of(gpu: &Gpu) -> Result<Self, Error> {
        #[cfg(not(target_arch = "wasm32"))]
        if gpu.adapter.is_software() {
            return Ok(Self::Processor);
        }
        Ok(Stamps::new(gpu, 1).await?.map_or(Self::Wall, Self::Device))
    }
}

/// An output as a candidate left it.
pub(super) struct Output {
    pub name: String,
    pub values: HostTensor,
}

impl<'a, O: Operator> Stand<'a, O> {
    /// Makes the tensors; outputs wait for [`Stand::poison`].
    pub async fn new(gpu: &'a Arc<Gpu>, operator: &'a O, waiting: Waiting) -> Result<Self, Error> {
        let mut inputs = operator.sample(SEED);
        let outputs = operator.outputs();
        let mut buffers = Vec::new();
        for (name, desc) in operator.tensors() {
            let usage = wgpu::BufferUsages::STORAGE
                | wgpu::BufferUsages::COPY_DST
                | wgpu::BufferUsages::COPY_SRC;
            let buffer = gpu.buffer(name, desc.bytes(), usage).await?;
            if !outputs.contains(&name) {
                let missing = || SpecError::MissingTensor {
                    name: name.to_owned(),
                    why: "the operator makes no sample of it".to_owned(),
                };
                let input = inputs.remove(name).ok_or_else(missing)?;
                gpu.write(name, &buffer, &placed(&desc, input))?;
            }
            buffers.push((name.to_owned(), buffer));
        }
        Ok(Self { gpu, operator, waiting, buffers, clock: Clock::of(gpu).await? })
    }

    /// Whether a call takes as long after a pause as amid work: processors do, GPUs lower their clocks.
    pub fn is_steady(&self) -> bool {
        self.gpu.adapter.is_software()
    }

    /// Fills the outputs with NaN, so that what a candidate does not write shows.
    pub fn poison(&self) -> Result<(), Error> {
        for (name, desc, buffer) in self.outputs() {
            self.gpu.write(name, buffer, &vec![0xff; desc.bytes() as usize])?;
        }
        Ok(())
    }

    fn outputs(&self) -> impl Iterator<Item = (&str, TensorDesc, &wgpu::Buffer)> {
        let names = self.operator.outputs();
        let tensors = self.operator.tensors().into_iter().zip(&self.buffers);
        tensors
            .map(|((_, desc), (name, buffer))| (name.as_str(), desc, buffer))
            .filter(move |(name, ..)| names.contains(name))
    }

    /// Reads the outputs.
    pub async fn results(&self) -> Result<Vec<Output>, Error> {
        let mut results = Vec::new();
        for (name, desc, buffer) in self.outputs() {
            let bytes = self.gpu.download(buffer, ..desc.bytes(), self.waiting).await?;
            results.push(Output { name: name.to_owned(), values: taken(&desc, bytes) });
        }
        Ok(results)
    }

    /// Runs a call so many times in one submission, and waits; the milliseconds of one.
    pub async fn run(&self, prepared: &Prepared<O>, calls: u32) -> Result<f64, Error> {
        let bound: Vec<(&str, &wgpu::Buffer)> =
            self.buffers.iter().map(|(name, buffer)| (name.as_str(), buffer)).collect();
        let commands = self.gpu.record("measuring", |encoder| {
            for call in 0..calls {
                let writes = match &self.clock {
                    Clock::Device(stamps) => {
                        stamps.of_pass((call == 0).then_some(0), (call + 1 == calls).then_some(0))
                    }
                    _ => None,
                };
                prepared.record_timed(encoder, &bound, writes)?;
            }
            if let Clock::Device(stamps) = &self.clock {
                stamps.resolve(encoder);
            }
            Ok(())
        })?;
        let ms = self.submit(commands).await?;
        Ok(ms / f64::from(calls))
    }

    /// Submits, waits, and tells the milliseconds.
    async fn submit(&self, commands: wgpu::CommandBuffer) -> Result<f64, Error> {
        #[cfg(not(target_arch = "wasm32"))]
        let processor = cpu_time::ProcessTime::now();
        let wall = Instant::now();
        self.gpu.submit("measuring", commands)?;
        self.gpu.finished(self.waiting).await?;
        let time = match &self.clock {
            #[cfg(not(target_arch = "wasm32"))]
            Clock::Processor => processor.elapsed(),
            Clock::Wall => wall.elapsed(),
            Clock::Device(stamps) => return Ok(stamps.read(self.gpu, self.waiting).await?[0]),
        };
        Ok(time.as_secs_f64() * 1e3)
    }
}

/// A buffer's bytes with the tensor's elements at their places.
fn placed(desc: &TensorDesc, tensor: HostTensor) -> Vec<u8> {
    let size = desc.dtype.bytes() as usize;
    if desc.layout.offset() == 0 && desc.layout.is_contiguous() {
        return tensor.bytes;
    }
    let mut bytes = vec![0; desc.bytes() as usize];
    for (element, place) in tensor.bytes.chunks_exact(size).zip(desc.layout.places()) {
        bytes[place as usize * size..][..size].copy_from_slice(element);
    }
    bytes
}

/// The tensor's elements of a buffer's bytes.
fn taken(desc: &TensorDesc, bytes: Vec<u8>) -> HostTensor {
    let (dtype, shape) = (desc.dtype, desc.shape().to_vec());
    if desc.layout.offset() == 0 && desc.layout.is_contiguous() {
        return HostTensor { dtype, shape, bytes };
    }
    let size = dtype.bytes() as usize;
    let places = desc.layout.places();
    let bytes = places.flat_map(|place| bytes[place as usize * size..][..size].to_vec()).collect();
    HostTensor { dtype, shape, bytes }
}
