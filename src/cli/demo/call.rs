//! A mixture of experts ready to run: the router's call, the experts' call, and the buffers of both.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::feed_forward::{Carved, Tensors};
use crate::any::AnyProblem;
use crate::cli::common::CliError;
use crate::cli::measure::Elapsed;
use crate::engine::Engine;
use crate::matmul::MatmulTiles;
use crate::moe::MoeProblem;
use crate::operator::Operator;
use crate::prepared::Prepared;
use crate::tensor::{Dtype, HostTensor, descs};
use crate::verify::Expected;

/// Routing and experts with buffers of their own: one encoder, nothing read back between.
pub(super) struct Call {
    engine: Engine,
    router: Option<Arc<Prepared<MoeProblem>>>,
    layer: Arc<Prepared<MoeProblem>>,
    buffers: BTreeMap<String, wgpu::Buffer>,
}

/// What a call gave.
pub(super) struct Answer {
    pub out: HostTensor,
    /// Rows of each expert.
    pub counts: Vec<f64>,
    ids: HostTensor,
    logits: HostTensor,
}

impl Call {
    /// Compiles the kernels and uploads the tensors.
    pub fn new(
        engine: &Engine,
        tiles: Option<MatmulTiles>,
        carved: &Carved,
        top_k: u32,
    ) -> Result<Self, CliError> {
        let router = engine.prepare(&carved.router(top_k)?, tiles)?;
        let layer = engine.prepare(&carved.layer(top_k)?, tiles)?;
        let mut buffers = BTreeMap::new();
        for (name, host) in carved.tensors.iter().chain(&carved.shares(top_k)) {
            buffers.insert(name.clone(), engine.upload(name, host)?);
        }
        for problem in [&router.operator, &layer.operator] {
            for output in &problem.spec.outputs {
                let desc = &problem.tensors[output.name()];
                let buffer = engine.upload(output.name(), &HostTensor::unwritten(desc))?;
                buffers.insert(output.name().to_owned(), buffer);
            }
        }
        Ok(Self { engine: engine.clone(), router: Some(router), layer, buffers })
    }

    /// Gives up the router: token `t` goes to the `top_k` experts from `t` on.
    pub fn choose_in_turn(&mut self) -> Result<(), CliError> {
        self.router = None;
        let e = &self.layer.operator.extents;
        let id = |token: u32, slot: u32| f64::from((token + slot) % e.experts);
        let ids = (0..e.tokens).flat_map(|token| (0..e.top_k).map(move |slot| id(token, slot)));
        let shape = [u64::from(e.tokens), u64::from(e.top_k)];
        let ids = HostTensor::from_f64(Dtype::I32, &shape, &ids.collect::<Vec<_>>());
        self.buffers.insert("topk_ids".to_owned(), self.engine.upload("topk_ids", &ids)?);
        Ok(())
    }

    /// The buffers that a problem asks for.
    fn buffers_of(&self, prepared: &Prepared<MoeProblem>) -> Vec<(&str, &wgpu::Buffer)> {
        let tensors = prepared.operator().tensors();
        let asked = |name: &str| tensors.iter().any(|(known, _)| *known == name);
        let buffers = self.buffers.iter().map(|(name, buffer)| (name.as_str(), buffer));
        buffers.filter(|(name, _)| asked(name)).collect()
    }

    fn submit(&self, times: u32) -> Result<(), CliError> {
        let descriptor = wgpu::CommandEncoderDescriptor { label: Some("demo moe") };
        let mut encoder = self.engine.device().create_command_encoder(&descriptor);
        for _ in 0..times {
            if let Some(router) = &self.router {
                router.record(&mut encoder, &self.buffers_of(router))?;
            }
            self.layer.record(&mut encoder, &self.buffers_of(&self.layer))?;
        }
        self.engine.queue().submit([encoder.finish()]);
        Ok(self.engine.wait()?)
    }

    /// Runs the call and reads its outputs back.
    pub fn run(&self) -> Result<Answer, CliError> {
        self.submit(1)?;
        let e = &self.layer.operator.extents;
        let [tokens, dim, experts, top_k] =
            [e.tokens, e.model_dim, e.experts, e.top_k].map(u64::from);
        let read = |name: &str, dtype: Dtype, shape: &[u64]| -> Result<HostTensor, CliError> {
            let size = shape.iter().product::<u64>() * dtype.bytes();
            let bytes = self.engine.download(&self.buffers[name], ..size)?;
            Ok(HostTensor { dtype, shape: shape.to_vec(), bytes })
        };
        Ok(Answer {
            out: read("out", Dtype::F32, &[tokens, dim])?,
            counts: read("counts", Dtype::I32, &[experts])?.to_f64(),
            ids: read("topk_ids", Dtype::I32, &[tokens, top_k])?,
            logits: read("router_logits", Dtype::F32, &[tokens, experts])?,
        })
    }

    /// Seconds of a call: the least of several runs, by the process's CPU time on a software adapter.
    pub fn time(&self) -> Result<f64, CliError> {
        const CALLS: u32 = 4;
        let mut least = f64::INFINITY;
        for _ in 0..5 {
            let elapsed = Elapsed::of(|| self.submit(CALLS))?;
            let software = self.engine.adapter().is_software();
            let time = if software { elapsed.cpu } else { elapsed.wall };
            least = least.min(time.as_secs_f64() / f64::from(CALLS));
        }
        Ok(least)
    }

    /// Holds the logits, and the sum of the experts that were chosen, against the reference.
    pub fn check(&self, carved: &Carved, answer: &Answer) -> Result<(), CliError> {
        let Some(router) = &self.router else { return Ok(()) };
        judged(&router.operator, &carved.tensors, "router_logits", &answer.logits)?;
        let top_k = self.layer.operator.extents.top_k;
        let mut inputs = carved.tensors.clone();
        inputs.extend(carved.shares(top_k));
        inputs.insert("topk_ids".to_owned(), answer.ids.clone());
        let (problem, inputs) = without_gaps(&self.layer.operator, &inputs)?;
        judged(&problem, &inputs, "out", &answer.out)
    }
}

/// The same problem of tensors that lie without gaps, as the reference takes them.
fn without_gaps(problem: &MoeProblem, inputs: &Tensors) -> Result<(MoeProblem, Tensors), CliError> {
    let mut dense = Tensors::new();
    for (name, desc) in &problem.tensors {
        let Some(host) = inputs.get(name) else { continue };
        let values = host.to_f64();
        let layout = &desc.layout;
        let at = |mut index: u64| {
            let mut place = layout.offset();
            for (extent, stride) in layout.shape().iter().zip(layout.strides()).rev() {
                place += index % extent * stride;
                index /= extent;
            }
            values[place as usize]
        };
        let values: Vec<f64> = (0..layout.len()).map(at).collect();
        dense.insert(name.clone(), HostTensor::from_f64(desc.dtype, desc.shape(), &values));
    }
    let descs = descs(&dense);
    Ok((MoeProblem::new(&problem.spec, &descs)?, dense))
}

fn judged(
    problem: &MoeProblem,
    inputs: &Tensors,
    name: &str,
    got: &HostTensor,
) -> Result<(), CliError> {
    let expected = Expected::new(&AnyProblem::Moe(Box::new(problem.clone())), inputs)?;
    expected
        .check_output(name, got)
        .map(drop)
        .map_err(|error| CliError::Failed(format!("{problem}\n{error}")))
}
