//! A call whose tensors stay on the device, to run again and again.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::engine::Engine;
use crate::error::{Error, SpecError};
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
        let bound: Vec<(&str, &wgpu::Buffer)> =
            self.buffers.iter().map(|(name, buffer)| (name.as_str(), buffer)).collect();
        let descriptor = wgpu::CommandEncoderDescriptor { label: Some("tilewise") };
        let mut encoder = self.engine.device().create_command_encoder(&descriptor);
        for _ in 0..times {
            self.prepared.record(&mut encoder, &bound)?;
        }
        self.engine.queue().submit([encoder.finish()]);
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
                let bytes = self.engine.download(buffer, desc.bytes())?;
                let shape = desc.layout.shape.clone();
                outputs.insert(name.to_owned(), HostTensor { dtype: desc.dtype, shape, bytes });
            }
        }
        Ok(outputs)
    }
}
