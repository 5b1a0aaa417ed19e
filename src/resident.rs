//! A call whose tensors stay on the device, to run again and again.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::engine::Engine;
use crate::error::{Error, SpecError};
use crate::gpu::signal::Waiting;
use crate::gpu::stamps::Stamps;
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

impl Engine {
    /// Uploads, runs and downloads in one go, outputs starting as NaN; for programs and tests, not for apps that
    /// have buffers. Blocks.
    ///
    /// # Errors
    /// As [`Engine::prepare`] and [`Engine::download`]; [`SpecError::MissingTensor`](crate::SpecError::MissingTensor) for an input that is not there.
    pub fn run<O: Operator>(
        &self,
        operator: &O,
        tiles: Option<O::Tiles>,
        inputs: &BTreeMap<String, HostTensor>,
    ) -> Result<BTreeMap<String, HostTensor>, Error> {
        let call = Resident::new(self, operator, tiles, inputs)?;
        call.run(1)?;
        call.outputs()
    }
}

impl<O: Operator> Resident<O> {
    /// Compiles the call's kernels and uploads its inputs.
    ///
    /// # Errors
    /// As [`Engine::run`].
    pub fn new(
        engine: &Engine,
        operator: &O,
        tiles: Option<O::Tiles>,
        inputs: &BTreeMap<String, HostTensor>,
    ) -> Result<Self, Error> {
        let prepared = engine.prepare(operator, tiles)?;
        let mut buffers = Vec::new();
        for (name, desc) in operator.tensors() {
            let buffer = if operator.outputs().contains(&name) {
                engine.upload(name, &HostTensor::unwritten(&desc))?
            } else {
                let host = inputs.get(name).ok_or_else(|| SpecError::MissingTensor {
                    name: name.to_owned(),
                    why: "an input of this call".to_owned(),
                })?;
                engine.upload(name, host)?
            };
            buffers.push((name.to_owned(), buffer));
        }
        Ok(Self { prepared, engine: engine.clone(), buffers })
    }

    /// Runs the call so many times in one submission, and waits.
    ///
    /// # Errors
    /// As [`Prepared::record`] and [`Engine::wait`].
    pub fn run(&self, times: u32) -> Result<(), Error> {
        self.submit(|encoder, bound| {
            (0..times).try_for_each(|_| self.prepared.record(encoder, bound))
        })
    }

    /// [`Resident::run`] by the device's own clock: milliseconds from the first call's begin to the last one's end.
    /// `None`, and nothing is run, where the device writes no timestamps.
    ///
    /// # Errors
    /// As [`Resident::run`].
    pub fn run_timed(&self, times: u32) -> Result<Option<f64>, Error> {
        let Some(stamps) = Stamps::new(&self.engine.gpu, 1)? else { return Ok(None) };
        self.submit(|encoder, bound| {
            for call in 0..times {
                let begun = (call == 0).then_some(0);
                let ended = (call + 1 == times).then_some(0);
                let writes = stamps.of_pass(begun, ended);
                self.prepared.record_timed(encoder, bound, writes)?;
            }
            stamps.resolve(encoder);
            Ok(())
        })?;
        Ok(self.read(&stamps)?.first().copied())
    }

    /// Runs the call once, step by step: milliseconds of each step of its plan by the device's own clock. Nothing of one
    /// step overlaps the next, so that together they last longer than the call does. `None`, and nothing is run, where
    /// the device writes no timestamps.
    ///
    /// # Errors
    /// As [`Resident::run`].
    pub fn run_steps(&self) -> Result<Option<Vec<f64>>, Error> {
        let steps = self.prepared.plan.steps.len() as u32;
        let Some(stamps) = Stamps::new(&self.engine.gpu, steps)? else { return Ok(None) };
        self.submit(|encoder, bound| {
            self.prepared.record_steps(encoder, bound, &stamps)?;
            stamps.resolve(encoder);
            Ok(())
        })?;
        Ok(Some(self.read(&stamps)?))
    }

    fn read(&self, stamps: &Stamps) -> Result<Vec<f64>, Error> {
        pollster::block_on(stamps.read(&self.engine.gpu, Waiting::Block))
    }

    /// Submits what is recorded, and waits.
    fn submit(
        &self,
        record: impl FnOnce(&mut wgpu::CommandEncoder, &[(&str, &wgpu::Buffer)]) -> Result<(), Error>,
    ) -> Result<(), Error> {
        let bound: Vec<(&str, &wgpu::Buffer)> =
            self.buffers.iter().map(|(name, buffer)| (name.as_str(), buffer)).collect();
        let gpu = &self.engine.gpu;
        let commands = gpu.record("running a call", |encoder| record(encoder, &bound))?;
        gpu.submit("running a call", commands)?;
        Ok(self.engine.wait()?)
    }

    /// Reads the outputs back.
    ///
    /// # Errors
    /// As [`Engine::download`].
    pub fn outputs(&self) -> Result<BTreeMap<String, HostTensor>, Error> {
        let operator = &self.prepared.operator;
        let mut outputs = BTreeMap::new();
        for (name, desc) in operator.tensors() {
            let buffer = self.buffers.iter().find(|(known, _)| known == name);
            if let (Some((_, buffer)), true) = (buffer, operator.outputs().contains(&name)) {
                let bytes = self.engine.download(buffer, ..desc.bytes())?;
                let shape = desc.shape().to_vec();
                outputs.insert(name.to_owned(), HostTensor { dtype: desc.dtype, shape, bytes });
            }
        }
        Ok(outputs)
    }
}
