//! What holds of attention whatever its inputs.

use serde_json::{Value, json};
use tilewise::attention::{MergeProblem, MergeSpec};
use tilewise::tensor::{Dtype, HostTensor};

use crate::support::{Tensors, assert_near, engine, inputs, noise, problem, run, tensor};

const EXTENTS: [u64; 6] = [2, 4, 2, 70, 131, 40];

fn both(fields: &Value) -> Value {
    let mut spec = json!({"outputs": ["out", "lse"]});
    for (name, value) in fields.as_object().unwrap() {
        spec[name] = value.clone();
    }
    spec
}

fn put(tensors: &mut Tensors, name: &str, shape: &[u64], values: &[f64]) {
    tensors.insert(name.to_owned(), HostTensor::from_f64(Dtype::F32, shape, values));
}

/// The tensor's rows of one axis, picked by `order`.
fn picked(tensor: &HostTensor, axis: usize, order: &[u64]) -> HostTensor {
    let inner: u64 = tensor.shape[axis + 1..].iter().product::<u64>() * tensor.dtype.bytes();
    let outer: u64 = tensor.shape[..axis].iter().product();
    let mut shape = tensor.shape.clone();
    shape[axis] = order.len() as u64;
    let mut bytes = Vec::new();
    for block in 0..outer {
        for index in order {
            let at = ((block * tensor.shape[axis] + index) * inner) as usize;
            bytes.extend_from_slice(&tensor.bytes[at..at + inner as usize]);
        }
    }
    HostTensor { dtype: tensor.dtype, shape, bytes }
}

#[test]
fn shuffling_the_keys_changes_nothing() {
    let tensors = inputs(EXTENTS);
    let order: Vec<u64> = (0..131).map(|key| key * 37 % 131).collect();
    let mut shuffled = tensors.clone();
    for name in ["k", "v"] {
        shuffled.insert(name.to_owned(), picked(&tensors[name], 2, &order));
    }
    let (plain, shuffled) = (run(&both(&json!({})), &tensors), run(&both(&json!({})), &shuffled));
    assert_near("out", &shuffled["out"], &plain["out"], 1e-6);
    assert_near("lse", &shuffled["lse"], &plain["lse"], 2e-6);
}

#[test]
fn split_and_merged_is_whole() {
    let tensors = inputs(EXTENTS);
    let whole = run(&both(&json!({})), &tensors);
    let (mut outs, mut lses) = (Vec::new(), Vec::new());
    for keys in [0..50, 50..50, 50..131] {
        let order: Vec<u64> = keys.collect();
        let mut part = tensors.clone();
        for name in ["k", "v"] {
            part.insert(name.to_owned(), picked(&tensors[name], 2, &order));
        }
        let part = run(&both(&json!({})), &part);
        outs.extend(part["out"].clone());
        lses.extend(part["lse"].clone());
    }
    let mut parts = Tensors::new();
    put(&mut parts, "outs", &[3, 2, 4, 70, 40], &outs);
    put(&mut parts, "lses", &[3, 2, 4, 70], &lses);
    let descs = parts.iter().map(|(name, tensor)| (name.clone(), tensor.desc())).collect();
    let merge = MergeProblem::new(&MergeSpec::default(), &descs).unwrap();
    let merged = engine().run(&merge, None, &parts).unwrap();
    assert_near("out", &merged["out"].to_f64(), &whole["out"], 1e-6);
    assert_near("lse", &merged["lse"].to_f64(), &whole["lse"], 2e-6);
}

#[test]
fn a_constant_added_to_the_scores_of_a_row_moves_only_lse() {
    let mut tensors = inputs(EXTENTS);
    let shifts = noise(70, 9);
    let spec = both(&json!({"score": [{"bias": "b"}]}));
    put(&mut tensors, "b", &[1, 1, 70, 1], &[0.0; 70]);
    let still = run(&spec, &tensors);
    put(&mut tensors, "b", &[1, 1, 70, 1], &shifts);
    let moved = run(&spec, &tensors);
    assert_near("out", &moved["out"], &still["out"], 1e-6);
    let lse: Vec<f64> =
        still["lse"].iter().enumerate().map(|(row, lse)| lse + shifts[row % 70]).collect();
    assert_near("lse", &moved["lse"], &lse, 3e-6);
}

#[test]
fn values_of_one_give_one() {
    let mut tensors = inputs(EXTENTS);
    put(&mut tensors, "v", &[2, 2, 131, 40], &[1.0; 2 * 2 * 131 * 40]);
    let result = run(&both(&json!({"mask": {"band": {"left": 20, "right": 0}}})), &tensors);
    assert_near("out", &result["out"], &vec![1.0; result["out"].len()], 1e-6);
}

#[test]
fn batches_do_not_touch_each_other() {
    let tensors = inputs(EXTENTS);
    let together = run(&both(&json!({})), &tensors);
    for batch in 0..2 {
        let alone: Tensors = tensors
            .iter()
            .map(|(name, tensor)| (name.clone(), picked(tensor, 0, &[batch])))
            .collect();
        let alone = run(&both(&json!({})), &alone);
        for name in ["out", "lse"] {
            let count = alone[name].len();
            let first = batch as usize * count;
            assert_near(name, &alone[name], &together[name][first..first + count], 1e-6);
        }
    }
}

#[test]
fn nan_in_a_query_stays_in_its_row() {
    for extents in [EXTENTS, [2, 4, 2, 1, 300, 40]] {
        let mut tensors = inputs(extents);
        let clean = run(&both(&json!({})), &tensors);
        let mut q = tensors["q"].to_f64();
        let row = (extents[3] as usize * 5) / 2;
        q[row * 40 + 3] = f64::NAN;
        let shape = tensors["q"].shape.clone();
        put(&mut tensors, "q", &shape, &q);
        let result = run(&both(&json!({})), &tensors);
        for (name, width) in [("out", 40), ("lse", 1)] {
            for (index, value) in result[name].iter().enumerate() {
                let same = *value == clean[name][index];
                assert!(
                    if index / width == row { value.is_nan() } else { same },
                    "{name}[{index}]: {value}"
                );
            }
        }
    }
}

#[test]
fn a_full_window_is_attention() {
    let tensors = inputs(EXTENTS);
    let full = run(&both(&json!({})), &tensors);
    let window = run(&both(&json!({"mask": {"band": {"left": 131, "right": 131}}})), &tensors);
    assert_near("out", &window["out"], &full["out"], 1e-6);
    assert_near("lse", &window["lse"], &full["lse"], 2e-6);
}

#[test]
fn a_prefix_and_the_rest_are_the_whole() {
    let whole = inputs(EXTENTS);
    let mut parts = whole.clone();
    let (first, rest): (Vec<u64>, Vec<u64>) = ((0..60).collect(), (60..131).collect());
    for name in ["k", "v"] {
        // One prefix serves both batches: the whole has it twice.
        let prefix = picked(&picked(&whole[name], 0, &[0]), 2, &first);
        let own = picked(&whole[name], 2, &rest);
        let shape = vec![2, 60, 40];
        parts.insert(format!("prefix_{name}"), HostTensor { shape, ..prefix });
        parts.insert(name.to_owned(), own);
    }
    let mut joined = whole;
    for name in ["k", "v"] {
        let (prefix, own) = (&parts[&format!("prefix_{name}")], &parts[name]);
        let (head, rest) = (60 * 40 * 4, 71 * 40 * 4);
        let bytes = (0..4_usize).flat_map(|row| {
            let prefix = &prefix.bytes[row % 2 * head..(row % 2 + 1) * head];
            [prefix, &own.bytes[row * rest..(row + 1) * rest]].concat()
        });
        let bytes = bytes.collect();
        joined.insert(
            name.to_owned(),
            HostTensor { dtype: Dtype::F32, shape: vec![2, 2, 131, 40], bytes },
        );
    }
    let spec = both(&json!({"mask": {"band": {"right": 0}}}));
    let (parts, joined) = (run(&spec, &parts), run(&spec, &joined));
    assert_near("out", &parts["out"], &joined["out"], 1e-6);
    assert_near("lse", &parts["lse"], &joined["lse"], 2e-6);
}

#[test]
fn a_gate_of_zero_gives_zero_whatever_else() {
    for outputs in [json!(["out"]), json!(["out", "lse"])] {
        let mut tensors = inputs(EXTENTS);
        let spec = json!({"outputs": outputs});
        let open = run(&spec, &tensors);
        let mut v = tensors["v"].to_f64();
        v[5] = f64::NAN; // of key head 0, which query heads 0 and 1 read
        put(&mut tensors, "v", &[2, 2, 131, 40], &v);
        let gates: Vec<f64> = (0..8).flat_map(|head| [f64::from(head % 4) - 1.0; 70]).collect();
        let gates: Vec<f64> = gates.into_iter().map(|gate| gate.max(0.0)).collect();
        put(&mut tensors, "head_gate", &[2, 4, 70], &gates);
        let gated = run(&spec, &tensors);
        for (index, out) in gated["out"].iter().enumerate() {
            let gate = gates[index / 40];
            let expected = if gate == 0.0 { 0.0 } else { gate * open["out"][index] };
            assert!((out - expected).abs() <= 1e-6, "[{index}]: {out}, expected {expected}");
        }
        if let Some(lse) = open.get("lse") {
            assert_near("lse", &gated["lse"], lse, 2e-6);
        }
    }
}

#[test]
fn two_runs_give_the_same_bits() {
    for dtype in [Dtype::F32, Dtype::F16] {
        let mut tensors = inputs([1, 3, 1, 9, 300, 7]);
        for (seed, name) in ["q", "k", "v"].into_iter().enumerate() {
            let shape = tensors[name].shape.clone();
            tensors.insert(name.to_owned(), tensor(dtype, &shape, seed as u64));
        }
        let problem = problem(&both(&json!({"dtype": dtype})), &tensors);
        let first = engine().run(&problem, None, &tensors).unwrap();
        let again = engine().run(&problem, None, &tensors).unwrap();
        assert_eq!(first, again);
    }
}
