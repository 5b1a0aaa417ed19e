//! Experts on several devices: each has the weights of a range, and the sum over the ranges is the whole. And what a
//! dispatcher of its own needs to bring tokens to their experts.

use serde_json::{Value, json};
use tilewise::tensor::{Dtype, HostTensor};

use crate::support::{
    Layer, Random, SMALL, Tensors, add_biases_and_a_shared_expert, check, f32s, i32s, run,
    try_problem,
};

const RANGES: [[u64; 2]; 3] = [[0, 2], [2, 3], [3, 6]];

/// The tensors of a device that has these experts; the shared expert is the first one's.
fn part(whole: &Tensors, [start, end]: [u64; 2]) -> Tensors {
    let mut inputs = whole.clone();
    for (name, tensor) in &mut inputs {
        if ["w_gate", "w_up", "w_down", "b_gate", "b_up", "b_down"].contains(&name.as_str()) {
            let size = tensor.bytes.len() / tensor.shape[0] as usize;
            tensor.bytes = tensor.bytes[start as usize * size..end as usize * size].to_vec();
            tensor.shape[0] = end - start;
        }
    }
    inputs.retain(|name, _| start == 0 || !name.starts_with("shared"));
    inputs
}

/// Holds every range against the reference, and their sum against the whole.
fn sums_to_the_whole(question: &Value, whole: &Tensors) {
    let expected = run(question, whole);
    let mut sums: Vec<(&str, Vec<f64>)> = vec![];
    for name in ["out", "counts", "dropped"] {
        if let Some(values) = expected.get(name) {
            sums.push((name, vec![0.0; values.len()]));
        }
    }
    for range in RANGES {
        let mut question = question.clone();
        question["experts"] = json!(6);
        question["expert_range"] = json!(range);
        let inputs = part(whole, range);
        check(&question, &inputs);
        let got = run(&question, &inputs);
        for (name, sum) in &mut sums {
            sum.iter_mut().zip(&got[*name]).for_each(|(sum, value)| *sum += value);
        }
    }
    for (name, sum) in sums {
        for (index, (got, want)) in sum.iter().zip(&expected[name]).enumerate() {
            assert!((got - want).abs() < 1e-5, "{question}: {name}[{index}]: {got}, {want}");
        }
    }
}

#[test]
fn the_sum_over_ranges_is_the_whole() {
    let mut inputs = SMALL.tensors(Dtype::F32, 1);
    add_biases_and_a_shared_expert(&mut inputs, 7);
    let outputs = json!(["out", "counts", "dropped", "topk_ids", "load_balancing_loss"]);
    sums_to_the_whole(&json!({"top_k": 3, "outputs": outputs}), &inputs);
    sums_to_the_whole(&json!({"top_k": 3, "weight_on": "input", "outputs": outputs}), &inputs);
    let capacity = json!({"rows": 3, "priority": "score"});
    sums_to_the_whole(&json!({"top_k": 2, "capacity": capacity, "outputs": outputs}), &inputs);
    let choice = json!({"expert_choice": {"capacity": 4}});
    sums_to_the_whole(
        &json!({"router": choice, "outputs": ["out", "token_ids", "token_weights"]}),
        &inputs,
    );
    inputs.insert("phi".to_owned(), Random(3).tensor(Dtype::F32, &[6, 3, 20], 0.6));
    inputs.remove("router_w");
    sums_to_the_whole(&json!({"router": {"soft": {"slots": 3}}}), &inputs);
}

#[test]
fn null_experts_belong_to_the_last_range() {
    let mut inputs = SMALL.tensors(Dtype::F32, 2);
    inputs.insert("router_w".to_owned(), Random(9).tensor(Dtype::F32, &[9, 20], 0.7));
    let few = json!({"zero": 1, "identity": 2});
    let outputs = json!(["out", "counts", "dropped"]);
    sums_to_the_whole(&json!({"top_k": 4, "null_experts": few, "outputs": outputs}), &inputs);
    let choice = json!({"expert_choice": {"capacity": 4}});
    sums_to_the_whole(&json!({"router": choice, "null_experts": few}), &inputs);
    let ids: Vec<i32> = (0..42).map(|pair| pair * 5 % 11 - 1).collect();
    inputs.insert("topk_ids".to_owned(), i32s(&[21, 2], &ids));
    inputs.insert("topk_weights".to_owned(), Random(4).tensor(Dtype::F32, &[21, 2], 1.0));
    sums_to_the_whole(
        &json!({"router": "external", "null_experts": few, "outputs": outputs}),
        &inputs,
    );
}

#[test]
fn a_dispatcher_gets_rows_by_expert_and_the_way_back() {
    let layer = Layer { tokens: 300, ..SMALL };
    let mut inputs = layer.tensors(Dtype::F32, 3);
    let outputs = json!(["counts", "expert_offsets", "row_tokens", "pair_rows", "topk_ids"]);
    check(&json!({"top_k": 3, "outputs": outputs}), &inputs);
    let capacity = json!({"rows": 40});
    check(&json!({"top_k": 3, "capacity": capacity, "outputs": outputs}), &inputs);
    // Routing alone needs no weights.
    inputs.retain(|name, _| ["x", "router_w"].contains(&name.as_str()));
    let question = json!({"top_k": 3, "outputs": outputs});
    check(&question, &inputs);
    let got = run(&question, &inputs);
    for (pair, row) in got["pair_rows"].iter().enumerate() {
        assert_eq!(got["row_tokens"][*row as usize], (pair / 3) as f64);
        let expert = got["topk_ids"][pair] as usize;
        let rows = got["expert_offsets"][expert]..got["expert_offsets"][expert + 1];
        assert!(rows.contains(row), "pair {pair} of expert {expert} at row {row}");
    }
}

/// Tokens sent to two devices by their experts, computed there, sent back and added: the layer.
#[test]
fn a_round_trip_through_two_devices_is_the_layer() {
    let whole = SMALL.tensors(Dtype::F32, 4);
    let top_k = 2;
    let expected = run(&json!({"top_k": top_k}), &whole)["out"].clone();
    let outputs = ["expert_offsets", "row_tokens", "pair_rows", "topk_weights"];
    let routed = run(&json!({"top_k": top_k, "outputs": outputs}), &whole);
    let x = whole["x"].to_f64();
    let rows: Vec<f64> = routed["row_tokens"]
        .iter()
        .flat_map(|token| x[*token as usize * 20..][..20].to_vec())
        .collect();
    let mut back = vec![];
    for range in [[0, 4], [4, 6]] {
        let [start, end] = range.map(|expert| routed["expert_offsets"][expert as usize] as usize);
        let mut inputs = part(&whole, range);
        let count = (end - start) as u64;
        let of = |row: usize| {
            (0..6).rfind(|e| routed["expert_offsets"][*e] <= row as f64).unwrap_or(0) as i32
        };
        let ids: Vec<i32> = (start..end).map(of).collect();
        inputs.insert("x".to_owned(), f32s(&[count, 20], &rows[start * 20..end * 20]));
        inputs.insert("topk_ids".to_owned(), i32s(&[count, 1], &ids));
        inputs.insert("topk_weights".to_owned(), f32s(&[count, 1], &vec![1.0; end - start]));
        let question = json!({"router": "external", "experts": 6, "expert_range": range});
        back.extend(run(&question, &inputs)["out"].clone());
    }
    for (token, want) in expected.chunks(20).enumerate() {
        let mut sum = [0.0; 20];
        let slots = routed["pair_rows"].iter().zip(&routed["topk_weights"]);
        for (row, weight) in slots.skip(token * top_k).take(top_k) {
            let values = &back[*row as usize * 20..];
            sum.iter_mut().zip(values).for_each(|(sum, value)| *sum += weight * value);
        }
        assert!(sum.iter().zip(want).all(|(got, want)| (got - want).abs() < 1e-5), "token {token}");
    }
}

#[test]
fn mistakes_are_named() {
    let inputs = part(&SMALL.tensors(Dtype::F32, 5), [2, 5]);
    for (spec, parts) in [
        (json!({"top_k": 2, "expert_range": [2, 5]}), ["experts", "a number", "nothing"]),
        (
            json!({"top_k": 2, "experts": 6, "expert_range": [5, 2]}),
            ["expert_range", "first < end", "[5, 2]"],
        ),
        (
            json!({"top_k": 2, "experts": 6, "expert_range": [2, 7]}),
            ["expert_range", "experts (6)", "[2, 7]"],
        ),
        (
            json!({"top_k": 2, "experts": 6, "expert_range": [2, 4]}),
            ["w_up", "[2, 12, 20]", "[3, 12, 20]"],
        ),
        (
            json!({"top_k": 2, "experts": 7, "expert_range": [2, 5]}),
            ["router_w", "[7, 20]", "[6, 20]"],
        ),
    ] {
        let error = try_problem(&spec, &inputs).unwrap_err().to_string();
        assert!(parts.iter().all(|part| error.contains(part)), "{spec}: {error}");
    }
    let mask = HostTensor::from_f64(Dtype::Bool, &[21, 6], &[1.0; 126]);
    let mut inputs = SMALL.tensors(Dtype::F32, 5);
    inputs.insert("logit_mask".to_owned(), mask);
    inputs.insert("topk_ids".to_owned(), i32s(&[21, 1], &[0; 21]));
    inputs.insert("topk_weights".to_owned(), f32s(&[21, 1], &[0.0; 21]));
    let error = try_problem(&json!({"router": "external"}), &inputs).unwrap_err().to_string();
    let expected = "logit_mask: expected no such tensor with a external router, got shape [21, 6]";
    assert_eq!(error, expected.replace("a external", "an external"));
}
