//! A call whose tensors stay on the device, to run again and again.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::engine::Engine;
use crate::error::{Error, SpecError};
use crate::gpu::signal::Waiting;
use crate::gpu::stamps::Stamps;
use crate::names::refuse_others;
use crate::operator::Operator;
use crate::prepared::Prepared;
use crate::tensor::HostTensor;

/// A prepared call with buffers of its own; outputs start as NaN.
#[derive(Debug)]
pub struct Resident<O: Operator> {
    /// The call.
    pub prepared: Arc<Prepared<O>>,
    engine: Engine,
    buffers: Vec<(String, wgpu::Buffer)>,
}

/// Tensors by name.
type HostTensors = BTreeMap<String, HostTensor>;

impl Engine {
    /// Uploads, runs and downloads in one go, outputs starting as NaN; for programs and tests, not for apps that
    /// have buffers. Blocks; see [`Engine::run_async`].
    ///
    /// # Errors
    /// As [`Engine::run_async`].
    #[cfg(not(target_arch = "wasm32"))]
    pub fn run<O: Operator>(
        &self,
        operator: &O,
        tiles: Option<O::Tiles>,
        inputs: &BTreeMap<String, HostTensor>,
    ) -> Result<BTreeMap<String, HostTensor>, Error> {
        pollster::block_on(self.run_with(Waiting::Block, operator, tiles, inputs))
    }

    /// Uploads, runs and downloads in one go, outputs starting as NaN; for programs and tests, not for apps that
    /// have buffers. Does not block.
    ///
    /// # Errors
    /// As [`Engine::prepare_async`] and [`Engine::download_async`];
    /// [`SpecError`] for an input that is not there, or that the problem has no use for.
    pub async fn run_async<O: Operator>(
        &self,
        operator: &O,
        tiles: Option<O::Tiles>,
        inputs: &BTreeMap<String, HostTensor>,
    ) -> Result<BTreeMap<String, HostTensor>, Error> {
        self.run_with(Waiting::Yield, operator, tiles, inputs).await
    }

    async fn run_with<O: Operator>(
        &self,
        waiting: Waiting,
        operator: &O,
        tiles: Option<O::Tiles>,
        inputs: &HostTensors,
    ) -> Result<HostTensors, Error> {
        let call = Resident::new_with(self, waiting, operator, tiles, inputs).await?;
        call.run_with(waiting, 1).await?;
        call.outputs_with(waiting).await
    }
}

/// Blocking doors.
#[cfg(not(target_arch = "wasm32"))]
impl<O: Operator> Resident<O> {
    /// Compiles the call's kernels and uploads its inputs. Blocks.
    ///
    /// # Errors
    /// As [`Engine::run`].
    pub fn new(
        engine: &Engine,
        operator: &O,
        tiles: Option<O::Tiles>,
        inputs: &BTreeMap<String, HostTensor>,
    ) -> Result<Self, Error> {
        pollster::block_on(Self::new_with(engine, Waiting::Block, operator, tiles, inputs))
    }

    /// Runs the call so many times in one submission, and waits.
    ///
    /// # Errors
    /// As [`Prepared::record`] and [`Engine::wait`].
    pub fn run(&self, times: u32) -> Result<(), Error> {
        pollster::block_on(self.run_with(Waiting::Block, times))
    }

    /// [`Resident::run`] by the device's own clock: milliseconds from the first call's begin to the last one's end.
    /// `None`, and nothing is run, where the device writes no timestamps.
    ///
    /// # Errors
    /// As [`Resident::run`].
    pub fn run_timed(&self, times: u32) -> Result<Option<f64>, Error> {
        pollster::block_on(self.run_timed_with(Waiting::Block, times))
    }

    /// Runs the call once, step by step: milliseconds of each step of its plan by the device's own clock. Nothing of one
    /// step overlaps the next, so that together they last longer than the call does. `None`, and nothing is run, where
    /// the device writes no timestamps.
    ///
    /// # Errors
    /// As [`Resident::run`].
    pub fn run_steps(&self) -> Result<Option<Vec<f64>>, Error> {
        pollster::block_on(self.run_steps_with(Waiting::Block))
    }

    /// Reads the outputs back.
    ///
    /// # Errors
    /// As [`Engine::download`].
    pub fn outputs(&self) -> Result<BTreeMap<String, HostTensor>, Error> {
        pollster::block_on(self.outputs_with(Waiting::Block))
    }
}

/// The same doors without blocking, for the browser.
impl<O: Operator> Resident<O> {
    /// Compiles the call's kernels and uploads its inputs.
    ///
    /// # Errors
    /// As [`Engine::run_async`].
    pub async fn new_async(
        engine: &Engine,
        operator: &O,
        tiles: Option<O::Tiles>,
        inputs: &BTreeMap<String, HostTensor>,
    ) -> Result<Self, Error> {
        Self::new_with(engine, Waiting::Yield, operator, tiles, inputs).await
    }

    /// Runs the call so many times in one submission, until they are done.
    ///
    /// # Errors
    /// As [`Prepared::record`] and [`Engine::wait_async`].
    pub async fn run_async(&self, times: u32) -> Result<(), Error> {
        self.run_with(Waiting::Yield, times).await
    }

    /// [`Resident::run_async`] by the device's own clock: milliseconds from the first call's begin to the last one's end.
    /// `None`, and nothing is run, where the device writes no timestamps.
    ///
    /// # Errors
    /// As [`Resident::run_async`].
    pub async fn run_timed_async(&self, times: u32) -> Result<Option<f64>, Error> {
        self.run_timed_with(Waiting::Yield, times).await
    }

    /// Runs the call once, step by step: milliseconds of each step of its plan by the device's own clock. `None`, and
    /// nothing is run, where the device writes no timestamps.
    ///
    /// # Errors
    /// As [`Resident::run_async`].
    pub async fn run_steps_async(&self) -> Result<Option<Vec<f64>>, Error> {
        self.run_steps_with(Waiting::Yield).await
    }

    /// Reads the outputs back.
    ///
    /// # Errors
    /// As [`Engine::download_async`].
    pub async fn outputs_async(&self) -> Result<BTreeMap<String, HostTensor>, Error> {
        self.outputs_with(Waiting::Yield).await
    }
}

impl<O: Operator> Resident<O> {
    async fn new_with(
        engine: &Engine,
        waiting: Waiting,
        operator: &O,
        tiles: Option<O::Tiles>,
        inputs: &HostTensors,
    ) -> Result<Self, Error> {
        refuse_others(operator, inputs.keys().map(String::as_str))?;
        operator.check_values(inputs)?;
        let prepared = engine.prepare_with(waiting, operator, tiles).await?;
        let mut buffers = Vec::new();
        for (name, desc) in operator.tensors() {
            let buffer = if operator.outputs().contains(&name) {
                engine.upload_async(name, &HostTensor::unwritten(&desc)).await?
            } else {
                let host = inputs.get(name).ok_or_else(|| SpecError::MissingTensor {
                    name: name.to_owned(),
                    why: "an input of this call".to_owned(),
                })?;
                engine.upload_async(name, host).await?
            };
            buffers.push((name.to_owned(), buffer));
        }
        Ok(Self { prepared, engine: engine.clone(), buffers })
    }

    async fn run_with(&self, waiting: Waiting, times: u32) -> Result<(), Error> {
        self.submit(waiting, |encoder, bound| {
            (0..times).try_for_each(|_| self.prepared.record_timed(encoder, bound, None))
        })
        .await
    }

    async fn run_timed_with(&self, waiting: Waiting, times: u32) -> Result<Option<f64>, Error> {
        let gpu = &self.engine.gpu;
        let Some(stamps) = Stamps::new(gpu, 1).await? else { return Ok(None) };
        self.submit(waiting, |encoder, bound| {
            for call in 0..times {
                let begun = (call == 0).then_some(0);
                let ended = (call + 1 == times).then_some(0);
                let writes = stamps.of_pass(begun, ended);
                self.prepared.record_timed(encoder, bound, writes)?;
            }
            stamps.resolve(encoder);
            Ok(())
        })
        .await?;
        Ok(stamps.read(gpu, waiting).await?.first().copied())
    }

    async fn run_steps_with(&self, waiting: Waiting) -> Result<Option<Vec<f64>>, Error> {
        let gpu = &self.engine.gpu;
        let steps = self.prepared.plan.steps.len() as u32;
        let Some(stamps) = Stamps::new(gpu, steps).await? else { return Ok(None) };
        self.submit(waiting, |encoder, bound| {
            self.prepared.record_steps(encoder, bound, &stamps)?;
            stamps.resolve(encoder);
            Ok(())
        })
        .await?;
        Ok(Some(stamps.read(gpu, waiting).await?))
    }

    /// Submits what is recorded, until it is done.
    async fn submit(
        &self,
        waiting: Waiting,
        record: impl FnOnce(&mut wgpu::CommandEncoder, &[(&str, &wgpu::Buffer)]) -> Result<(), Error>,
    ) -> Result<(), Error> {
        let bound: Vec<(&str, &wgpu::Buffer)> =
            self.buffers.iter().map(|(name, buffer)| (name.as_str(), buffer)).collect();
        let gpu = &self.engine.gpu;
        let commands = gpu.record("running a call", |encoder| record(encoder, &bound))?;
        gpu.submit("running a call", commands)?;
        Ok(gpu.finished(waiting).await?)
    }

    async fn outputs_with(&self, waiting: Waiting) -> Result<HostTensors, Error> {
        let operator = &self.prepared.operator;
        let mut outputs = BTreeMap::new();
        for (name, desc) in operator.tensors() {
            let buffer = self.buffers.iter().find(|(known, _)| known == name);
            if let (Some((_, buffer)), true) = (buffer, operator.outputs().contains(&name)) {
                let bytes = self.engine.gpu.download(buffer, ..desc.bytes(), waiting).await?;
                let shape = desc.shape().to_vec();
                outputs.insert(name.to_owned(), HostTensor { dtype: desc.dtype, shape, bytes });
            }
        }
        Ok(outputs)
    }
}
