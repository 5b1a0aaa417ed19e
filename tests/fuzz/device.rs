//! Small problems on the device, against the reference.

use std::ptr;
use std::sync::OnceLock;

use proptest::strategy::{Strategy as _, ValueTree as _};
use proptest::test_runner::{Config, RngSeed, TestRunner};
use tilewise::any::{AnyProblem, AnySpec};
use tilewise::operator::Operator;
use tilewise::verify::Expected;
use tilewise::{Engine, EngineOptions, Error, PlanError};

use crate::draw::{Asked, Draw};
use crate::{attention, matmul, moe, neighborhood, tape};

/// Problems of each operator.
const QUESTIONS: usize = 8;

fn engine() -> &'static Engine {
    static ENGINE: OnceLock<Engine> = OnceLock::new();
    ENGINE.get_or_init(|| Engine::open(&EngineOptions::default()).expect("tests need an adapter"))
}

/// The first adapter as a device whose bindings are so small that calls are cut.
fn small_bindings() -> &'static Engine {
    static ENGINE: OnceLock<Engine> = OnceLock::new();
    ENGINE.get_or_init(|| {
        let descriptor = wgpu::InstanceDescriptor::new_without_display_handle();
        let adapters = wgpu::Instance::new(descriptor).enumerate_adapters(wgpu::Backends::all());
        let adapter = pollster::block_on(adapters).into_iter().next().expect("an adapter");
        let opened = adapter.request_device(&wgpu::DeviceDescriptor {
            required_features: adapter.features() & wgpu::Features::SUBGROUP,
            required_limits: wgpu::Limits {
                max_storage_buffer_binding_size: 2048,
                ..wgpu::Limits::default()
            },
            ..wgpu::DeviceDescriptor::default()
        });
        let (device, queue) = pollster::block_on(opened).expect("a device");
        Engine::from_device(device, queue)
    })
}

#[test]
fn what_is_planned_is_computed() {
    let operators: [fn(&mut Draw<'_>) -> Asked; 6] = [
        attention::attention,
        attention::merge,
        neighborhood::fused,
        neighborhood::halves,
        matmul::matmul,
        moe::mixture,
    ];
    let config = Config { rng_seed: RngSeed::Fixed(7), ..Config::default() };
    let mut runner = TestRunner::new(config);
    for operator in operators {
        let mut ran = 0;
        while ran < QUESTIONS {
            let tape = tape().new_tree(&mut runner).expect("a tape").current();
            let mut draw = Draw::new(&tape);
            draw.small = true;
            let asked = operator(&mut draw);
            let Ok(spec) = serde_json::from_value::<AnySpec>(asked.spec) else { continue };
            let Ok(question) = spec.ask(&asked.tensors) else { continue };
            compute(&question, &mut draw);
            ran += 1;
        }
    }
}

fn compute(question: &AnyProblem, draw: &mut Draw<'_>) {
    match question {
        AnyProblem::Attention(problem) => hold(&**problem, question, draw),
        AnyProblem::AttentionMerge(problem) => hold(&**problem, question, draw),
        AnyProblem::Neighborhood(problem) => hold(&**problem, question, draw),
        AnyProblem::NeighborhoodScores(problem) => hold(&**problem, question, draw),
        AnyProblem::NeighborhoodAggregate(problem) => hold(&**problem, question, draw),
        AnyProblem::Moe(problem) => hold(&**problem, question, draw),
        AnyProblem::Matmul(problem) => hold(&**problem, question, draw),
    }
}

fn hold<O: Operator>(problem: &O, question: &AnyProblem, draw: &mut Draw<'_>) {
    let inputs = problem.sample(5);
    let expected = Expected::new(question, &inputs).unwrap_or_else(|e| panic!("{question}: {e}"));
    for engine in [engine(), small_bindings()] {
        let tiles = draw.pick(&problem.candidates(engine.limits()).expect("some tiles"));
        let outputs = match engine.run(problem, Some(tiles), &inputs) {
            // What no slice makes small enough.
            Err(Error::Plan(PlanError::Limit { .. })) if ptr::eq(engine, small_bindings()) => {
                continue;
            }
            outputs => outputs.unwrap_or_else(|error| panic!("{question} {tiles}: {error}")),
        };
        if let Err(wrong) = expected.check(&outputs) {
            panic!(
                "{question} {tiles} of {} bytes a binding: {wrong}",
                engine.limits().storage_binding_bytes
            );
        }
    }
}
