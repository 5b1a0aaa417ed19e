//! Masks of many terms, and tensors that are there for more than one thing.

use serde_json::{Value, json};
use tilewise::attention::{AttentionProblem, AttentionSpec, Mask, reference};
use tilewise::operator::Operator;
use tilewise::tensor::{Dtype, HostTensor};

use crate::support::{
    Tensors, assert_near, engine, floor_engine, inputs, problem, tensor, try_problem,
};

/// Held against the reference, on the default device and on WebGPU's least one.
fn assert_right(what: &str, problem: &AttentionProblem, tensors: &Tensors) {
    let expected = reference(problem, tensors).unwrap();
    for engine in [engine(), floor_engine()] {
        let got = engine.run(problem, None, tensors).unwrap_or_else(|e| panic!("{what}: {e}"));
        assert_near(&format!("{what} out"), &got["out"].to_f64(), &expected.out, 2e-5);
        assert_near(&format!("{what} lse"), &got["lse"].to_f64(), &expected.lse, 2e-5);
    }
}

fn both(mask: Value) -> Value {
    json!({"outputs": ["out", "lse"], "mask": mask})
}

#[test]
fn lists_of_hundreds_of_masks_are_right() {
    let tensors = inputs([1, 2, 2, 20, 230, 8]);
    // What one term more or less would show: each drops or adds a key of its own.
    let single = |key: u32| json!({"and": [{"prefix": key + 1}, {"not": {"prefix": key}}]});
    let or: Vec<Value> = (0..200).step_by(8).map(single).collect();
    let and: Vec<Value> =
        (0..200).map(|n| json!({"band": {"left": 400 - n, "right": n}})).collect();
    for (what, mask) in [("or", json!({"or": or})), ("and", json!({"and": and}))] {
        assert_right(what, &problem(&both(mask), &tensors), &tensors);
    }
}

#[test]
fn two_hundred_heads_may_have_masks_of_their_own() {
    let tensors = inputs([1, 200, 2, 3, 230, 8]);
    let masks: Vec<Value> =
        (0..200).map(|head| json!({"band": {"left": head, "right": head % 7}})).collect();
    assert_right("per_head", &problem(&both(json!({"per_head": masks})), &tensors), &tensors);
}

/// A causal mask, turned round so many times.
fn turned(times: usize) -> Mask {
    (0..times).fold(Mask::causal(), |mask, _| Mask::Not(Box::new(mask)))
}

#[test]
fn a_mask_may_be_turned_round_two_hundred_times() {
    let tensors = inputs([1, 2, 2, 40, 131, 8]);
    let descs = tensors.iter().map(|(name, tensor)| (name.clone(), tensor.desc())).collect();
    let spec: AttentionSpec = serde_json::from_value(both(json!("full"))).unwrap();
    for times in [200, 201] {
        let spec = AttentionSpec { mask: turned(times), ..spec.clone() };
        let problem = AttentionProblem::new(&spec, &descs).unwrap();
        assert_right(&format!("{times} times not"), &problem, &tensors);
    }
    let deep = AttentionSpec { mask: turned(300), ..spec };
    let error = AttentionProblem::new(&deep, &descs).unwrap_err().to_string();
    assert!(error.contains("at most 256 masks within one another, got 301"), "{error}");
}

#[test]
fn more_masks_than_a_kernel_takes_are_refused_by_their_number() {
    let tensors = inputs([1, 2, 2, 9, 33, 8]);
    for form in ["and", "or"] {
        let mask = json!({form: vec![json!({"sink": 3}); 5000]});
        let error = try_problem(&both(mask), &tensors).unwrap_err();
        assert!(error.contains("mask: expected at most 1024 masks"), "{error}");
        assert!(error.contains("got 5001"), "{error}");
    }
}

#[test]
fn a_tensor_may_be_there_for_several_things() {
    let extents = [2, 4, 2, 70, 131, 40];
    let mut tensors = inputs(extents);
    tensors.insert("t".to_owned(), tensor(Dtype::F32, &[2, 4, 70, 131], 7));
    tensors.insert("s".to_owned(), tensor(Dtype::F32, &[4], 8));
    let documents: Vec<f64> = (0..2 * 131).map(|at| f64::from(at / 40 % 3)).collect();
    tensors.insert("d".to_owned(), HostTensor::from_f64(Dtype::I32, &[2, 131], &documents));
    let q_documents: Vec<f64> = (0..2 * 70).map(|at| f64::from(at / 20 % 3)).collect();
    tensors.insert("e".to_owned(), HostTensor::from_f64(Dtype::I32, &[2, 70], &q_documents));
    let head = |at: &str| json!({"wgsl": format!("fn score_mod(score: f32, b: u32, h: u32, q: u32, kv: u32) -> f32 {{ return score + {at}; }}"), "aux": [&at[..1]]});
    let seen = |at: &str| json!({"wgsl": format!("fn mask_mod(b: u32, h: u32, q: u32, kv: u32) -> bool {{ return {at}; }}"), "aux": [&at[..1]]});
    let table = head("t[36679u - h]");
    let bias = json!({"bias": "t"});
    let uses = [
        ("aux, then bias", json!({"score": [table, bias]})),
        ("bias, then aux", json!({"score": [bias, table]})),
        ("bias twice", json!({"score": [bias, {"softcap": 3.0}, bias]})),
        (
            "a mask's aux, then bias",
            json!({"score": [bias], "mask": seen("t[q * 131u + kv] > -0.5")}),
        ),
        ("slopes, then aux", json!({"score": [{"alibi": "s"}, head("s[h]")]})),
        (
            "aux, then slopes and sink",
            json!({"score": [head("s[h]"), {"alibi": "s"}], "normaliser": {"softmax": {"sink": "s"}}}),
        ),
        (
            "documents and aux",
            json!({"mask": {"and": [seen("d[kv] < 2"), {"documents": {"q": "e", "kv": "d"}}]}}),
        ),
    ];
    for (what, uses) in uses {
        let mut spec = both(json!("full"));
        for (field, value) in uses.as_object().unwrap() {
            spec[field] = value.clone();
        }
        let text = spec.to_string();
        let mut named = tensors.clone();
        named.retain(|name, _| {
            name.len() > 1 || "qkv".contains(name.as_str()) || text.contains(&format!("\"{name}\""))
        });
        assert_right(what, &problem(&spec, &named), &named);
    }
}

#[test]
fn numbers_that_mean_nothing_are_refused_where_the_host_sees_them() {
    let i32s = |values: &[f64]| HostTensor::from_f64(Dtype::I32, &[values.len() as u64], values);
    let packed = |starts: &[f64]| {
        let mut tensors = Tensors::new();
        for (name, heads) in [("q", 4), ("k", 2), ("v", 2)] {
            tensors.insert(name.to_owned(), tensor(Dtype::F32, &[6, heads, 8], 1));
        }
        for name in ["cu_seqlens_q", "cu_seqlens_kv"] {
            tensors.insert(name.to_owned(), i32s(&[0.0, 4.0, 6.0, 6.0]));
        }
        tensors.insert("cu_seqlens_kv".to_owned(), i32s(starts));
        tensors
    };
    let lens = |lens: &[f64]| {
        let mut tensors = inputs([2, 2, 2, 3, 9, 8]);
        tensors.insert("kv_lens".to_owned(), i32s(lens));
        tensors
    };
    let paged = |table: &[f64]| {
        let mut tensors = Tensors::from([("kv_lens".to_owned(), i32s(&[5.0, 8.0]))]);
        tensors.insert("q".to_owned(), tensor(Dtype::F32, &[2, 4, 1, 8], 1));
        for name in ["k_pages", "v_pages"] {
            tensors.insert(name.to_owned(), tensor(Dtype::F32, &[3, 4, 2, 8], 2));
        }
        let table = HostTensor::from_f64(Dtype::I32, &[2, 3], table);
        tensors.insert("block_table".to_owned(), table);
        tensors
    };
    let wrong = [
        (packed(&[0.0, 4.0, 2.0, 6.0]), "cu_seqlens_kv[2]: expected 4 to 6"),
        (packed(&[0.0, 4.0, 6.0, 7.0]), "cu_seqlens_kv[3]: expected 6 to 6"),
        (packed(&[-1.0, 4.0, 6.0, 6.0]), "cu_seqlens_kv[0]: expected 0 to 6"),
        (lens(&[9.0, 10.0]), "kv_lens[1]: expected 0 to 9"),
        (lens(&[-1.0, 9.0]), "kv_lens[0]: expected 0 to 9"),
        (
            paged(&[0.0, 3.0, -1.0, 1.0, 2.0, -1.0]),
            "block_table[0, 1]: expected a page from 0 to 2",
        ),
        (
            paged(&[0.0, 1.0, -1.0, 1.0, -2.0, -1.0]),
            "block_table[1, 1]: expected a page from 0 to 2",
        ),
    ];
    for (tensors, message) in wrong {
        let problem = problem(&json!({}), &tensors);
        let error = engine().run(&problem, None, &tensors).unwrap_err().to_string();
        assert!(error.contains(message), "{message}: {error}");
    }
    for tensors in
        [packed(&[0.0, 0.0, 4.0, 4.0]), lens(&[0.0, 9.0]), paged(&[0.0, 1.0, 77.0, 2.0, 0.0, -9.0])]
    {
        assert!(engine().run(&problem(&json!({}), &tensors), None, &tensors).is_ok());
    }
}

#[test]
fn layers_share_a_map_that_is_made_once() {
    let extents = [2, 4, 2, 70, 300, 40];
    let mut tensors = inputs(extents);
    let noise = tensor(Dtype::F32, &[2 * 70 * 300], 5).to_f64();
    let keep: Vec<f64> = noise.iter().map(|x| f64::from(u8::from(*x > 0.9))).collect();
    tensors.insert("keep".to_owned(), HostTensor::from_f64(Dtype::Bool, &[2, 1, 70, 300], &keep));
    tensors.insert("kv_lens".to_owned(), HostTensor::from_f64(Dtype::I32, &[2], &[300.0, 100.0]));
    tensors.insert("b".to_owned(), tensor(Dtype::F32, &[1, 1, 1, 300], 6));
    let slopes = HostTensor::from_f64(Dtype::F32, &[4], &[0.5, 0.25, 0.125, 0.0625]);
    tensors.insert("s".to_owned(), slopes);
    let mut spec = both(json!({"and": [{"dense": "keep"}, {"band": {"right": 20}}]}));
    spec["score"] = json!([{"bias": "b"}, {"alibi": "s"}]);
    let whole = problem(&spec, &tensors);
    for engine in [engine(), floor_engine()] {
        let tiles = engine.prepare(&whole, None).unwrap().tiles();
        let (map, layer) = whole.with_mask_map(engine.limits(), tiles).unwrap();
        let read = map.tensors();
        assert!(read.iter().all(|(name, _)| !["q", "k", "v"].contains(name)), "{read:?}");
        let mut of_mask = tensors.clone();
        of_mask.retain(|name, _| read.iter().any(|(read, _)| read == name));
        let made = engine.run(&map, Some(tiles), &of_mask).unwrap();
        let steps = engine.prepare(&layer, Some(tiles)).unwrap();
        let entries = steps.plan().steps().iter().map(|step| step.shader().entry());
        assert!(entries.clone().count() > 0 && entries.clone().all(|it| it != "fused_classify"));
        for seed in [11, 12] {
            let mut own = tensors.clone();
            own.insert("q".to_owned(), tensor(Dtype::F32, &[2, 4, 70, 40], seed));
            let expected = reference(&whole, &own).unwrap();
            own.extend(made.clone());
            let got = engine.run(&layer, Some(tiles), &own).unwrap();
            assert_near("out", &got["out"].to_f64(), &expected.out, 2e-5);
            assert_near("lse", &got["lse"].to_f64(), &expected.lse, 2e-5);
        }
    }
    let causal = problem(&both(json!({"band": {"right": 0}})), &inputs(extents));
    let tiles = engine().prepare(&causal, None).unwrap().tiles();
    let error = causal.with_mask_map(engine().limits(), tiles).unwrap_err().to_string();
    assert!(error.contains("a map of this mask's tiles is not supported"), "{error}");
}
