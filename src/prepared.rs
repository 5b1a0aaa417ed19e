//! A problem made ready for one device.

use std::sync::Arc;

use crate::error::{Error, GpuError, SpecError};
use crate::gpu::context::Gpu;
use crate::gpu::pipeline::Pipeline;
use crate::gpu::recording::{Bound, Grid, Plan, Slot};
use crate::gpu::stamps::Stamps;
use crate::names::{refuse_others, refuse_twice};
use crate::operator::{Operator, TilesFrom};
use crate::tensor::TensorDesc;

/// A problem made ready for one device: plan, pipelines, params. Recording it again costs microseconds.
///
/// It records what was proven of its problem, and is not changed:
///
/// ```compile_fail,E0616
/// use tilewise::attention::AttentionProblem;
/// fn other(prepared: &mut tilewise::Prepared<AttentionProblem>, problem: AttentionProblem) {
///     prepared.operator = problem;
/// }
/// ```
#[derive(Debug)]
pub struct Prepared<O: Operator> {
    pub(crate) operator: O,
    pub(crate) tiles: O::Tiles,
    pub(crate) tiles_from: TilesFrom,
    pub(crate) plan: Plan,
    gpu: Arc<Gpu>,
    pipelines: Vec<Arc<Pipeline>>,
    params: wgpu::Buffer,
    param_offsets: Vec<u64>,
    needed: Vec<Needed>,
}

impl<O: Operator> Prepared<O> {
    pub(crate) async fn new(
        gpu: &Arc<Gpu>,
        operator: &O,
        (tiles, tiles_from): (O::Tiles, TilesFrom),
        plan: Plan,
        pipelines: Vec<Arc<Pipeline>>,
    ) -> Result<Self, GpuError> {
        let param_offsets = plan.params_offsets(gpu.limits());
        let mut bytes = vec![0; plan.params_bytes(gpu.limits()) as usize];
        for (step, &offset) in plan.steps.iter().zip(&param_offsets) {
            bytes[offset as usize..][..step.params.len()].copy_from_slice(&step.params);
        }
        let usage = wgpu::BufferUsages::UNIFORM | wgpu::BufferUsages::COPY_DST;
        let params = gpu.buffer("params", bytes.len() as u64, usage).await?;
        gpu.write("params", &params, &bytes)?;
        Ok(Self {
            operator: operator.clone(),
            tiles,
            tiles_from,
            plan,
            gpu: Arc::clone(gpu),
            pipelines,
            params,
            param_offsets,
            needed: Needed::of(operator),
        })
    }

    /// The problem.
    pub const fn operator(&self) -> &O {
        &self.operator
    }

    /// The tiles it runs with.
    pub const fn tiles(&self) -> O::Tiles {
        self.tiles
    }

    /// Where the tiles come from.
    pub const fn tiles_from(&self) -> TilesFrom {
        self.tiles_from
    }

    /// Its launches.
    pub const fn plan(&self) -> &Plan {
        &self.plan
    }

    /// Records the call into an encoder: no submit, no wait. `buffers` are those of the views that the problem was
    /// made of, by name. Where it fails, nothing was recorded, unless the device was lost meanwhile. In a browser, what
    /// wgpu refuses is told later, by the next call that waits ([`Engine::wait_async`](crate::Engine::wait_async),
    /// [`Engine::download_async`](crate::Engine::download_async)).
    ///
    /// # Errors
    /// [`SpecError`] for a buffer that is missing, named twice, of a tensor that the problem has not, too small, without `STORAGE`, or shared between an
    /// output and another tensor; [`GpuError::OutOfMemory`] for scratch; [`GpuError::Validation`] for a buffer that is
    /// destroyed or another device's; [`GpuError::Lost`].
    pub fn record(
        &self,
        encoder: &mut wgpu::CommandEncoder,
        buffers: &[(&str, &wgpu::Buffer)],
    ) -> Result<(), Error> {
        self.record_timed(encoder, buffers, None)
    }

    /// [`Prepared::record`] that writes the device's time when the call begins and ends.
    pub(crate) fn record_timed(
        &self,
        encoder: &mut wgpu::CommandEncoder,
        buffers: &[(&str, &wgpu::Buffer)],
        timestamp_writes: Option<wgpu::ComputePassTimestampWrites<'_>>,
    ) -> Result<(), Error> {
        let bound = self.bind(buffers)?;
        self.gpu.guarded("recording a call", || {
            let mut pass = encoder.begin_compute_pass(&pass_of("tilewise", timestamp_writes));
            for index in 0..self.plan.steps.len() {
                self.dispatch(&mut pass, index, &bound);
            }
        })?;
        Ok(())
    }

    /// [`Prepared::record`] with a pass for each step, whose times the device writes.
    pub(crate) fn record_steps(
        &self,
        encoder: &mut wgpu::CommandEncoder,
        buffers: &[(&str, &wgpu::Buffer)],
        stamps: &Stamps,
    ) -> Result<(), Error> {
        let bound = self.bind(buffers)?;
        self.gpu.guarded("recording a call", || {
            for (index, step) in self.plan.steps.iter().enumerate() {
                let pair = Some(index as u32);
                let writes = stamps.of_pass(pair, pair);
                let mut pass = encoder.begin_compute_pass(&pass_of(step.shader.entry, writes));
                self.dispatch(&mut pass, index, &bound);
            }
        })?;
        Ok(())
    }

    /// What the steps bind, made before anything is recorded: an encoder that takes a wrong binding is spoilt.
    fn bind(&self, buffers: &[(&str, &wgpu::Buffer)]) -> Result<BoundSteps, Error> {
        self.check_buffers(buffers)?;
        let scratch = self.gpu.scratch(&self.plan.scratch)?;
        let stand_in = self.gpu.stand_in()?;
        let groups = self.gpu.guarded("binding a call's buffers", || {
            let steps = 0..self.plan.steps.len();
            let group = |index| self.bind_group(index, buffers, &scratch, stand_in);
            steps.map(group).collect::<Result<Vec<_>, SpecError>>()
        })??;
        Ok(BoundSteps { groups, scratch })
    }

    fn bind_group(
        &self,
        index: usize,
        buffers: &[(&str, &wgpu::Buffer)],
        scratch: &[wgpu::Buffer],
        stand_in: &wgpu::Buffer,
    ) -> Result<wgpu::BindGroup, SpecError> {
        let (step, pipeline) = (&self.plan.steps[index], &self.pipelines[index]);
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
                    size: wgpu::BufferSize::new(*size),
                }),
            });
        }
        Ok(self.gpu.device.create_bind_group(&wgpu::BindGroupDescriptor {
            label: Some(step.shader.entry),
            layout: &pipeline.layout,
            entries: &entries,
        }))
    }

    fn dispatch(&self, pass: &mut wgpu::ComputePass<'_>, index: usize, bound: &BoundSteps) {
        pass.set_pipeline(&self.pipelines[index].pipeline);
        pass.set_bind_group(0, &bound.groups[index], &[]);
        match self.plan.steps[index].grid {
            Grid::Direct([x, y, z]) => pass.dispatch_workgroups(x, y, z),
            Grid::Indirect { scratch, offset } => {
                pass.dispatch_workgroups_indirect(&bound.scratch[scratch], offset);
            }
        }
    }

    fn check_buffers(&self, buffers: &[(&str, &wgpu::Buffer)]) -> Result<(), SpecError> {
        refuse_twice(buffers.iter().map(|(name, _)| *name))?;
        refuse_others(&self.operator, buffers.iter().map(|(name, _)| *name))?;
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

fn pass_of<'a>(
    label: &'a str,
    timestamp_writes: Option<wgpu::ComputePassTimestampWrites<'a>>,
) -> wgpu::ComputePassDescriptor<'a> {
    wgpu::ComputePassDescriptor { label: Some(label), timestamp_writes }
}

/// What a call's steps bind, and the scratch buffers that hold their grids.
struct BoundSteps {
    groups: Vec<wgpu::BindGroup>,
    scratch: Vec<wgpu::Buffer>,
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
        let need = |(name, desc): (&str, TensorDesc)| Self {
            name: name.to_owned(),
            bytes: desc.bytes().checked_next_multiple_of(4).unwrap_or(u64::MAX),
            written: outputs.contains(&name),
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
