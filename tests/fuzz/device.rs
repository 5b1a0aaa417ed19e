//! Small questions on the device, against the reference.

use std::sync::OnceLock;

use proptest::strategy::{Strategy as _, ValueTree as _};
use proptest::test_runner::{Config, RngSeed, TestRunner};
use tilewise::operator::Operator;
use tilewise::question::{OperatorSpec, Question};
use tilewise::verify::Expected;
use tilewise::{Engine, EngineOptions};

use crate::draw::{Asked, Draw};
use crate::{attention, matmul, moe, neighborhood, tape};

/// Questions of each operator.
const QUESTIONS: usize = 8;

fn engine() -> &'static Engine {
    static ENGINE: OnceLock<Engine> = OnceLock::new();
    ENGINE.get_or_init(|| Engine::open(&EngineOptions::default()).expect("tests need an adapter"))
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
            let Ok(spec) = serde_json::from_value::<OperatorSpec>(asked.spec) else { continue };
            let Ok(question) = spec.ask(&asked.tensors) else { continue };
            compute(&question, &mut draw);
            ran += 1;
        }
    }
}

fn compute(question: &Question, draw: &mut Draw<'_>) {
    match question {
        Question::Attention(problem) => hold(&**problem, question, draw),
        Question::AttentionMerge(problem) => hold(&**problem, question, draw),
        Question::Neighborhood(problem) => hold(&**problem, question, draw),
        Question::NeighborhoodScores(problem) => hold(&**problem, question, draw),
        Question::NeighborhoodAggregate(problem) => hold(&**problem, question, draw),
        Question::Moe(problem) => hold(&**problem, question, draw),
        Question::Matmul(problem) => hold(&**problem, question, draw),
    }
}

fn hold<O: Operator>(problem: &O, question: &Question, draw: &mut Draw<'_>) {
    let inputs = problem.sample(5);
    let expected = Expected::new(question, &inputs).unwrap_or_else(|e| panic!("{question}: {e}"));
    let tiles = draw.pick(&problem.candidates(engine().limits()).expect("some tiles"));
    let outputs = engine()
        .run(problem, Some(tiles), &inputs)
        .unwrap_or_else(|error| panic!("{question} {tiles}: {error}"));
    if let Err(wrong) = expected.check(&outputs) {
        panic!("{question} {tiles}: {wrong}");
    }
}
