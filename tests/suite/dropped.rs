//! What a row drops does not reach it, whatever it is; what it keeps does. Sums of large values do not overflow.

use serde_json::{Value, json};
use tilewise::attention::reference;
use tilewise::operator::Operator;
use tilewise::tensor::{Dtype, HostTensor};

use crate::support::{Tensors, engine, floor_engine, inputs, problem};

/// Query heads share key heads; rows and keys end within tiles.
const EXTENTS: [u64; 6] = [2, 4, 2, 37, 150, 24];

/// Tests of a mask run with every nth candidate.
const SOME: usize = 9;

fn put(tensors: &mut Tensors, name: &str, dtype: Dtype, shape: &[u64], values: &[f64]) {
    tensors.insert(name.to_owned(), HostTensor::from_f64(dtype, shape, values));
}

/// q, k and v of one dtype; v has what is not finite in some dims of a key of every kind of place, k in one.
fn poisoned(dtype: Dtype) -> Tensors {
    let mut tensors = inputs(EXTENTS);
    let numbers = [f64::NAN, f64::INFINITY, f64::NEG_INFINITY];
    for name in ["q", "k", "v"] {
        let shape = tensors[name].shape.clone();
        let mut values = tensors[name].to_f64();
        if name == "v" {
            for (index, key) in [3, 64, 100, 129, 130, 131, 149].into_iter().enumerate() {
                values[key * 24 + index] = numbers[index % 3];
                values[(450 + key) * 24 + 23 - index] = numbers[(index + 1) % 3];
            }
            // The same dim of two keys: a row that sees both has infinity minus infinity.
            values[140 * 24 + 1] = f64::INFINITY;
            values[141 * 24 + 1] = f64::NEG_INFINITY;
        }
        if name == "k" {
            values[(450 + 145) * 24 + 2] = f64::NAN;
        }
        put(&mut tensors, name, dtype, &shape, &values);
    }
    tensors
}

/// Same kinds of numbers everywhere, and finite ones near each other.
fn hold(what: &str, got: &[f64], expected: &[f64], most: f64) {
    assert_eq!(got.len(), expected.len(), "{what}");
    for (index, (got, expected)) in got.iter().zip(expected).enumerate() {
        let near = (got - expected).abs() <= most * expected.abs().max(1.0);
        let same = got == expected || (got.is_nan() && expected.is_nan());
        assert!(same || near, "{what}[{index}]: got {got:e}, expected {expected:e}");
    }
}

fn check(spec: &Value, tensors: &Tensors, every: usize) {
    let trial = problem(spec, tensors);
    let expected = reference(&trial, tensors).unwrap();
    let most = if trial.spec().dtype == Dtype::F32 { 2e-5 } else { 2e-2 };
    for engine in [engine(), floor_engine()] {
        let candidates = trial.candidates(engine.limits()).unwrap();
        for tiles in candidates.into_iter().step_by(every) {
            let what = format!("{spec} {tiles:?}");
            let got = engine.run(&trial, Some(tiles), tensors).unwrap();
            hold(&format!("out of {what}"), &got["out"].to_f64(), &expected.out, most);
            if let Some(lse) = got.get("lse") {
                hold(&format!("lse of {what}"), &lse.to_f64(), &expected.lse, most);
            }
        }
    }
}

fn with(dtype: Dtype, fields: &Value) -> Value {
    let mut spec = json!({"dtype": dtype, "outputs": ["out", "lse"]});
    for (name, value) in fields.as_object().unwrap() {
        spec[name] = value.clone();
    }
    spec
}

#[test]
fn not_finite_values_of_dropped_keys_stay_away_with_every_tile_set() {
    for (dtype, every) in [(Dtype::F32, 1), (Dtype::F16, 2), (Dtype::Bf16, SOME)] {
        let spec = with(dtype, &json!({"mask": {"band": {"right": 0}}}));
        check(&spec, &poisoned(dtype), every);
    }
}

#[test]
fn not_finite_values_of_dropped_keys_stay_away_with_every_mask() {
    let mut tensors = poisoned(Dtype::F32);
    let keeps = |q: usize, key: usize| f64::from(u8::from((q * 7 + key * 5) % 11 < 4));
    let dense: Vec<f64> = (0..37 * 150).map(|index| keeps(index / 150, index % 150)).collect();
    put(&mut tensors, "keep", Dtype::Bool, &[1, 1, 37, 150], &dense);
    let ids = |count: usize| (0..count).map(|index| (index / 29 % 3) as f64).collect::<Vec<_>>();
    put(&mut tensors, "doc_q", Dtype::I32, &[2, 37], &ids(74));
    put(&mut tensors, "doc_kv", Dtype::I32, &[2, 150], &ids(300));
    let masks = [
        json!({"band": {"left": 40, "right": 0}}),
        json!({"and": [{"band": {"right": 9}}, {"sink": 4}]}),
        json!({"or": [{"sink": 4}, {"band": {"left": 3, "right": 3}}]}),
        json!({"not": {"band": {"left": 20, "right": 0}}}),
        json!({"dense": "keep"}),
        json!({"documents": {"q": "doc_q", "kv": "doc_kv"}}),
        json!({"wgsl": "fn mask_mod(b: u32, h: u32, q: u32, kv: u32) -> bool { return (q + kv + h) % 3u == 0u; }"}),
    ];
    for mask in masks {
        let used = mask.to_string();
        let named =
            |name: &str| !["keep", "doc_q", "doc_kv"].contains(&name) || used.contains(name);
        let own: Tensors = tensors
            .iter()
            .filter(|(name, _)| named(name))
            .map(|(a, b)| (a.clone(), b.clone()))
            .collect();
        check(&with(Dtype::F32, &json!({"mask": mask})), &own, SOME);
    }
}

#[test]
fn a_bias_of_minus_infinity_drops_nan_too_whatever_modifiers_follow() {
    for dtype in [Dtype::F32, Dtype::F16] {
        let mut tensors = poisoned(dtype);
        let bias = |index: usize| {
            let (q, key) = (index / 150, index % 150);
            if (q * 3 + key) % 4 == 0 { f64::NEG_INFINITY } else { (key % 7) as f64 / 8.0 }
        };
        let values: Vec<f64> = (0..37 * 150).map(bias).collect();
        put(&mut tensors, "bias", dtype, &[1, 1, 37, 150], &values);
        let score = json!([{"bias": "bias"}, {"softcap": 4.0}]);
        check(&with(dtype, &json!({"score": score})), &tensors, SOME);
        let sigmoid =
            json!({"score": [{"bias": "bias"}], "normaliser": "sigmoid", "outputs": ["out"]});
        check(&with(dtype, &sigmoid), &tensors, SOME);
    }
}

#[test]
fn keys_beyond_the_lengths_of_batches_stay_away() {
    let mut tensors = poisoned(Dtype::F32);
    put(&mut tensors, "kv_lens", Dtype::I32, &[2], &[62.0, 129.0]);
    check(&with(Dtype::F32, &json!({})), &tensors, SOME);
    check(&with(Dtype::F32, &json!({"mask": {"band": {"left": 50, "right": 0}}})), &tensors, SOME);
}

#[test]
fn values_near_the_largest_number_do_not_overflow() {
    for dtype in [Dtype::F32, Dtype::Bf16] {
        let mut tensors = inputs(EXTENTS);
        for name in ["q", "k", "v"] {
            let shape = tensors[name].shape.clone();
            let values = tensors[name].to_f64();
            let large = |value: &f64| if name == "v" { 3.2e38 + value * 1e37 } else { *value };
            put(&mut tensors, name, dtype, &shape, &values.iter().map(large).collect::<Vec<_>>());
        }
        check(&with(dtype, &json!({})), &tensors, SOME / 2);
        let capped = json!({"mask": {"band": {"right": 0}}, "score": [{"softcap": 3.0}]});
        check(&with(dtype, &capped), &tensors, SOME);
    }
}

#[test]
fn nan_in_queries_and_keys_reaches_the_rows_that_see_it_and_no_other() {
    for dtype in [Dtype::F32, Dtype::F16] {
        for score in [json!([]), json!([{"bias": "bias"}]), json!([{"softcap": 2.0}])] {
            let mut tensors = inputs(EXTENTS);
            for (name, at) in [("q", 5 * 24 + 3), ("k", 140 * 24), ("v", 0)] {
                let shape = tensors[name].shape.clone();
                let mut values = tensors[name].to_f64();
                if name != "v" {
                    values[at] = f64::NAN;
                }
                put(&mut tensors, name, dtype, &shape, &values);
            }
            if score.to_string().contains("bias") {
                put(&mut tensors, "bias", dtype, &[1, 1, 1, 150], &[0.25; 150]);
            }
            let fields = json!({"score": score, "mask": {"band": {"right": 0}}});
            check(&with(dtype, &fields), &tensors, SOME);
        }
    }
}
