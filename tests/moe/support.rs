//! What the tests share: an engine, random tensors, a check against the reference.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::OnceLock;

use serde_json::Value;
use tilewise::any::AnyProblem;
use tilewise::moe::{MoeProblem, MoeSpec};
use tilewise::operator::Operator;
use tilewise::tensor::{Dtype, HostTensor};
use tilewise::verify::Expected;
use tilewise::{Engine, EngineOptions, SpecError};

pub type Tensors = BTreeMap<String, HostTensor>;

/// The engine of all tests. Without an adapter they fail.
pub fn engine() -> &'static Engine {
    static ENGINE: OnceLock<Engine> = OnceLock::new();
    ENGINE.get_or_init(|| Engine::open(&EngineOptions::default()).expect("tests need an adapter"))
}

/// The tests' adapter with bindings of so many bytes.
pub fn small_device(binding_bytes: u64) -> Engine {
    let instance = wgpu::Instance::default();
    let options = wgpu::RequestAdapterOptions::default();
    let adapter = pollster::block_on(instance.request_adapter(&options)).unwrap();
    let limits =
        wgpu::Limits { max_storage_buffer_binding_size: binding_bytes, ..wgpu::Limits::default() };
    let descriptor = wgpu::DeviceDescriptor { required_limits: limits, ..Default::default() };
    let (device, queue) = pollster::block_on(adapter.request_device(&descriptor)).unwrap();
    Engine::from_device(device, queue)
}

pub fn repository(path: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(path)
}

/// Numbers of one seed, from −1 to 1.
pub struct Random(pub u64);

impl Random {
    pub fn number(&mut self) -> f64 {
        self.0 =
            self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        ((self.0 >> 33) as f64) / f64::from(1u32 << 30) - 1.0
    }

    pub fn tensor(&mut self, dtype: Dtype, shape: &[u64], scale: f64) -> HostTensor {
        let count = shape.iter().product::<u64>();
        let values: Vec<f64> = (0..count).map(|_| self.number() * scale).collect();
        HostTensor::from_f64(dtype, shape, &values)
    }
}

/// The extents of a layer under test.
#[derive(Clone, Copy)]
pub struct Layer {
    pub tokens: u64,
    pub model_dim: u64,
    pub experts: u64,
    pub expert_dim: u64,
}

pub const SMALL: Layer = Layer { tokens: 21, model_dim: 20, experts: 6, expert_dim: 12 };

/// Adds biases to the experts of [`SMALL`], and a shared expert, of one seed; gives what is left of its numbers.
pub fn add_biases_and_a_shared_expert(tensors: &mut Tensors, seed: u64) -> Random {
    let Layer { model_dim, experts, expert_dim, .. } = SMALL;
    let mut random = Random(seed);
    for (name, shape) in [
        ("b_gate", [experts, expert_dim]),
        ("b_up", [experts, expert_dim]),
        ("b_down", [experts, model_dim]),
        ("shared_w_gate", [10, model_dim]),
        ("shared_w_up", [10, model_dim]),
        ("shared_w_down", [model_dim, 10]),
    ] {
        tensors.insert(name.to_owned(), random.tensor(Dtype::F32, &shape, 0.5));
    }
    random
}

impl Layer {
    /// x, a router and gated experts, of one seed.
    pub fn tensors(&self, dtype: Dtype, seed: u64) -> Tensors {
        let Self { tokens, model_dim, experts, expert_dim } = *self;
        let mut random = Random(seed);
        let inner = 1.0 / (model_dim as f64).sqrt();
        [
            ("x", vec![tokens, model_dim], 1.7),
            ("router_w", vec![experts, model_dim], 3.0 * inner),
            ("w_gate", vec![experts, expert_dim, model_dim], 3.0 * inner),
            ("w_up", vec![experts, expert_dim, model_dim], 3.0 * inner),
            ("w_down", vec![experts, model_dim, expert_dim], 1.0 / (expert_dim as f64).sqrt()),
        ]
        .into_iter()
        .map(|(name, shape, scale)| (name.to_owned(), random.tensor(dtype, &shape, scale)))
        .collect()
    }
}

pub fn i32s(shape: &[u64], values: &[i32]) -> HostTensor {
    let values: Vec<f64> = values.iter().map(|value| f64::from(*value)).collect();
    HostTensor::from_f64(Dtype::I32, shape, &values)
}

pub fn f32s(shape: &[u64], values: &[f64]) -> HostTensor {
    HostTensor::from_f64(Dtype::F32, shape, values)
}

pub fn spec(json: &Value) -> MoeSpec {
    serde_json::from_value(json.clone()).unwrap()
}

pub fn try_problem(json: &Value, inputs: &Tensors) -> Result<MoeProblem, SpecError> {
    let descs = inputs.iter().map(|(name, tensor)| (name.clone(), tensor.desc())).collect();
    MoeProblem::new(&spec(json), &descs)
}

pub fn problem(json: &Value, inputs: &Tensors) -> MoeProblem {
    try_problem(json, inputs).unwrap_or_else(|error| panic!("{json}: {error}"))
}

/// Those of a layer's tensors that a problem asks for.
fn asked(problem: &MoeProblem, inputs: &Tensors) -> Tensors {
    let asked = problem.tensors();
    let inputs = inputs.iter().filter(|(name, _)| asked.iter().any(|(known, _)| known == name));
    inputs.map(|(name, tensor)| (name.clone(), tensor.clone())).collect()
}

/// Runs a problem with the heuristic's tiles.
pub fn run(json: &Value, inputs: &Tensors) -> BTreeMap<String, Vec<f64>> {
    let problem = problem(json, inputs);
    let outputs = engine().run(&problem, None, &asked(&problem, inputs));
    let outputs = outputs.unwrap_or_else(|error| panic!("{json}: {error}"));
    outputs.into_iter().map(|(name, tensor)| (name, tensor.to_f64())).collect()
}

/// Holds every output against the reference: integers exactly, numbers within the judge's tolerance.
pub fn check(json: &Value, inputs: &Tensors) {
    check_with(engine(), json, inputs, &problem(json, inputs), None);
}

pub fn check_with(
    engine: &Engine,
    json: &Value,
    inputs: &Tensors,
    problem: &MoeProblem,
    tiles: Option<tilewise::matmul::MatmulTiles>,
) {
    let inputs = &asked(problem, inputs);
    let outputs = engine.run(problem, tiles, inputs);
    let outputs = outputs.unwrap_or_else(|error| panic!("{json}: {error}"));
    let expected = Expected::new(&AnyProblem::Moe(Box::new(problem.clone())), inputs).unwrap();
    if let Err(error) = expected.check(&outputs) {
        panic!("{json} {tiles:?}: {error}");
    }
}
