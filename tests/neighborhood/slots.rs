//! Scores and aggregate apart: against the reference, and together as fused attention.

use std::collections::BTreeMap;

use tilewise::any::AnyProblem;
use tilewise::neighborhood::{
    Border, NeighborhoodAggregateProblem, NeighborhoodAggregateSpec, NeighborhoodOutput,
    NeighborhoodScoresProblem, NeighborhoodScoresSpec, NeighborhoodSpec, TensorDescs, plain,
    reference, scores_reference,
};
use tilewise::tensor::{Dtype, HostTensor, Layout, TensorDesc, descs};
use tilewise::verify::Expected;
use tilewise::{Engine, SpecError};

use crate::harness::{Case, Inputs, engine, floor_engine, gather, hold, places, problem, random};

fn scores_spec(spec: &NeighborhoodSpec) -> NeighborhoodScoresSpec {
    let spec = spec.clone();
    NeighborhoodScoresSpec {
        dtype: spec.dtype,
        window: spec.window,
        stride: spec.stride,
        group_offset: spec.group_offset,
        dilation: spec.dilation,
        causal: spec.causal,
        border: spec.border,
        ..NeighborhoodScoresSpec::default()
    }
}

fn aggregate_spec(spec: &NeighborhoodSpec) -> NeighborhoodAggregateSpec {
    let spec = spec.clone();
    NeighborhoodAggregateSpec {
        dtype: spec.dtype,
        out_dtype: spec.out_dtype,
        window: spec.window,
        stride: spec.stride,
        group_offset: spec.group_offset,
        dilation: spec.dilation,
        causal: spec.causal,
        border: spec.border,
        ..NeighborhoodAggregateSpec::default()
    }
}

/// What scores are asked of: all but the values.
fn without_values(case: &Case, seed: u64) -> Inputs {
    let mut inputs = case.inputs(seed);
    inputs.remove("v");
    inputs
}

fn check_scores(engine: &Engine, case: &Case) -> Vec<f64> {
    let inputs = without_values(case, 5);
    let problem =
        NeighborhoodScoresProblem::new(&scores_spec(&case.spec), &descs(&inputs)).unwrap();
    let got = engine.run(&problem, None, &inputs).unwrap();
    let question = AnyProblem::NeighborhoodScores(Box::new(problem));
    if let Err(wrong) = Expected::new(&question, &inputs).unwrap().check(&got) {
        panic!("{question}\n{wrong}");
    }
    got["scores"].to_f64()
}

/// The case's v, and weights for it.
fn weighted(case: &Case, dtype: Dtype, seed: u64) -> Inputs {
    let mut inputs = case.inputs(5);
    inputs.retain(|name, _| name == "v");
    let volume = case.spec.window.iter().map(|&side| u64::from(side)).product();
    let shape = [&[case.batch], &case.spatial[..], &[case.heads[0], volume]].concat();
    let values = random(seed, shape.iter().product());
    inputs.insert("weights".to_owned(), HostTensor::from_f64(dtype, &shape, &values));
    inputs
}

fn check_aggregate(engine: &Engine, case: &Case, inputs: &Inputs) -> Vec<f64> {
    let spec = aggregate_spec(&case.spec);
    let problem = NeighborhoodAggregateProblem::new(&spec, &descs(inputs)).unwrap();
    let got = engine.run(&problem, None, inputs).unwrap();
    let question = AnyProblem::NeighborhoodAggregate(Box::new(problem));
    if let Err(wrong) = Expected::new(&question, inputs).unwrap().check(&got) {
        panic!("{question}\n{wrong}");
    }
    got["out"].to_f64()
}

fn cases() -> Vec<Case> {
    let mut grouped = Case::new(&[9, 14], &[3, 6]).with(|spec| {
        (spec.stride, spec.group_offset) = (vec![1, 4], vec![0, 3]);
        spec.dilation = vec![2, 1];
    });
    (grouped.heads, grouped.batch, grouped.dims) = ([4, 2], 2, [20, 24]);
    let mut odd = Case::new(&[31], &[5]).with(|spec| spec.causal = vec![true]);
    odd.dims = [7, 5];
    let clip = |spec: &mut NeighborhoodSpec| spec.border = Border::Clip;
    let three = Case::new(&[3, 8, 6], &[3, 4, 2])
        .with(|spec| (spec.stride, spec.group_offset) = (vec![1, 4, 2], vec![0, 2, 1]));
    vec![
        grouped.clone().with(clip),
        grouped,
        odd,
        three.clone().with(|spec| spec.causal = vec![false, true, false]),
        three.with(clip),
    ]
}

#[test]
fn scores_are_the_references() {
    for case in cases() {
        check_scores(engine(), &case);
    }
    check_scores(floor_engine(), &cases()[0]);
    for dtype in [Dtype::F16, Dtype::Bf16] {
        check_scores(engine(), &cases()[2].clone().with(|spec| spec.dtype = dtype));
    }
}

#[test]
fn aggregates_are_the_references() {
    for case in cases() {
        check_aggregate(engine(), &case, &weighted(&case, Dtype::F32, 2));
    }
    check_aggregate(floor_engine(), &cases()[0], &weighted(&cases()[0], Dtype::F32, 2));
    for dtype in [Dtype::F16, Dtype::Bf16] {
        let case = cases()[2].clone().with(|spec| spec.dtype = dtype);
        check_aggregate(engine(), &case, &weighted(&case, Dtype::F32, 2));
        let case = case.with(|spec| spec.out_dtype = Some(Dtype::F32));
        check_aggregate(engine(), &case, &weighted(&case, dtype, 2));
    }
}

/// What stands in slots without a key does not matter, whatever it is.
#[test]
fn weights_without_a_key_count_nothing() {
    let case = cases().remove(2);
    let inputs = weighted(&case, Dtype::F32, 2);
    let spec = scores_spec(&case.spec);
    let problem = NeighborhoodScoresProblem::new(&spec, &descs(&case.inputs(5))).unwrap();
    let scores = scores_reference(&problem, &case.inputs(5), false).unwrap();
    let mut poisoned = inputs.clone();
    let values = inputs["weights"].to_f64().into_iter().zip(&scores);
    let values: Vec<f64> = values.map(|(w, s)| if s.is_finite() { w } else { f64::NAN }).collect();
    assert!(values.iter().any(|value| value.is_nan()));
    let host = HostTensor::from_f64(Dtype::F32, &inputs["weights"].shape, &values);
    poisoned.insert("weights".to_owned(), host);
    let got = check_aggregate(engine(), &case, &inputs);
    assert_eq!(got, engine_out(&case, &poisoned));
}

fn engine_out(case: &Case, inputs: &Inputs) -> Vec<f64> {
    let spec = aggregate_spec(&case.spec);
    let problem = NeighborhoodAggregateProblem::new(&spec, &descs(inputs)).unwrap();
    engine().run(&problem, None, inputs).unwrap()["out"].to_f64()
}

#[test]
fn scores_softmax_aggregate_is_fused_attention() {
    for case in cases() {
        let inputs = case.inputs(5);
        let scores = check_scores(engine(), &case);
        let volume = case.spec.window.iter().product::<u32>() as usize;
        let softmax = |row: &[f64]| {
            let max = row.iter().copied().fold(f64::NEG_INFINITY, f64::max);
            let sum: f64 = row.iter().map(|score| (score - max).exp()).sum();
            row.iter().map(move |score| (score - max).exp() / sum).collect::<Vec<_>>()
        };
        let weights: Vec<f64> = scores.chunks(volume).flat_map(softmax).collect();
        let mut weighted = weighted(&case, Dtype::F32, 2);
        let shape = weighted["weights"].shape.clone();
        weighted.insert("weights".to_owned(), HostTensor::from_f64(Dtype::F32, &shape, &weights));
        let out = engine_out(&case, &weighted);
        let fused = case.clone().with(|spec| spec.outputs = vec![NeighborhoodOutput::Out]);
        let problem = problem(&fused.spec, &inputs);
        let truth = reference(&problem, &inputs).unwrap();
        let plain = plain(&problem, &inputs).unwrap();
        hold(&problem, &BTreeMap::from([("out".to_owned(), out)]), &truth, &plain);
    }
}

/// Scores with gaps between rows and an offset; what lies between stays.
#[test]
fn strided_scores() {
    let case = cases().remove(0);
    let inputs = without_values(&case, 5);
    let spec = scores_spec(&case.spec);
    let mut tensors = descs(&inputs);
    let dense = NeighborhoodScoresProblem::new(&spec, &tensors).unwrap();
    let shape = dense.tensors()["scores"].shape().to_vec();
    let strides = [shape[1] * 1600, 1600, 100, 21, 1];
    let layout = Layout::new(&shape, &strides, 3).unwrap();
    let desc = TensorDesc { dtype: Dtype::F32, layout };
    tensors.insert("scores".to_owned(), desc.clone());
    let problem = NeighborhoodScoresProblem::new(&spec, &tensors).unwrap();
    let elements = engine().run(&problem, None, &inputs).unwrap()["scores"].to_f64();
    let truth = scores_reference(&problem, &inputs, false).unwrap();
    for (got, expected) in gather(&desc, &elements).iter().zip(&truth) {
        assert!(got == expected || (got - expected).abs() < 1e-5, "{got} {expected}");
    }
    let touched = elements.iter().filter(|value| !value.is_nan()).count();
    assert_eq!(touched, places(&desc).len());
}

#[test]
fn wrong_questions_are_named() {
    let case = Case::new(&[12, 10], &[5, 4]);
    let refusal = |change: &dyn Fn(&mut NeighborhoodAggregateSpec, &mut TensorDescs)| {
        let mut tensors = descs(&weighted(&case, Dtype::F32, 1));
        let mut spec = aggregate_spec(&case.spec);
        change(&mut spec, &mut tensors);
        let wrong: SpecError = NeighborhoodAggregateProblem::new(&spec, &tensors).unwrap_err();
        wrong.to_string()
    };
    let weights = |shape: &[u64]| TensorDesc::contiguous(Dtype::F32, shape);
    let with_weights = |shape: &[u64]| {
        refusal(&|_, tensors| drop(tensors.insert("weights".to_owned(), weights(shape))))
    };
    for (got, expected) in [
        (
            with_weights(&[1, 12, 10, 2, 19]),
            "weights: expected 20 slots, as many as the window has keys, got 19",
        ),
        (with_weights(&[1, 12, 9, 2, 20]), "weights: expected X1 10 as v has, got X1 9"),
        (with_weights(&[1, 12, 10, 3, 20]), "q_heads: expected a multiple of kv_heads 2, got 3"),
        (
            refusal(&|_, tensors| drop(tensors.remove("weights"))),
            "tensor weights is missing (asked for by neighborhood_aggregate)",
        ),
        (
            refusal(&|spec, _| spec.stride = vec![1, 5]),
            "stride of axis 1: expected at most the window, 4, got 5",
        ),
        (refusal(&|spec, _| spec.dtype = Dtype::F16), "v: expected dtype f16, got f32"),
    ] {
        assert_eq!(got, expected);
    }
}
