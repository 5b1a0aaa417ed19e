use std::collections::BTreeMap;

use serde_json::json;

use super::{AttentionReference, merge_reference, plain, reference};
use crate::attention::{AttentionProblem, AttentionSpec};
use crate::error::SpecError;
use crate::tensor::{Dtype, HostTensor};

type Inputs = BTreeMap<String, HostTensor>;

/// Numbers that look random, the same each time, within ±1.
fn noise(count: u64, seed: u64) -> Vec<f64> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut next = || {
        state =
            state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as f64 / f64::from(1_u32 << 30) - 1.0
    };
    (0..count).map(|_| next()).collect()
}

fn put(inputs: &mut Inputs, name: &str, dtype: Dtype, shape: &[u64], values: &[f64]) {
    inputs.insert(name.to_owned(), HostTensor::from_f64(dtype, shape, values));
}

/// q `[2, 4, 5, 3]`, k `[2, 2, 7, 3]`, v `[2, 2, 7, 2]`.
fn inputs(dtype: Dtype) -> Inputs {
    let mut inputs = Inputs::new();
    for (seed, (name, shape)) in
        [("q", [2, 4, 5, 3]), ("k", [2, 2, 7, 3]), ("v", [2, 2, 7, 2])].into_iter().enumerate()
    {
        put(&mut inputs, name, dtype, &shape, &noise(shape.iter().product(), seed as u64 + 1));
    }
    inputs
}

fn problem(spec: serde_json::Value, inputs: &Inputs) -> AttentionProblem {
    let spec: AttentionSpec = serde_json::from_value(spec).unwrap();
    let descs = inputs.iter().map(|(name, tensor)| (name.clone(), tensor.desc())).collect();
    AttentionProblem::new(&spec, &descs).unwrap()
}

fn run(spec: serde_json::Value, inputs: &Inputs) -> AttentionReference {
    reference(&problem(spec, inputs), inputs).unwrap()
}

/// For one head of batch 0 (or another) which keys each query sees, drawn: found by values that tell the key.
fn drawn(mask: serde_json::Value, extra: &Inputs, batch: usize, head: usize) -> String {
    let mut all = extra.clone();
    put(&mut all, "q", Dtype::F32, &[2, 2, 4, 1], &[0.0; 16]);
    put(&mut all, "k", Dtype::F32, &[2, 1, 6, 1], &[0.0; 12]);
    let one_hot: Vec<f64> = (0..72).map(|i| f64::from(u8::from(i / 6 % 6 == i % 6))).collect();
    put(&mut all, "v", Dtype::F32, &[2, 1, 6, 6], &one_hot);
    let result = run(json!({"mask": mask}), &all);
    let start = (batch * 2 + head) * 24;
    let rows = result.out[start..start + 24].chunks(6);
    let draw = |row: &[f64]| row.iter().map(|p| if *p > 0.0 { 'x' } else { '.' }).collect();
    rows.map(draw).collect::<Vec<String>>().join(" ")
}

#[test]
fn masks_are_as_drawn() {
    let mut side = Inputs::new();
    put(&mut side, "n", Dtype::I32, &[2], &[1.0, 3.0]);
    put(&mut side, "dq", Dtype::I32, &[2, 4], &[0.0, 0.0, 1.0, 2.0, 0.0, 0.0, 0.0, 0.0]);
    put(
        &mut side,
        "dkv",
        Dtype::I32,
        &[2, 6],
        &[0.0, 0.0, 1.0, 1.0, 1.0, 3.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0],
    );
    put(
        &mut side,
        "d",
        Dtype::Bool,
        &[1, 2, 1, 6],
        &[1.0, 0.0, 1.0, 0.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0],
    );
    put(&mut side, "blocks", Dtype::Bool, &[1, 1, 2, 2], &[1.0, 0.0, 0.0, 1.0]);
    let wgsl = "fn mask_mod(b: u32, h: u32, q: u32, kv: u32) -> bool { return pos_q(b, q) - 2 == i32(kv) - i32(h); }";
    let cases = [
        (json!("full"), "xxxxxx xxxxxx xxxxxx xxxxxx"),
        (json!({"band": {"right": 0}}), "xxx... xxxx.. xxxxx. xxxxxx"),
        (json!({"band": {"left": 1, "right": 0}}), ".xx... ..xx.. ...xx. ....xx"),
        (json!({"band": {"left": 0}}), "..xxxx ...xxx ....xx .....x"),
        (json!({"band": {"left": [0, 1], "right": "n"}}), ".xxxxx ..xxxx ...xxx ....xx"),
        (
            json!({"or": [{"prefix": 2}, {"band": {"left": 0, "right": 0}}]}),
            "xxx... xx.x.. xx..x. xx...x",
        ),
        (json!({"prefix": "n"}), "x..... x..... x..... x....."),
        (json!({"sink": [1, 4]}), "xxxx.. xxxx.. xxxx.. xxxx.."),
        (json!({"documents": {"q": "dq", "kv": "dkv"}}), "xx.... xx.... ..xxx. ......"),
        (json!({"dense": "d"}), ".x...x .x...x .x...x .x...x"),
        (
            json!({"block_sparse": {"block": [3, 4], "keep": "blocks"}}),
            "xxxx.. xxxx.. xxxx.. ....xx",
        ),
        (json!({"per_head": [{"sink": 1}, {"not": {"sink": 4}}]}), "....xx ....xx ....xx ....xx"),
        (
            json!({"and": [{"band": {"right": 0}}, {"not": {"prefix": 2}}]}),
            "..x... ..xx.. ..xxx. ..xxxx",
        ),
        (json!({"and": []}), "xxxxxx xxxxxx xxxxxx xxxxxx"),
        (json!({"or": []}), "...... ...... ...... ......"),
        (json!({"wgsl": wgsl}), ".x.... ..x... ...x.. ....x."),
    ];
    for (mask, expected) in cases {
        assert_eq!(drawn(mask.clone(), &side, 0, 1), expected, "{mask}");
    }
    assert_eq!(drawn(json!({"prefix": "n"}), &side, 1, 0), "xxx... xxx... xxx... xxx...");
}

#[test]
fn kv_lens_move_the_queries_and_are_cut_to_the_keys() {
    let causal = json!({"band": {"right": 0}});
    let lens = |a: f64, b: f64| {
        let mut side = Inputs::new();
        put(&mut side, "kv_lens", Dtype::I32, &[2], &[a, b]);
        side
    };
    assert_eq!(drawn(causal.clone(), &lens(5.0, 2.0), 0, 0), "xx.... xxx... xxxx.. xxxxx.");
    assert_eq!(drawn(causal.clone(), &lens(5.0, 2.0), 1, 0), "...... ...... x..... xx....");
    assert_eq!(drawn(causal.clone(), &lens(99.0, -3.0), 0, 0), "xxx... xxxx.. xxxxx. xxxxxx");
    assert_eq!(drawn(json!("full"), &lens(99.0, -3.0), 1, 0), "...... ...... ...... ......");
}

#[test]
fn an_explicit_q_offset_wins() {
    let mut all = inputs(Dtype::F32);
    put(&mut all, "kv_lens", Dtype::I32, &[2], &[6.0, 3.0]);
    let causal = json!({"band": {"right": 0}});
    let result = run(json!({"mask": causal, "q_offset": -1, "outputs": ["out", "lse"]}), &all);
    for head in 0..8 {
        assert_eq!(result.lse[head * 5], f64::NEG_INFINITY);
        assert_eq!(result.value_max[head * 5], 0.0);
        assert_eq!(result.out[head * 10..head * 10 + 2], [0.0, 0.0]);
        assert!(result.lse[head * 5 + 1].is_finite());
    }
}

#[test]
fn one_row_by_hand() {
    let mut all = Inputs::new();
    put(&mut all, "q", Dtype::F32, &[1, 1, 1, 1], &[2.0]);
    put(&mut all, "k", Dtype::F32, &[1, 1, 3, 1], &[1.0, -1.0, 5.0]);
    put(&mut all, "v", Dtype::F32, &[1, 1, 3, 1], &[3.0, -4.0, 100.0]);
    put(&mut all, "slopes", Dtype::F32, &[1, 1], &[0.5]);
    put(&mut all, "b", Dtype::F32, &[1, 1, 1, 3], &[0.25, 0.0, f64::NEG_INFINITY]);
    put(&mut all, "s", Dtype::F32, &[1], &[0.75]);
    let score = json!([{"softcap": 4.0}, {"alibi": "slopes"}, {"bias": "b"}, {"wgsl":
        "fn score_mod(score: f32, b: u32, h: u32, q: u32, kv: u32) -> f32 { return score * 2.0; }"}]);
    let spec = json!({"score": score, "normaliser": {"softmax": {"sink": "s"}}, "outputs": ["out", "lse"]});
    let result = run(spec, &all);
    // The query stands at 2.
    let scores = [2.0, -2.0].map(|s: f64| 4.0 * (s / 4.0).tanh());
    let scores = [2.0 * (scores[0] - 0.5 * 2.0 + 0.25), 2.0 * (scores[1] - 0.5)];
    let sum = scores[0].exp() + scores[1].exp() + 0.75_f64.exp();
    assert!((result.lse[0] - sum.ln()).abs() < 1e-14);
    let out = (3.0 * scores[0].exp() - 4.0 * scores[1].exp()) / sum;
    assert!((result.out[0] - out).abs() < 1e-14);
    assert_eq!(result.value_max, [4.0]);
}

#[test]
fn a_row_without_keys_has_the_sink_as_its_lse() {
    let mut all = inputs(Dtype::F32);
    put(&mut all, "sink_logits", Dtype::F32, &[4], &[1.0, -2.0, 0.5, 3.0]);
    let result = run(json!({"mask": {"or": []}, "outputs": ["out", "lse"]}), &all);
    assert_eq!(result.lse[5..10], [-2.0; 5]);
    assert!(result.out.iter().all(|out| *out == 0.0));
}

#[test]
fn sigmoid_has_no_denominator() {
    let all = inputs(Dtype::F32);
    let result =
        run(json!({"softmax_scale": 0.0, "normaliser": {"sigmoid": {"bias": -1.5}}}), &all);
    let v = all["v"].to_f64();
    let sum: f64 = (0..7).map(|key| v[key * 2]).sum();
    assert!((result.out[0] - sum / (1.0 + 1.5_f64.exp())).abs() < 1e-14);
    assert!(result.lse.is_empty());
}

#[test]
fn a_shared_prefix_is_more_keys_at_the_front() {
    let mut shared = inputs(Dtype::F32);
    put(&mut shared, "alibi_slopes", Dtype::F32, &[4], &[0.5, 0.25, 0.125, 1.0]);
    let mut whole = shared.clone();
    for (name, dim) in [("k", 3), ("v", 2)] {
        let prefix = noise(2 * 4 * dim, 9 + dim);
        put(&mut shared, &format!("prefix_{name}"), Dtype::F32, &[2, 4, dim], &prefix);
        let (own, prefix) = (shared[name].to_f64(), shared[&format!("prefix_{name}")].to_f64());
        let (own_size, prefix_size) = (7 * dim as usize, 4 * dim as usize);
        let joined: Vec<f64> = (0..4)
            .flat_map(|i| {
                let head = i % 2 * prefix_size;
                [&prefix[head..head + prefix_size], &own[i * own_size..(i + 1) * own_size]].concat()
            })
            .collect();
        put(&mut whole, name, Dtype::F32, &[2, 2, 11, dim], &joined);
    }
    let spec = json!({"mask": {"band": {"right": 0}}, "outputs": ["out", "lse"]});
    let (shared, whole) = (run(spec.clone(), &shared), run(spec, &whole));
    let far = |a: &[f64], b: &[f64]| a.iter().zip(b).any(|(a, b)| (a - b).abs() > 1e-13);
    assert!(!far(&shared.out, &whole.out) && !far(&shared.lse, &whole.lse));
}

#[test]
fn heads_last_inputs_give_the_same() {
    let heads_first = inputs(Dtype::F32);
    let mut heads_last = Inputs::new();
    for (name, tensor) in &heads_first {
        let [batch, heads, seq, dim] = tensor.shape[..] else { panic!() };
        let values = tensor.to_f64();
        let mut moved = Vec::new();
        for index in 0..batch * seq * heads * dim {
            let (d, rest) = (index % dim, index / dim);
            let (h, rest) = (rest % heads, rest / heads);
            let (s, b) = (rest % seq, rest / seq);
            moved.push(values[(((b * heads + h) * seq + s) * dim + d) as usize]);
        }
        put(&mut heads_last, name, Dtype::F32, &[batch, seq, heads, dim], &moved);
    }
    let causal = json!({"band": {"right": 0}});
    let first = run(json!({"mask": causal}), &heads_first);
    assert_eq!(run(json!({"mask": causal, "layout": "bshd"}), &heads_last), first);
}

#[test]
fn nan_stays_in_its_row() {
    let mut all = inputs(Dtype::F32);
    let mut q = all["q"].to_f64();
    q[3] = f64::NAN;
    put(&mut all, "q", Dtype::F32, &[2, 4, 5, 3], &q);
    let result = run(json!({}), &all);
    let wrong: Vec<usize> = (0..80).filter(|&i| result.out[i].is_nan()).collect();
    assert_eq!(wrong, [2, 3]);
    assert!(result.lse[1].is_nan() && result.lse[0].is_finite());
}

#[test]
fn a_plain_implementation_errs_by_its_dtype() {
    for (dtype, least, most) in
        [(Dtype::F32, 1e-9, 1e-6), (Dtype::F16, 1e-5, 2e-3), (Dtype::Bf16, 1e-4, 2e-2)]
    {
        let all = inputs(dtype);
        let spec = json!({"dtype": dtype.to_string(), "score": [{"softcap": 2.0}], "outputs": ["out", "lse"]});
        let problem = problem(spec, &all);
        let (exact, plain) = (reference(&problem, &all).unwrap(), plain(&problem, &all).unwrap());
        let error =
            |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
        let error = error(&exact.out, &plain.out);
        assert!(error > least && error < most, "{dtype}: {error}");
        let stored = HostTensor::from_f64(dtype, &[80], &plain.out).to_f64();
        assert_eq!(stored, plain.out);
    }
}

#[test]
fn wrong_inputs_are_named() {
    let all = inputs(Dtype::F32);
    let problem = problem(json!({}), &all);
    let mut less = all.clone();
    less.remove("k");
    let error = reference(&problem, &less).unwrap_err();
    assert!(matches!(error, SpecError::MissingTensor { ref name, .. } if name == "k"));
    let mut other = all.clone();
    put(&mut other, "v", Dtype::F32, &[2, 2, 7, 1], &[0.0; 28]);
    assert!(reference(&problem, &other).unwrap_err().to_string().starts_with("v: expected shape"));
    let mut other = all;
    put(&mut other, "v", Dtype::F16, &[2, 2, 7, 2], &[0.0; 56]);
    assert!(matches!(reference(&problem, &other), Err(SpecError::Dtype { .. })));
}

#[test]
fn the_callers_wgsl_fails_by_its_place() {
    let all = inputs(Dtype::F32);
    let spec = json!({"mask": {"wgsl": "fn mask_mod(b: u32) -> bool {\n return c; }"}});
    let spec: AttentionSpec = serde_json::from_value(spec).unwrap();
    let descs = all.iter().map(|(name, tensor)| (name.clone(), tensor.desc())).collect();
    let error = AttentionProblem::new(&spec, &descs).unwrap_err().to_string();
    assert!(error.starts_with("mask.wgsl: line 2, column 9: "), "{error}");
}

#[test]
fn parts_merge_to_the_whole() {
    let all = inputs(Dtype::F32);
    let spec = |mask| json!({"mask": mask, "outputs": ["out", "lse"]});
    let whole = run(spec(json!("full")), &all);
    let masks = [json!({"prefix": 3}), json!({"or": []}), json!({"not": {"prefix": 3}})];
    let parts: Vec<_> = masks.into_iter().map(|mask| run(spec(mask), &all)).collect();
    let outs: Vec<f64> = parts.iter().flat_map(|part| part.out.clone()).collect();
    let lses: Vec<f64> = parts.iter().flat_map(|part| part.lse.clone()).collect();
    let merged = merge_reference(&outs, &lses, 3, 40, 2).unwrap();
    let near = |a: &[f64], b: &[f64]| a.iter().zip(b).all(|(a, b)| (a - b).abs() < 1e-14);
    assert!(near(&merged.out, &whole.out) && near(&merged.lse, &whole.lse));
    let none = merge_reference(&[7.0, 7.0], &[f64::NEG_INFINITY; 2], 2, 1, 1).unwrap();
    assert_eq!((none.out[0], none.lse[0]), (0.0, f64::NEG_INFINITY));
    assert!(merge_reference(&outs, &lses, 2, 40, 2).is_err());
}
