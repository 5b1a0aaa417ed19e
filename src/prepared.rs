//! A problem made ready for one device.

mod bind;
mod given;
mod overlap;

use std::sync::{Arc, Mutex};

use self::bind::{Sharing, StepSlots};
use self::given::Needed;
use crate::error::{Error, GpuError};
use crate::gpu::bound::{BoundCall, Given, Givens};
use crate::gpu::context::Gpu;
use crate::gpu::params::ParamsPlace;
use crate::gpu::pipeline::Pipeline;
use crate::gpu::recording::Plan;
use crate::gpu::stamps::Stamps;
use crate::operator::{Operator, TilesFrom};

/// A problem made ready for one device: plan, pipelines, params. Recording it again costs microseconds.
///
/// Its tensors may lie in one buffer, outputs too, where their bytes do not overlap. Kernels declare what shares a buffer
/// with something they write as writable too, and are compiled so when the first such call is recorded; in a browser
/// [`Engine::record_async`](crate::Engine::record_async) does that, and neighbours there lie 256 bytes apart.
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
    /// Its number among the engine's calls.
    number: u64,
    pipelines: Vec<Arc<Pipeline>>,
    /// Kernels of steps whose tensors share a buffer with what the step writes.
    sharing: Mutex<Vec<Sharing>>,
    params: ParamsPlace,
    param_offsets: Vec<u64>,
    needed: Vec<Needed>,
    slots: Vec<StepSlots>,
}

/// Buffers of a call by its tensors' names.
type Buffers<'a> = [(&'a str, &'a wgpu::Buffer)];

/// Buffers whose tensors lie where the problem has them.
fn given<'a>(buffers: &'a Buffers<'a>) -> impl Givens<'a> {
    buffers.iter().map(|(name, buffer)| Given { name, buffer, shift: 0 })
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
        let needed = Needed::of(operator);
        Ok(Self {
            operator: operator.clone(),
            tiles,
            tiles_from,
            gpu: Arc::clone(gpu),
            number: gpu.next_call(),
            pipelines,
            sharing: Mutex::default(),
            params: gpu.params(&bytes).await?,
            param_offsets,
            slots: StepSlots::of(&plan, &needed),
            needed,
            plan,
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

    /// Records the call into an encoder, as a pass of its own: no submit, no wait. `buffers` are those of the views that
    /// the problem was made of, by name. Where it fails, nothing was recorded, unless the device was lost meanwhile. In a
    /// browser, what wgpu refuses is told later, by the next call that waits
    /// ([`Engine::wait_async`](crate::Engine::wait_async), [`Engine::download_async`](crate::Engine::download_async)).
    ///
    /// # Errors
    /// [`SpecError`](crate::SpecError) for a buffer that is missing, named twice, of a tensor that the problem has not, too
    /// small, without `STORAGE`, and for an output whose bytes another tensor has too; [`GpuError::OutOfMemory`] for
    /// scratch; [`GpuError::Validation`] for a buffer that is destroyed or another device's; [`GpuError::Lost`].
    pub fn record(
        &self,
        encoder: &mut wgpu::CommandEncoder,
        buffers: &[(&str, &wgpu::Buffer)],
    ) -> Result<(), Error> {
        let bound = self.bound(given(buffers))?;
        self.write(encoder, &bound, None)
    }

    /// [`Prepared::record`] into a pass that is open, between the app's own dispatches. It leaves another pipeline and
    /// another bind group 0 set. Whoever wants the call's time gives the pass `timestamp_writes`:
    ///
    /// ```no_run
    /// # fn timed<O: tilewise::operator::Operator>(
    /// #     prepared: &tilewise::Prepared<O>, encoder: &mut wgpu::CommandEncoder, queries: &wgpu::QuerySet,
    /// #     buffers: &[(&str, &wgpu::Buffer)],
    /// # ) -> Result<(), tilewise::Error> {
    /// let writes = wgpu::ComputePassTimestampWrites {
    ///     query_set: queries,
    ///     beginning_of_pass_write_index: Some(0),
    ///     end_of_pass_write_index: Some(1),
    /// };
    /// let mut pass = encoder.begin_compute_pass(&wgpu::ComputePassDescriptor {
    ///     label: Some("attention"),
    ///     timestamp_writes: Some(writes),
    /// });
    /// prepared.record_in(&mut pass, buffers)?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// As [`Prepared::record`].
    pub fn record_in(
        &self,
        pass: &mut wgpu::ComputePass<'_>,
        buffers: &[(&str, &wgpu::Buffer)],
    ) -> Result<(), Error> {
        let bound = self.bound(given(buffers))?;
        self.write_in(pass, &bound)
    }

    /// Records what is bound, as a pass of its own.
    pub(crate) fn write(
        &self,
        encoder: &mut wgpu::CommandEncoder,
        bound: &BoundCall,
        timestamp_writes: Option<wgpu::ComputePassTimestampWrites<'_>>,
    ) -> Result<(), Error> {
        self.gpu.guarded("recording a call", || {
            let mut pass = encoder.begin_compute_pass(&pass_of("tilewise", timestamp_writes));
            bound.dispatch(&mut pass, &self.plan);
        })?;
        Ok(())
    }

    /// Records what is bound into a pass.
    pub(crate) fn write_in(
        &self,
        pass: &mut wgpu::ComputePass<'_>,
        bound: &BoundCall,
    ) -> Result<(), Error> {
        self.gpu.guarded("recording a call", || bound.dispatch(pass, &self.plan))?;
        Ok(())
    }

    /// [`Prepared::record`] that writes the device's time when the call begins and ends, and keeps nothing of the buffers.
    pub(crate) fn record_timed(
        &self,
        encoder: &mut wgpu::CommandEncoder,
        buffers: &[(&str, &wgpu::Buffer)],
        timestamp_writes: Option<wgpu::ComputePassTimestampWrites<'_>>,
    ) -> Result<(), Error> {
        self.write(encoder, &self.bind_once(given(buffers))?, timestamp_writes)
    }

    /// [`Prepared::record_timed`] with a pass for each step, whose times the device writes.
    pub(crate) fn record_steps(
        &self,
        encoder: &mut wgpu::CommandEncoder,
        buffers: &[(&str, &wgpu::Buffer)],
        stamps: &Stamps,
    ) -> Result<(), Error> {
        let bound = self.bind_once(given(buffers))?;
        self.gpu.guarded("recording a call", || {
            for (index, step) in self.plan.steps.iter().enumerate() {
                let pair = Some(index as u32);
                let writes = stamps.of_pass(pair, pair);
                let mut pass = encoder.begin_compute_pass(&pass_of(step.shader.entry, writes));
                bound.dispatch_step(&mut pass, &self.plan, index);
            }
        })?;
        Ok(())
    }
}

impl<O: Operator> Drop for Prepared<O> {
    fn drop(&mut self) {
        self.gpu.forget_bound(self.number);
    }
}

fn pass_of<'a>(
    label: &'a str,
    timestamp_writes: Option<wgpu::ComputePassTimestampWrites<'a>>,
) -> wgpu::ComputePassDescriptor<'a> {
    wgpu::ComputePassDescriptor { label: Some(label), timestamp_writes }
}
