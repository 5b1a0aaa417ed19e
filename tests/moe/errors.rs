//! A wrong problem is refused with the field, what would be right, and what was given.

use serde_json::json;
use tilewise::moe::MoeSpec;
use tilewise::tensor::Dtype;

use crate::support::{SMALL, f32s, try_problem};

#[test]
fn every_mistake_names_field_expected_and_got() {
    let inputs = SMALL.tensors(Dtype::F32, 1);
    for (spec, parts) in [
        (json!({}), ["top_k", "a number", "nothing"]),
        (json!({"top_k": 7}), ["top_k", "1 to 6", "7"]),
        (json!({"top_k": 0}), ["top_k", "1 to 6", "0"]),
        (json!({"top_k": 2, "experts": 5}), ["experts", "6 as the tensors have", "5"]),
        (json!({"top_k": 2, "dtype": "f16"}), ["x", "f16", "f32"]),
        (json!({"top_k": 2, "weights": "bf16"}), ["w_up", "bf16", "f32"]),
        (json!({"top_k": 2, "dtype": "i32"}), ["dtype", "f32, f16 or bf16", "i32"]),
        (json!({"top_k": 2, "out_dtype": "f16"}), ["out_dtype", "f32", "f16"]),
        (json!({"top_k": 2, "outputs": []}), ["outputs", "at least one", "none"]),
        (
            json!({"top_k": 2, "activation": "relu"}),
            ["w_gate", "no such tensor with the activation \"relu\"", "[6, 12, 20]"],
        ),
        (
            json!({"top_k": 2, "outputs": ["token_ids"]}),
            ["outputs", "expert_choice", "token_choice"],
        ),
        (
            json!({"top_k": 2, "router": {"token_choice": {"groups": {"count": 4, "keep": 1, "by": "max"}}}}),
            ["groups.count", "divisor of experts (6)", "4"],
        ),
        (
            json!({"top_k": 3, "router": {"token_choice": {"groups": {"count": 3, "keep": 1, "by": "max"}}}}),
            ["top_k", "1 to 2", "3"],
        ),
        (
            json!({"router": {"expert_choice": {"capacity": 22}}}),
            ["expert_choice.capacity", "1 to tokens (21)", "22"],
        ),
        (
            json!({"top_k": 2, "capacity": {"rows": 3, "sequences": 2}}),
            ["capacity.sequences", "divisor of tokens (21)", "2"],
        ),
        (json!({"router": "external"}), ["topk_ids", "missing", "external router"]),
        (json!({"router": {"soft": {"slots": 2}}}), ["phi", "missing", "mixture of experts"]),
    ] {
        let error = try_problem(&spec, &inputs).unwrap_err().to_string();
        assert!(parts.iter().all(|part| error.contains(part)), "{spec}: {error}");
    }
}

#[test]
fn a_tensor_of_another_shape_is_named() {
    let mut inputs = SMALL.tensors(Dtype::F32, 1);
    inputs.insert("w_down".to_owned(), f32s(&[6, 12, 20], &[0.0; 1440]));
    let error = try_problem(&json!({"top_k": 2}), &inputs).unwrap_err().to_string();
    assert_eq!(error, "w_down: expected shape [6, 20, 12], got [6, 12, 20]");
    inputs.remove("w_down");
    let error = try_problem(&json!({"top_k": 2}), &inputs).unwrap_err().to_string();
    assert!(error.contains("tensor w_down is missing"), "{error}");
}

#[test]
fn an_unknown_field_is_named() {
    for text in [
        r#"{"topk": 2}"#,
        r#"{"router": {"token_choice": {"scores": "softmax"}}}"#,
        r#"{"weights": "q5_1"}"#,
    ] {
        let error = serde_json::from_str::<MoeSpec>(text).unwrap_err().to_string();
        assert!(error.contains("unknown") && error.contains("expected"), "{error}");
    }
}
