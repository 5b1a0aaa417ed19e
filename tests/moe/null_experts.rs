//! Experts without weights: they cost nothing, and give nothing or what they take.

use serde_json::{Value, json};
use tilewise::tensor::Dtype;

use crate::support::{Random, SMALL, Tensors, check, f32s, i32s, run, try_problem};

/// Six experts with weights, two zero experts, one identity.
fn layer(dtype: Dtype, seed: u64) -> Tensors {
    let mut inputs = SMALL.tensors(dtype, seed);
    inputs.insert("router_w".to_owned(), Random(seed + 1).tensor(dtype, &[9, 20], 0.7));
    inputs
}

fn question(more: Value) -> Value {
    let mut question = json!({
        "top_k": 3, "null_experts": {"zero": 2, "identity": 1},
        "outputs": ["out", "topk_ids", "topk_weights", "counts", "router_logits", "dropped", "load_balancing_loss", "z_loss"],
    });
    for (field, value) in more.as_object().unwrap() {
        question[field] = value.clone();
    }
    question
}

#[test]
fn every_router_that_may_choose_them_is_right() {
    let mut inputs = layer(Dtype::F32, 1);
    check(&question(json!({})), &inputs);
    check(&question(json!({"weight_on": "input"})), &inputs);
    check(&question(json!({"capacity": {"rows": 2, "priority": "score"}})), &inputs);
    let groups = json!({"score": "sigmoid", "groups": {"count": 3, "keep": 2, "by": "top2_sum"}});
    check(&question(json!({"router": {"token_choice": groups}})), &inputs);
    check(
        &json!({
            "router": {"expert_choice": {"capacity": 5}}, "null_experts": {"zero": 2, "identity": 1},
            "outputs": ["out", "token_ids", "token_weights", "router_logits"],
        }),
        &inputs,
    );
    inputs.insert("correction_bias".to_owned(), Random(5).tensor(Dtype::F32, &[9], 0.5));
    check(&question(json!({})), &inputs);
    let ids: Vec<i32> = (0..42).map(|pair| pair * 5 % 11 - 1).collect();
    inputs.remove("correction_bias");
    inputs.insert("topk_ids".to_owned(), i32s(&[21, 2], &ids));
    inputs.insert("topk_weights".to_owned(), Random(4).tensor(Dtype::F32, &[21, 2], 1.0));
    check(
        &json!({"router": "external", "null_experts": {"zero": 2, "identity": 1}, "outputs": ["out", "counts"]}),
        &inputs,
    );
}

#[test]
fn half_precision_and_a_shared_expert_go_with_them() {
    for (dtype, name) in [(Dtype::F16, "f16"), (Dtype::Bf16, "bf16")] {
        let mut inputs = layer(dtype, 2);
        let mut random = Random(8);
        for (name, shape) in [
            ("shared_w_gate", [10, 20]),
            ("shared_w_up", [10, 20]),
            ("shared_w_down", [20, 10]),
            ("shared_gate_w", [1, 20]),
        ] {
            inputs.insert(name.to_owned(), random.tensor(dtype, &shape, 0.5));
        }
        check(&question(json!({"dtype": name})), &inputs);
    }
}

/// All tokens at one choice, weight as given.
fn all_at(choice: i32, weight: f64) -> Tensors {
    let mut inputs = layer(Dtype::F32, 3);
    inputs.insert("topk_ids".to_owned(), i32s(&[21, 1], &[choice; 21]));
    inputs.insert("topk_weights".to_owned(), f32s(&[21, 1], &[weight; 21]));
    inputs
}

#[test]
fn a_zero_expert_adds_nothing_and_an_identity_what_it_takes() {
    let question = json!({
        "router": "external", "null_experts": {"zero": 2, "identity": 1}, "outputs": ["out", "counts"],
    });
    for zero in [6, 7] {
        let got = run(&question, &all_at(zero, 1.5));
        assert!(got["out"].iter().all(|value| *value == 0.0));
        assert_eq!(got["counts"][zero as usize], 21.0);
    }
    let inputs = all_at(8, 0.5);
    let got = run(&question, &inputs);
    let halves: Vec<f64> = inputs["x"].to_f64().iter().map(|x| 0.5 * x).collect();
    assert_eq!(got["out"], halves);
    assert_eq!(got["counts"], [0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 21.0]);
}

#[test]
fn what_they_take_is_not_dispatched() {
    // A token that would go to them takes no row, whatever the capacity.
    let mut inputs = layer(Dtype::F32, 4);
    let bias = [0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 9.0, 9.0, 9.0];
    inputs.insert("correction_bias".to_owned(), f32s(&[9], &bias));
    let got = run(
        &json!({
            "top_k": 3, "null_experts": {"zero": 2, "identity": 1}, "capacity": {"rows": 0},
            "outputs": ["out", "counts", "dropped", "expert_offsets"],
        }),
        &inputs,
    );
    assert_eq!(got["counts"], [0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 21.0, 21.0, 21.0]);
    assert_eq!((got["dropped"][0], got["expert_offsets"][6]), (0.0, 0.0));
}

#[test]
fn mistakes_are_named() {
    let inputs = layer(Dtype::F32, 5);
    for (spec, parts) in [
        (json!({"top_k": 2, "null_experts": {"zero": 4}}), ["router_w", "[10, 20]", "[9, 20]"]),
        (json!({"top_k": 2, "null_experts": {"zero": 1024}}), ["null_experts", "1024", "1024"]),
        (
            json!({"router": {"soft": {"slots": 2}}, "null_experts": {"zero": 3}}),
            ["null_experts", "none with a soft router", "3"],
        ),
        (json!({"top_k": 10, "null_experts": {"zero": 3}}), ["top_k", "1 to 9", "10"]),
    ] {
        let error = try_problem(&spec, &inputs).unwrap_err().to_string();
        assert!(parts.iter().all(|part| error.contains(part)), "{spec}: {error}");
    }
}
