//! What is never chosen, and what is chosen last: masked experts, logits of −inf, NaN.

use serde_json::{Value, json};
use tilewise::tensor::{Dtype, HostTensor};

use crate::support::{Layer, Random, SMALL, Tensors, check, f32s, i32s, run};

const NAN: f64 = f64::NAN;
const CLOSED: f64 = f64::NEG_INFINITY;

/// Logits, and a mask where there is one, of tokens of 4 dims.
fn routed(rows: &[&[f64]], mask: Option<&[&[u8]]>) -> Tensors {
    let shape = [rows.len() as u64, rows[0].len() as u64];
    let mut inputs = Tensors::new();
    inputs.insert("x".to_owned(), Random(1).tensor(Dtype::F32, &[shape[0], 4], 1.0));
    inputs.insert("router_logits".to_owned(), f32s(&shape, &rows.concat()));
    if let Some(mask) = mask {
        let mask: Vec<f64> = mask.concat().into_iter().map(f64::from).collect();
        inputs.insert("logit_mask".to_owned(), HostTensor::from_f64(Dtype::Bool, &shape, &mask));
    }
    inputs
}

fn choice(choice: Value, top_k: u32) -> Value {
    let outputs = ["topk_ids", "topk_weights", "counts", "gates"];
    json!({"top_k": top_k, "router": {"token_choice": choice}, "outputs": outputs})
}

const SCORES: [&str; 4] = ["softmax", "sigmoid", "sqrt_softplus", "logit"];
const WEIGHTS: [&str; 4] = ["renormalized", "score", "softmax", "sigmoid"];

#[test]
fn a_masked_expert_does_not_speak_for_its_group() {
    // The mask closes the first token's best expert, −inf the second's; the third has one open expert a group.
    let inputs = routed(
        &[
            &[5.0, 1.0, 2.0, 0.0, -1.0, 0.5, 3.0, -2.0],
            &[CLOSED, 1.0, 2.0, 0.0, -1.0, 0.5, 3.0, -2.0],
            &[9.0, -4.0, -3.0, 9.0, 9.0, -2.0, -5.0, 9.0],
        ],
        Some(&[&[0, 1, 1, 1, 1, 1, 1, 1], &[1, 1, 1, 1, 1, 1, 1, 1], &[0, 1, 1, 0, 0, 1, 1, 0]]),
    );
    for score in SCORES {
        let groups =
            |by: &str| json!({"score": score, "groups": {"count": 4, "keep": 2, "by": by}});
        let question = choice(groups("max"), 2);
        check(&question, &inputs);
        assert_eq!(run(&question, &inputs)["topk_ids"], [6.0, 2.0, 6.0, 2.0, 5.0, 2.0], "{score}");
        let question = choice(groups("top2_sum"), 2);
        check(&question, &inputs);
        assert_eq!(run(&question, &inputs)["topk_ids"][4..], [5.0, 2.0], "{score}");
    }
}

#[test]
fn a_group_without_open_experts_is_never_kept_before_one_with_some() {
    let inputs = routed(
        &[
            &[0.0, 0.0, -90.0, 3.0, 0.0, 0.0, NAN, 2.0],
            &[1.0, 2.0, CLOSED, NAN, 3.0, 4.0, 1.0, 1.0],
        ],
        Some(&[&[0, 0, 1, 0, 0, 0, 1, 0], &[1, 0, 1, 1, 0, 0, 0, 0]]),
    );
    for by in ["max", "top2_sum"] {
        for score in ["sigmoid", "sqrt_softplus", "logit"] {
            let fields = json!({"score": score, "groups": {"count": 4, "keep": 2, "by": by}});
            let question = choice(fields, 2);
            check(&question, &inputs);
            let got = run(&question, &inputs);
            assert_eq!(got["topk_ids"], [2.0, 6.0, 0.0, 3.0], "{score} {by}");
        }
    }
}

#[test]
fn a_bias_of_minus_infinity_comes_before_nan_and_after_numbers() {
    let mut inputs = routed(&[&[NAN, 1.0, -5.0, 0.0]], None);
    inputs.insert("correction_bias".to_owned(), f32s(&[4], &[0.0, CLOSED, 0.0, -9.0]));
    for score in ["sigmoid", "sqrt_softplus", "logit"] {
        let question = choice(json!({"score": score, "weight": "sigmoid"}), 4);
        check(&question, &inputs);
        let ids = &run(&question, &inputs)["topk_ids"];
        assert_eq!(ids[2..], [1.0, 0.0], "{score}");
    }
}

#[test]
fn nan_is_chosen_last_and_stays_in_its_row() {
    let row = [0.3, -1.0, 2.0, 0.1, 0.7, -0.2, 0.5, 1.1];
    let with = |places: &[usize]| {
        let mut row = row;
        places.iter().for_each(|place| row[*place] = NAN);
        row
    };
    let all: Vec<usize> = (0..8).collect();
    let rows = [row, with(&all), row, with(&[2]), row, with(&[0, 1, 2, 3, 4, 5]), row];
    let rows: Vec<&[f64]> = rows.iter().map(|row| &row[..]).collect();
    let inputs = routed(&rows, None);
    let mut biased = inputs.clone();
    let bias: Vec<f64> = (0..8).map(|e| f64::from(e % 3) * 0.1).collect();
    biased.insert("correction_bias".to_owned(), f32s(&[8], &bias));
    let all = SCORES.into_iter().flat_map(|score| WEIGHTS.map(|weight| (score, weight)));
    for (index, (score, weight)) in all.enumerate() {
        let mut fields = json!({"score": score, "weight": weight, "epsilon": 1e-9});
        if let Some(by) = [None, Some("max"), Some("top2_sum")][index % 3] {
            fields["groups"] = json!({"count": 4, "keep": 2, "by": by});
        }
        let question = choice(fields, 3);
        let inputs = if index % 2 == 0 { &inputs } else { &biased };
        check(&question, inputs);
        nan_stays_in_its_row(&question, inputs);
    }
}

/// Of eight experts and the tokens above: the second's logits are all NaN, every other token's none.
fn nan_stays_in_its_row(question: &Value, inputs: &Tensors) {
    let got = run(question, inputs);
    for (token, ids) in got["topk_ids"].chunks(3).enumerate() {
        let weights = &got["topk_weights"][3 * token..3 * token + 3];
        assert!(ids.iter().all(|id| (0.0..8.0).contains(id)), "{question}: {ids:?}");
        assert!(ids[0] != ids[1] && ids[1] != ids[2] && ids[0] != ids[2], "{ids:?}");
        if token % 2 == 0 {
            assert!(weights.iter().all(|weight| weight.is_finite()), "{question}");
        }
        if token == 1 {
            assert!(weights.iter().all(|weight| weight.is_nan()), "{question}");
        }
    }
}

#[test]
fn nan_in_a_token_reaches_no_other_token_s_out() {
    for shared in [false, true] {
        let mut inputs = SMALL.tensors(Dtype::F32, 1);
        inputs.get_mut("x").unwrap().bytes[20 * 4 * 3..20 * 4 * 3 + 4]
            .copy_from_slice(&f32::NAN.to_le_bytes());
        if shared {
            for (name, shape) in [
                ("shared_w_gate", [10, 20]),
                ("shared_w_up", [10, 20]),
                ("shared_w_down", [20, 10]),
                ("shared_gate_w", [1, 20]),
            ] {
                inputs.insert(name.to_owned(), Random(9).tensor(Dtype::F32, &shape, 0.5));
            }
        }
        for score in SCORES {
            let fields = json!({"score": score, "weight": "renormalized"});
            let question = json!({"top_k": 2, "router": {"token_choice": fields}});
            let out = &run(&question, &inputs)["out"];
            for (token, row) in out.chunks(20).enumerate() {
                assert!(row.iter().all(|value| value.is_nan() == (token == 3)), "{score} {token}");
            }
        }
    }
}

#[test]
fn fewer_open_experts_than_top_k_leave_slots_without_expert() {
    let rows: Vec<f64> =
        (0..160).map(|i| if i % 31 == 7 { f64::from(i) / 40.0 } else { CLOSED }).collect();
    let inputs = routed(&[&rows, &[CLOSED; 160]], None);
    for score in SCORES {
        let question = choice(json!({"score": score, "weight": "renormalized"}), 8);
        check(&question, &inputs);
        let got = run(&question, &inputs);
        assert_eq!(got["topk_ids"][..8], [131.0, 100.0, 69.0, 38.0, 7.0, -1.0, -1.0, -1.0]);
        assert_eq!(got["topk_weights"][5..], [0.0; 11]);
    }
}

#[test]
fn low_logits_keep_their_scores_and_their_order() {
    let low = [-17.0, -17.5, -18.0, -40.0, -41.0, -80.0, -90.0, -120.0];
    let falling = low.map(|logit| logit - 20.0);
    let mixed = [-16.5, -30.0, 0.0, 0.5, -0.5, 20.0, 40.0, 88.0];
    let inputs = routed(&[&low, &falling, &mixed], None);
    let mut biased = inputs.clone();
    biased.insert(
        "correction_bias".to_owned(),
        f32s(&[8], &[0.0, 0.0, 0.0, 0.0, 0.0, 9.0, 8.0, 7.0]),
    );
    for (score, weight) in SCORES.into_iter().flat_map(|s| WEIGHTS.map(|w| (s, w))) {
        for epsilon in [0.0, 1e-20] {
            let question = choice(json!({"score": score, "weight": weight, "epsilon": epsilon}), 3);
            check(&question, &inputs);
            check(&question, &biased);
        }
    }
    let question = choice(json!({"score": "sqrt_softplus", "weight": "score"}), 8);
    let got = run(&question, &inputs);
    for (logit, weight) in low.iter().zip(&got["topk_weights"]) {
        let want = (-(-logit.exp()).ln_1p()).max(logit.exp().ln_1p()).sqrt();
        assert!((weight / want - 1.0).abs() < 1e-5, "{logit}: {weight}, expected {want}");
    }
}

#[test]
fn experts_take_no_token_that_is_closed_to_them() {
    let layer = Layer { tokens: 5, ..SMALL };
    let mut inputs = layer.tensors(Dtype::F32, 3);
    let mask: Vec<f64> =
        (0..30).map(|i| f64::from(u8::from(i % 6 != 2 && (i % 6 != 4 || i < 10)))).collect();
    inputs.insert("logit_mask".to_owned(), HostTensor::from_f64(Dtype::Bool, &[5, 6], &mask));
    let router = json!({"expert_choice": {"capacity": 3}});
    let question = json!({"router": router, "outputs": ["out", "token_ids", "token_weights"]});
    check(&question, &inputs);
    let got = run(&question, &inputs);
    assert_eq!(got["token_ids"][6..9], [-1.0; 3], "expert 2 is closed to all");
    assert_eq!(
        got["token_ids"][12..15],
        [0.0, -1.0, -1.0],
        "expert 4 is open to the first two of 4"
    );
    assert_eq!(got["token_weights"][13..15], [0.0, 0.0]);
}

#[test]
fn a_closed_token_s_nan_reaches_no_slot() {
    let mut inputs = Layer { experts: 4, ..SMALL }.tensors(Dtype::F32, 4);
    inputs.remove("router_w");
    inputs.insert("phi".to_owned(), Random(3).tensor(Dtype::F32, &[4, 2, 20], 0.5));
    let mut mask = vec![1.0; 21 * 4];
    mask[5 * 4..6 * 4].fill(0.0);
    inputs.insert("logit_mask".to_owned(), HostTensor::from_f64(Dtype::Bool, &[21, 4], &mask));
    inputs.get_mut("x").unwrap().bytes[20 * 4 * 5..20 * 4 * 5 + 4]
        .copy_from_slice(&f32::NAN.to_le_bytes());
    let question = json!({"router": {"soft": {"slots": 2}}});
    check(&question, &inputs);
    let got = run(&question, &inputs);
    assert!(got["out"].iter().all(|value| value.is_finite()));
    assert!(got["out"][100..120].iter().all(|value| *value == 0.0), "token 5 sees no slot");
}

#[test]
fn a_capacity_by_score_drops_nan_first() {
    let mut inputs = Tensors::new();
    inputs.insert("x".to_owned(), f32s(&[4, 1], &[1.0; 4]));
    inputs.insert("topk_ids".to_owned(), i32s(&[4, 1], &[2, 2, 2, 2]));
    inputs.insert("topk_weights".to_owned(), f32s(&[4, 1], &[NAN, -1.0, CLOSED, 0.5]));
    let capacity = json!({"rows": 2, "priority": "score"});
    let question = json!({"router": "external", "experts": 6, "capacity": capacity, "outputs": ["pair_rows", "dropped"]});
    check(&question, &inputs);
    assert_eq!(run(&question, &inputs)["pair_rows"], [-1.0, 0.0, -1.0, 1.0]);
}
