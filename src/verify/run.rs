//! Running a case.

use std::sync::Arc;

use super::case::{Case, Placement};
use super::inputs::{Inputs, inputs};
use super::judge::JudgeReport;
use super::output::{ExpectedOutput, expected};
use super::place;
use super::report::{CaseFailure, CaseReport, Failure};
use super::tiles::{CaseTiles, candidates};
use crate::any::{AnyProblem, with_problem};
use crate::engine::Engine;
use crate::error::{Error, PlanError};
use crate::gpu::limits::GpuLimits;
use crate::gpu::shader::Shader;
use crate::gpu::signal::Waiting;
use crate::operator::Operator;
use crate::tensor::TensorDesc;

/// A case with its inputs and its true outputs. It may run on any engine, with any tiles.
#[derive(Clone, Debug)]
pub struct Trial {
    /// The case.
    pub case: Case,
    /// Its problem.
    pub problem: AnyProblem,
    inputs: Inputs,
    expected: Vec<ExpectedOutput>,
}

/// What a call took and gave.
struct Ran {
    tiles: String,
    /// The kernel of each dispatch.
    kernels: Vec<Arc<Shader>>,
    /// What the outputs' buffers hold, in the order of the expected outputs.
    buffers: Vec<Vec<u8>>,
}

/// [`run_case_async`] that blocks.
///
/// # Errors
/// [`CaseFailure`], which says how to see it again.
#[cfg(not(target_arch = "wasm32"))]
pub fn run_case(
    engine: &Engine,
    case: &Case,
    tiles: Option<CaseTiles>,
) -> Result<CaseReport, Box<CaseFailure>> {
    pollster::block_on(run_with(Waiting::Block, engine, case, tiles))
}

/// Runs a case on an engine, with these tiles or those that the plan chooses.
///
/// # Errors
/// [`CaseFailure`], which says how to see it again.
pub async fn run_case_async(
    engine: &Engine,
    case: &Case,
    tiles: Option<CaseTiles>,
) -> Result<CaseReport, Box<CaseFailure>> {
    run_with(Waiting::Yield, engine, case, tiles).await
}

async fn run_with(
    waiting: Waiting,
    engine: &Engine,
    case: &Case,
    tiles: Option<CaseTiles>,
) -> Result<CaseReport, Box<CaseFailure>> {
    match Trial::new(case) {
        Ok(trial) => trial.run_with(waiting, engine, tiles, &|_, _| {}).await,
        Err(error) => Err(Box::new(CaseFailure {
            name: case.name.clone(),
            seed: case.seed,
            problem: case.spec.to_string(),
            adapter: engine.adapter().name.clone(),
            tiles: "of the plan's choice".to_owned(),
            failure: error.into(),
        })),
    }
}

impl Trial {
    /// Makes a case's inputs and computes its outputs on the CPU.
    ///
    /// # Errors
    /// [`crate::SpecError`] when the case asks a wrong problem.
    pub fn new(case: &Case) -> Result<Self, Error> {
        let problem = case.problem()?;
        let inputs = inputs(case, &problem);
        let expected = expected(&problem, &inputs)?;
        Ok(Self { case: case.clone(), problem, inputs, expected })
    }

    /// Every tile set worth trying. There is none for an operator that has but one.
    ///
    /// # Errors
    /// [`PlanError`] where none fits.
    pub fn candidates(&self, limits: &GpuLimits) -> Result<Vec<CaseTiles>, PlanError> {
        candidates(&self.problem, limits)
    }

    /// [`Trial::run_async`] that blocks.
    ///
    /// # Errors
    /// As [`run_case`].
    #[cfg(not(target_arch = "wasm32"))]
    pub fn run(
        &self,
        engine: &Engine,
        tiles: Option<CaseTiles>,
    ) -> Result<CaseReport, Box<CaseFailure>> {
        self.run_changed(engine, tiles, &|_, _| {})
    }

    /// Runs it.
    ///
    /// # Errors
    /// As [`run_case_async`].
    pub async fn run_async(
        &self,
        engine: &Engine,
        tiles: Option<CaseTiles>,
    ) -> Result<CaseReport, Box<CaseFailure>> {
        self.run_with(Waiting::Yield, engine, tiles, &|_, _| {}).await
    }

    /// Runs it and lets `change` at the bytes of each output's buffer before they are judged. Whoever tests the
    /// suite itself breaks them. Blocks.
    ///
    /// # Errors
    /// As [`run_case`].
    #[cfg(not(target_arch = "wasm32"))]
    pub fn run_changed(
        &self,
        engine: &Engine,
        tiles: Option<CaseTiles>,
        change: &dyn Fn(&str, &mut Vec<u8>),
    ) -> Result<CaseReport, Box<CaseFailure>> {
        pollster::block_on(self.run_with(Waiting::Block, engine, tiles, change))
    }

    async fn run_with(
        &self,
        waiting: Waiting,
        engine: &Engine,
        tiles: Option<CaseTiles>,
        change: &dyn Fn(&str, &mut Vec<u8>),
    ) -> Result<CaseReport, Box<CaseFailure>> {
        let failed = |failure| {
            Box::new(CaseFailure {
                name: self.case.name.clone(),
                seed: self.case.seed,
                problem: self.problem.to_string(),
                adapter: engine.adapter().name.clone(),
                tiles: tiles.map_or("of the plan's choice".to_owned(), |tiles| tiles.to_string()),
                failure,
            })
        };
        let tiles = self.with_splits(engine, tiles).map_err(|e| failed(Error::from(e).into()))?;
        let ran = with_problem!(&self.problem, problem => {
            self.call(waiting, engine, problem, tiles).await
        });
        let Ran { tiles, kernels, buffers } = ran.map_err(|error| failed(error.into()))?;
        let outputs = self.judged(buffers, change).map_err(failed)?;
        Ok(CaseReport { name: self.case.name.clone(), tiles, kernels, outputs })
    }

    /// The tiles asked for. A case that asks for splits has those of the plan's choice with them.
    fn with_splits(
        &self,
        engine: &Engine,
        asked: Option<CaseTiles>,
    ) -> Result<Option<CaseTiles>, PlanError> {
        let Some(splits) = self.case.kv_splits else { return Ok(asked) };
        let chosen = match asked {
            Some(tiles) => Some(tiles),
            None => self.candidates(engine.limits())?.first().copied(),
        };
        Ok(chosen.map(|tiles| tiles.with_kv_splits(splits)))
    }

    /// Uploads, records, submits and reads the outputs' buffers back.
    async fn call<O: Operator>(
        &self,
        waiting: Waiting,
        engine: &Engine,
        problem: &O,
        tiles: Option<CaseTiles>,
    ) -> Result<Ran, Error> {
        let tiles = tiles.and_then(CaseTiles::of::<O>);
        let prepared = engine.prepare_with(waiting, problem, tiles).await?;
        let mut buffers: Vec<(&str, wgpu::Buffer)> = Vec::new();
        for (name, _) in problem.tensors() {
            let known = buffers.iter().find(|(known, _)| self.lie_together(known, name));
            let buffer = match known {
                Some((_, buffer)) => buffer.clone(),
                None => upload(engine, name, &self.bytes(problem, name)),
            };
            buffers.push((name, buffer));
        }
        let bound: Vec<(&str, &wgpu::Buffer)> = buffers.iter().map(|(n, b)| (*n, b)).collect();
        let mut encoder =
            engine.device().create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
        prepared.record(&mut encoder, &bound)?;
        engine.queue().submit([encoder.finish()]);
        let mut buffers_read = Vec::new();
        for ExpectedOutput { name, .. } in &self.expected {
            for (_, buffer) in buffers.iter().filter(|(known, _)| known == name) {
                let bytes = engine.gpu.download(buffer, .., waiting).await?;
                buffers_read.push(self.seen_alone(problem, name, bytes));
            }
        }
        let kernels = prepared.plan.steps.iter().map(|step| Arc::clone(&step.shader)).collect();
        Ok(Ran { tiles: prepared.tiles.to_string(), kernels, buffers: buffers_read })
    }

    /// Whether two tensors lie in one buffer.
    fn lie_together(&self, one: &str, other: &str) -> bool {
        let is_packed = |name: &str| {
            self.case.placement == Placement::Packed && matches!(name, "q" | "k" | "v")
        };
        one == other || self.case.one_buffer || is_packed(one) && is_packed(other)
    }

    /// What the buffer of a tensor holds before the call, with the tensors that lie in it too.
    fn bytes<O: Operator>(&self, problem: &O, name: &str) -> Vec<u8> {
        let exact = self.case.placement == Placement::Exact;
        let outputs = problem.outputs();
        let mut bytes = Vec::new();
        for (other, desc) in problem.tensors() {
            if !self.lie_together(name, other) {
                continue;
            }
            if outputs.contains(&other) {
                place::poison(&mut bytes, &desc, exact);
            } else {
                place::put(&mut bytes, &desc, &self.inputs[other], exact);
            }
        }
        bytes
    }

    /// What the buffer of an output holds after the call, as if no other tensor lay in it.
    fn seen_alone<O: Operator>(&self, problem: &O, name: &str, after: Vec<u8>) -> Vec<u8> {
        if !self.case.one_buffer {
            return after;
        }
        let outputs: Vec<TensorDesc> = problem
            .tensors()
            .into_iter()
            .filter(|(other, _)| *other != name && problem.outputs().contains(other))
            .map(|(_, desc)| desc)
            .collect();
        let own = problem.tensors().into_iter().find(|(known, _)| *known == name);
        let Some((_, own)) = own else { return after };
        place::seen_alone((&self.bytes(problem, name), &after), &own, outputs.iter())
    }

    fn judged(
        &self,
        buffers: Vec<Vec<u8>>,
        change: &dyn Fn(&str, &mut Vec<u8>),
    ) -> Result<Vec<(&'static str, JudgeReport)>, Failure> {
        let mut reports = Vec::new();
        for (mut bytes, expected) in buffers.into_iter().zip(&self.expected) {
            change(expected.name, &mut bytes);
            let (report, overwritten) = expected.judged(&bytes)?;
            reports.push((expected.name, report));
            if let Some(byte) = overwritten {
                return Err(Failure::Overwritten { tensor: expected.name, byte });
            }
        }
        Ok(reports)
    }
}

fn upload(engine: &Engine, name: &str, bytes: &[u8]) -> wgpu::Buffer {
    let buffer = engine.device().create_buffer(&wgpu::BufferDescriptor {
        label: Some(name),
        size: bytes.len().max(4) as u64,
        usage: wgpu::BufferUsages::STORAGE
            | wgpu::BufferUsages::COPY_DST
            | wgpu::BufferUsages::COPY_SRC,
        mapped_at_creation: false,
    });
    engine.queue().write_buffer(&buffer, 0, bytes);
    buffer
}
