//! A question's own tensors on the device, on which candidates run, and the clock that times them.

use std::sync::Arc;

use web_time::Instant;

use crate::error::{Error, SpecError};
use crate::gpu::context::{Gpu, Waiting};
use crate::operator::Operator;
use crate::prepared::Prepared;
use crate::tensor::{HostTensor, TensorDesc};

/// Seed of the inputs.
const SEED: u64 = 1;

/// Buffers of a question, with inputs in them.
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
    Timestamps { queries: wgpu::QuerySet, resolved: wgpu::Buffer },
    /// CPU time of the process: a software adapter shares its cores with others.
    #[cfg(not(target_arch = "wasm32"))]
    Processor,
    /// From submission to completion.
    Wall,
}

impl Clock {
    fn of(gpu: &Gpu) -> Result<Self, Error> {
        #[cfg(not(target_arch = "wasm32"))]
        if gpu.adapter.is_software() {
            return Ok(Self::Processor);
        }
        if !gpu.device.features().contains(wgpu::Features::TIMESTAMP_QUERY) {
            return Ok(Self::Wall);
        }
        let queries = gpu.device.create_query_set(&wgpu::QuerySetDescriptor {
            label: Some("tilewise"),
            ty: wgpu::QueryType::Timestamp,
            count: 2,
        });
        let usage = wgpu::BufferUsages::QUERY_RESOLVE | wgpu::BufferUsages::COPY_SRC;
        Ok(Self::Timestamps { queries, resolved: gpu.buffer("timestamps", 16, usage)? })
    }
}

/// An output as a candidate left it.
pub(super) struct Output {
    pub name: String,
    pub values: HostTensor,
}

impl<'a, O: Operator> Stand<'a, O> {
    /// Makes the tensors; outputs wait for [`Stand::poison`].
    pub fn new(gpu: &'a Arc<Gpu>, operator: &'a O, waiting: Waiting) -> Result<Self, Error> {
        let mut inputs = operator.sample(SEED);
        let outputs = operator.outputs();
        let mut buffers = Vec::new();
        for (name, desc) in operator.tensors() {
            let usage = wgpu::BufferUsages::STORAGE
                | wgpu::BufferUsages::COPY_DST
                | wgpu::BufferUsages::COPY_SRC;
            let buffer = gpu.buffer(name, desc.bytes(), usage)?;
            if !outputs.contains(&name) {
                let missing = || SpecError::MissingTensor {
                    name: name.to_owned(),
                    why: "the operator makes no sample of it".to_owned(),
                };
                let input = inputs.remove(name).ok_or_else(missing)?;
                gpu.queue.write_buffer(&buffer, 0, &placed(&desc, input));
            }
            buffers.push((name.to_owned(), buffer));
        }
        Ok(Self { gpu, operator, waiting, buffers, clock: Clock::of(gpu)? })
    }

    /// Fills the outputs with NaN, so that what a candidate does not write shows.
    pub fn poison(&self) {
        for (name, desc, buffer) in self.outputs() {
            let bytes = (desc.bytes() as usize).next_multiple_of(4);
            debug_assert!(buffer.size() as usize >= bytes, "{name}");
            self.gpu.queue.write_buffer(buffer, 0, &vec![0xff; bytes]);
        }
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
            let bytes = self.gpu.download(buffer, desc.bytes(), self.waiting).await?;
            results.push(Output { name: name.to_owned(), values: taken(&desc, bytes) });
        }
        Ok(results)
    }

    /// Runs a call so many times in one submission, and waits; the milliseconds of one.
    pub async fn run(&self, prepared: &Prepared<O>, calls: u32) -> Result<f64, Error> {
        let bound: Vec<(&str, &wgpu::Buffer)> =
            self.buffers.iter().map(|(name, buffer)| (name.as_str(), buffer)).collect();
        let mut encoder = self.gpu.encoder();
        for call in 0..calls {
            let writes = match &self.clock {
                Clock::Timestamps { queries, .. } => Some(wgpu::ComputePassTimestampWrites {
                    query_set: queries,
                    beginning_of_pass_write_index: (call == 0).then_some(0),
                    end_of_pass_write_index: (call + 1 == calls).then_some(1),
                }),
                _ => None,
            };
            prepared.record_timed(&mut encoder, &bound, writes)?;
        }
        if let Clock::Timestamps { queries, resolved } = &self.clock {
            encoder.resolve_query_set(queries, 0..2, resolved, 0);
        }
        let ms = self.submit(encoder).await?;
        Ok(ms / f64::from(calls))
    }

    /// Submits, waits, and tells the milliseconds.
    async fn submit(&self, encoder: wgpu::CommandEncoder) -> Result<f64, Error> {
        #[cfg(not(target_arch = "wasm32"))]
        let processor = cpu_time::ProcessTime::now();
        let wall = Instant::now();
        self.gpu.queue.submit([encoder.finish()]);
        self.gpu.finished(self.waiting).await?;
        let time = match &self.clock {
            #[cfg(not(target_arch = "wasm32"))]
            Clock::Processor => processor.elapsed(),
            Clock::Wall => wall.elapsed(),
            Clock::Timestamps { resolved, .. } => {
                let bytes = self.gpu.download(resolved, 16, self.waiting).await?;
                let ticks = |at: usize| bytes[at..at + 8].iter().rev();
                let number = |at| ticks(at).fold(0_u64, |all, byte| all << 8 | u64::from(*byte));
                let period = f64::from(self.gpu.queue.get_timestamp_period());
                return Ok(number(8).saturating_sub(number(0)) as f64 * period / 1e6);
            }
        };
        Ok(time.as_secs_f64() * 1e3)
    }
}

/// A buffer's bytes with the tensor's elements at their places.
fn placed(desc: &TensorDesc, tensor: HostTensor) -> Vec<u8> {
    let size = desc.dtype.bytes() as usize;
    let whole = (desc.bytes() as usize).next_multiple_of(4);
    if desc.layout.offset == 0 && desc.layout.is_contiguous() {
        let mut bytes = tensor.bytes;
        bytes.resize(whole, 0);
        return bytes;
    }
    let mut bytes = vec![0; whole];
    for (element, place) in tensor.bytes.chunks_exact(size).zip(desc.layout.places()) {
        bytes[place as usize * size..][..size].copy_from_slice(element);
    }
    bytes
}

/// The tensor's elements of a buffer's bytes.
fn taken(desc: &TensorDesc, bytes: Vec<u8>) -> HostTensor {
    let (dtype, shape) = (desc.dtype, desc.shape().to_vec());
    if desc.layout.offset == 0 && desc.layout.is_contiguous() {
        return HostTensor { dtype, shape, bytes };
    }
    let size = dtype.bytes() as usize;
    let places = desc.layout.places();
    let bytes = places.flat_map(|place| bytes[place as usize * size..][..size].to_vec()).collect();
    HostTensor { dtype, shape, bytes }
}
