//! What must hold whatever the numbers.

use tilewise::attention::{
    AttentionLayout, AttentionOutput, AttentionProblem, AttentionSpec, Mask,
};
use tilewise::neighborhood::{plain, reference};
use tilewise::operator::Operator;
use tilewise::tensor::{Dtype, HostTensor, descs};

use crate::harness::{Case, Inputs, engine, hold, numbers, problem};

/// Our own attention over the same tensors, tokens in one row.
fn attention(
    inputs: &Inputs,
    tokens: u64,
    mask: Mask,
) -> std::collections::BTreeMap<String, Vec<f64>> {
    let flat: Inputs = inputs
        .iter()
        .map(|(name, host)| {
            let shape = &host.shape;
            let (heads, dim) = (shape[shape.len() - 2], shape[shape.len() - 1]);
            let batch = shape[..shape.len() - 2].iter().product::<u64>() / tokens;
            let host = HostTensor { shape: vec![batch, tokens, heads, dim], ..host.clone() };
            (name.clone(), host)
        })
        .collect();
    let descs = descs(&flat);
    let spec = AttentionSpec {
        layout: AttentionLayout::Bshd,
        mask,
        outputs: vec![AttentionOutput::Out],
        ..AttentionSpec::default()
    };
    let problem = AttentionProblem::new(&spec, &descs).unwrap();
    numbers(engine().run(&problem, None, &flat).unwrap())
}

#[test]
fn a_full_window_is_attention() {
    let case = Case::new(&[6, 9], &[6, 9]);
    let inputs = case.inputs(1);
    let problem = problem(&case.spec, &inputs);
    let (truth, plain) = (reference(&problem, &inputs).unwrap(), plain(&problem, &inputs).unwrap());
    hold(&problem, &attention(&inputs, 54, Mask::Full), &truth, &plain);
    let case = Case::new(&[50], &[50]).with(|spec| spec.causal = vec![true]);
    let inputs = case.inputs(2);
    let got = numbers(
        engine().run(&crate::harness::problem(&case.spec, &inputs), None, &inputs).unwrap(),
    );
    let dense = attention(&inputs, 50, Mask::causal());
    for (a, b) in got["out"].iter().zip(&dense["out"]) {
        assert!((a - b).abs() < 1e-5, "{a} {b}");
    }
}

/// With stride = window each group of tokens is a sequence of its own.
#[test]
fn stride_equal_to_window_is_blocked_attention() {
    let case = Case::new(&[64], &[16]).with(|spec| spec.stride = vec![16]);
    let inputs = case.inputs(3);
    let problem = problem(&case.spec, &inputs);
    let got = numbers(engine().run(&problem, None, &inputs).unwrap());
    let blocked = attention(&inputs, 16, Mask::Full);
    for (a, b) in got["out"].iter().zip(&blocked["out"]) {
        assert!((a - b).abs() < 1e-5, "{a} {b}");
    }
}

#[test]
fn a_nan_in_a_query_stays_in_its_row() {
    let case = Case::new(&[24, 24], &[3, 3]);
    let clean = case.inputs(4);
    let problem = problem(&case.spec, &clean);
    let clean_out = numbers(engine().run(&problem, None, &clean).unwrap());
    let mut poisoned = clean.clone();
    let mut values = clean["q"].to_f64();
    let row = (24 * 11 + 13) * 2 * 16;
    values[row + 5] = f64::NAN; // token (11, 13), head 0
    poisoned.insert("q".to_owned(), HostTensor::from_f64(Dtype::F32, &clean["q"].shape, &values));
    let out = numbers(engine().run(&problem, None, &poisoned).unwrap());
    for (index, (got, expected)) in out["out"].iter().zip(&clean_out["out"]).enumerate() {
        let own = (row..row + 16).contains(&index);
        assert!(got == expected || own, "element {index}: {got} {expected}");
    }
}

#[test]
fn values_of_one_give_one() {
    let mut case = Case::new(&[11, 13], &[5, 4]).with(|spec| spec.dilation = vec![2, 3]);
    case.extra = 3;
    let mut inputs = case.inputs(5);
    for name in ["v", "extra_v"] {
        let shape = inputs[name].shape.clone();
        let ones = vec![1.0; shape.iter().product::<u64>() as usize];
        inputs.insert(name.to_owned(), HostTensor::from_f64(Dtype::F32, &shape, &ones));
    }
    let out = numbers(engine().run(&problem(&case.spec, &inputs), None, &inputs).unwrap());
    assert!(out["out"].iter().all(|value| (value - 1.0).abs() < 1e-5));
}

/// Dilation d is d interleaved problems without dilation.
#[test]
fn dilation_is_interleaved_problems() {
    let case = Case::new(&[30], &[5]).with(|spec| spec.dilation = vec![3]);
    let inputs = case.inputs(6);
    let whole = numbers(engine().run(&problem(&case.spec, &inputs), None, &inputs).unwrap());
    for class in 0..3 {
        let rows = |values: &[f64], row: usize| -> Vec<f64> {
            values.chunks(row).skip(class).step_by(3).flatten().copied().collect()
        };
        let part: Inputs = inputs
            .iter()
            .map(|(name, host)| {
                let values = rows(&host.to_f64(), 32);
                (name.clone(), HostTensor::from_f64(Dtype::F32, &[1, 10, 2, 16], &values))
            })
            .collect();
        let plain_spec = Case::new(&[10], &[5]).spec;
        let out = numbers(engine().run(&problem(&plain_spec, &part), None, &part).unwrap());
        for (a, b) in out["out"].iter().zip(rows(&whole["out"], 32)) {
            assert!((a - b).abs() < 1e-5, "class {class}: {a} {b}");
        }
    }
}

/// Values that are not finite, and NaN in keys: they reach the queries whose windows hold them, with every tile set.
#[test]
fn what_no_window_of_a_query_holds_does_not_reach_it_whatever_it_is() {
    let mut case = Case::new(&[12, 19], &[4, 5]);
    case.extra = 2;
    for (dtype, change) in [(Dtype::F32, [false, true]), (Dtype::F16, [true, false])] {
        let case = case.clone().with(|spec| {
            spec.dtype = dtype;
            spec.causal = change.to_vec();
            spec.dilation = vec![1, 2];
        });
        let mut inputs = case.inputs(9);
        let not_finite = [f64::NAN, f64::INFINITY, f64::NEG_INFINITY];
        for (name, tokens) in [("v", &[0, 25, 60, 61, 130, 227][..]), ("k", &[100][..])] {
            let shape = inputs[name].shape.clone();
            let mut values = inputs[name].to_f64();
            for (index, token) in tokens.iter().enumerate() {
                values[token * 32 + 16 * (index % 2) + index] = not_finite[index % 3];
            }
            inputs.insert(name.to_owned(), HostTensor::from_f64(dtype, &shape, &values));
        }
        let problem = problem(&case.spec, &inputs);
        let truth = reference(&problem, &inputs).unwrap();
        let most = if dtype == Dtype::F32 { 1e-5 } else { 1e-2 };
        for tiles in problem.candidates(engine().limits()).unwrap().into_iter().step_by(3) {
            let got = numbers(engine().run(&problem, Some(tiles), &inputs).unwrap());
            for (name, truth) in [("out", &truth.out), ("lse", &truth.lse)] {
                for (index, (got, expected)) in got[name].iter().zip(truth).enumerate() {
                    let same = got == expected || (got.is_nan() && expected.is_nan());
                    let near = (got - expected).abs() < most;
                    assert!(same || near, "{tiles} {name}[{index}]: {got}, not {expected}");
                }
            }
        }
    }
}
