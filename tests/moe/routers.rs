//! Every router, every activation, every storage type, against the reference.

use serde_json::{Value, json};
use tilewise::moe::MAX_EXPERTS;
use tilewise::tensor::{Dtype, HostTensor};

use crate::support::{
    Layer, Random, SMALL, add_biases_and_a_shared_expert, check, f32s, i32s, run,
};

fn token_choice(choice: Value, top_k: u32) -> Value {
    json!({
        "top_k": top_k, "router": {"token_choice": choice},
        "outputs": [
            "out", "topk_ids", "topk_weights", "gates", "counts", "router_logits", "dropped", "load_balancing_loss", "z_loss",
        ],
    })
}

#[test]
fn every_form_of_token_choice_is_right() {
    let layer = Layer { experts: 8, ..SMALL };
    let mut inputs = layer.tensors(Dtype::F32, 1);
    inputs.insert("router_b".to_owned(), Random(5).tensor(Dtype::F32, &[8], 0.5));
    for choice in [
        json!({"score": "softmax", "weight": "renormalized"}),
        json!({"score": "softmax", "weight": "score", "scale": 2.5}),
        json!({"score": "logit", "weight": "softmax"}),
        json!({"score": "logit", "weight": "sigmoid"}),
        json!({"score": "sqrt_softplus", "weight": "renormalized", "epsilon": 1e-9}),
        json!({"score": "sigmoid", "weight": "renormalized", "epsilon": 1e-20, "groups": {"count": 4, "keep": 2, "by": "top2_sum"}}),
        json!({"score": "softmax", "weight": "score", "groups": {"count": 4, "keep": 2, "by": "max"}}),
    ] {
        check(&token_choice(choice, 3), &inputs);
    }
}

#[test]
fn routing_alone_needs_no_experts() {
    let mut inputs = Layer { experts: 8, ..SMALL }.tensors(Dtype::F32, 1);
    inputs.retain(|name, _| !name.starts_with("w_"));
    let choice = json!({"score": "logit", "weight": "softmax"});
    for outputs in [json!(["gates"]), json!(["gates", "topk_ids", "counts", "z_loss"])] {
        let mut question = token_choice(choice.clone(), 3);
        question["outputs"] = outputs;
        check(&question, &inputs);
    }
    let mut question = token_choice(choice, 3);
    question["outputs"] = json!(["gates"]);
    let gates = &run(&question, &inputs)["gates"];
    assert!(gates.chunks(8).all(|row| row.iter().filter(|gate| **gate > 0.0).count() == 3));
}

#[test]
fn a_correction_bias_chooses_but_does_not_weigh() {
    let mut inputs = SMALL.tensors(Dtype::F32, 2);
    inputs.insert("correction_bias".to_owned(), f32s(&[6], &[0.0, 9.0, 0.0, 0.0, -9.0, 0.0]));
    let question = token_choice(json!({"score": "sigmoid", "weight": "score"}), 2);
    check(&question, &inputs);
    let ids = &run(&question, &inputs)["topk_ids"];
    assert!(ids.chunks(2).all(|row| row[0] == 1.0 && row[1] != 4.0), "{ids:?}");
}

#[test]
fn logits_may_be_given_and_masked_and_each_token_have_its_own_top_k() {
    let mut inputs = SMALL.tensors(Dtype::F32, 3);
    inputs.remove("router_w");
    inputs.insert("router_logits".to_owned(), Random(9).tensor(Dtype::F32, &[21, 6], 4.0));
    let mask: Vec<f64> = (0..126).map(|i| f64::from(u8::from(i % 5 != 0 && i / 6 != 4))).collect();
    inputs.insert("logit_mask".to_owned(), HostTensor::from_f64(Dtype::Bool, &[21, 6], &mask));
    let own: Vec<i32> = (0..21).map(|token| token % 5 - 1).collect();
    inputs.insert("token_top_k".to_owned(), i32s(&[21], &own));
    let mut question = token_choice(json!({"score": "softmax", "weight": "renormalized"}), 3);
    question["outputs"] = json!(["out", "topk_ids", "topk_weights", "counts"]);
    check(&question, &inputs);
    let got = run(&question, &inputs);
    assert!(got["topk_ids"][12..15].iter().all(|id| *id == -1.0), "token 4 may choose nothing");
    assert!(got["out"][80..100].iter().all(|value| *value == 0.0));
}

#[test]
fn every_activation_is_right_with_biases_and_a_shared_expert() {
    let gated = [
        json!("silu_glu"),
        json!("gelu_glu"),
        json!("gelu_tanh_glu"),
        json!({"clamped_swiglu": {"alpha": 1.702, "limit": 1.0}}),
    ];
    let plain = ["relu", "relu2", "gelu", "gelu_tanh", "silu"].map(Value::from);
    let mut inputs = SMALL.tensors(Dtype::F32, 4);
    let mut random = add_biases_and_a_shared_expert(&mut inputs, 77);
    inputs.insert("shared_gate_w".to_owned(), random.tensor(Dtype::F32, &[1, 20], 0.5));
    let mut question = token_choice(json!({}), 2);
    for activation in gated {
        question["activation"] = activation;
        check(&question, &inputs);
    }
    inputs.retain(|name, _| !["w_gate", "b_gate", "shared_w_gate"].contains(&name.as_str()));
    for activation in plain {
        question["activation"] = activation;
        check(&question, &inputs);
    }
}

#[test]
fn half_precision_and_odd_extents_are_right() {
    let odd = Layer { tokens: 19, model_dim: 27, experts: 5, expert_dim: 13 };
    for (dtype, name) in [(Dtype::F32, "f32"), (Dtype::F16, "f16"), (Dtype::Bf16, "bf16")] {
        for layer in [SMALL, odd] {
            for out in [name, "f32"] {
                let inputs = layer.tensors(dtype, 6);
                let question =
                    json!({"dtype": name, "out_dtype": out, "top_k": 2, "weight_on": "input"});
                check(&question, &inputs);
            }
        }
    }
}

#[test]
fn weights_may_be_narrower_than_the_tokens() {
    let mut inputs = SMALL.tensors(Dtype::F16, 6);
    let x = inputs["x"].to_f64();
    inputs.insert("x".to_owned(), f32s(&[21, 20], &x));
    let router = inputs["router_w"].to_f64();
    inputs.insert("router_w".to_owned(), f32s(&[6, 20], &router));
    check(
        &json!({"dtype": "f32", "weights": "f16", "top_k": 2, "outputs": ["out", "counts"]}),
        &inputs,
    );
}

#[test]
fn expert_choice_takes_the_best_tokens_in_token_order() {
    let inputs = SMALL.tensors(Dtype::F32, 7);
    for capacity in [1, 4, 20, 21] {
        let question = json!({
            "router": {"expert_choice": {"capacity": capacity}},
            "outputs": ["out", "token_ids", "token_weights", "router_logits"],
        });
        check(&question, &inputs);
        let ids = &run(&question, &inputs)["token_ids"];
        assert!(ids.chunks(capacity).all(|row| row.windows(2).all(|pair| pair[0] < pair[1])));
    }
}

#[test]
fn a_soft_router_mixes_all_tokens() {
    let mut inputs = SMALL.tensors(Dtype::F32, 8);
    for slots in [1, 5] {
        inputs.insert("phi".to_owned(), Random(3).tensor(Dtype::F32, &[6, slots, 20], 0.6));
        let question =
            json!({"router": {"soft": {"slots": slots}}, "outputs": ["out", "router_logits"]});
        check(&question, &inputs);
    }
}

/// Their slots' inputs are computed for the experts alone, and have no memory without them.
#[test]
fn a_soft_routers_logits_may_be_asked_for_alone() {
    let mut inputs = SMALL.tensors(Dtype::F32, 8);
    inputs.insert("phi".to_owned(), Random(3).tensor(Dtype::F32, &[6, 5, 20], 0.6));
    check(&json!({"router": {"soft": {"slots": 5}}, "outputs": ["router_logits"]}), &inputs);
}

#[test]
fn external_ids_may_be_no_experts() {
    let mut inputs = SMALL.tensors(Dtype::F32, 9);
    let ids: Vec<i32> = (0..42).map(|pair| pair * 5 % 11 - 2).collect();
    inputs.insert("topk_ids".to_owned(), i32s(&[21, 2], &ids));
    inputs.insert("topk_weights".to_owned(), Random(4).tensor(Dtype::F32, &[21, 2], 1.0));
    check(&json!({"router": "external", "outputs": ["out", "counts", "dropped"]}), &inputs);
}

#[test]
fn capacity_keeps_the_first_or_the_best_of_each_sequence() {
    let layer = Layer { tokens: 60, experts: 3, ..SMALL };
    let inputs = layer.tensors(Dtype::F32, 10);
    for (rows, sequences, priority) in [
        (0, 1, "token_order"),
        (5, 1, "token_order"),
        (3, 4, "token_order"),
        (5, 1, "score"),
        (2, 3, "score"),
        (60, 1, "score"),
    ] {
        let mut question = token_choice(json!({"score": "softmax", "weight": "score"}), 2);
        question["capacity"] = json!({"rows": rows, "sequences": sequences, "priority": priority});
        check(&question, &inputs);
    }
}

#[test]
fn many_experts_and_many_tokens_are_placed() {
    // More pairs than one block, more experts than a workgroup has lanes.
    let layer = Layer { tokens: 700, model_dim: 8, experts: u64::from(MAX_EXPERTS), expert_dim: 4 };
    let inputs = layer.tensors(Dtype::F32, 11);
    check(&json!({"top_k": 5, "outputs": ["out", "topk_ids", "counts"]}), &inputs);
}

#[test]
fn every_score_goes_with_every_weight_up_to_1024_experts_and_32_of_them() {
    let layer = Layer { tokens: 5, model_dim: 8, experts: 1024, expert_dim: 4 };
    let mut inputs = layer.tensors(Dtype::F32, 12);
    for score in ["softmax", "sigmoid", "sqrt_softplus", "logit"] {
        for weight in ["score", "renormalized", "softmax", "sigmoid"] {
            let choice = json!({"score": score, "weight": weight});
            let outputs = json!(["topk_ids", "topk_weights"]);
            let router = json!({"token_choice": choice});
            check(&json!({"top_k": 32, "router": router, "outputs": outputs}), &inputs);
        }
    }
    // All at once, as DeepSeek-V3 has it and larger.
    inputs.insert("correction_bias".to_owned(), Random(3).tensor(Dtype::F32, &[1024], 0.3));
    let groups = json!({"count": 16, "keep": 5, "by": "top2_sum"});
    let choice = json!({"score": "sigmoid", "groups": groups, "scale": 2.5, "epsilon": 1e-20});
    check(&token_choice(choice, 32), &inputs);
}

#[test]
fn one_expert_and_one_group_are_a_choice_too() {
    let inputs = Layer { experts: 1, ..SMALL }.tensors(Dtype::F32, 13);
    let groups = json!({"count": 1, "keep": 1, "by": "top2_sum"});
    check(&token_choice(json!({"score": "sigmoid", "groups": groups}), 1), &inputs);
    check(&token_choice(json!({"score": "softmax"}), 1), &inputs);
}

/// False for a token's every choice, for an expert's every token, and here and there.
fn mask(tokens: usize, experts: usize) -> HostTensor {
    let open = |i: usize| i / experts != 4 && i % experts != 2 && !i.is_multiple_of(5);
    let values: Vec<f64> = (0..tokens * experts).map(|i| f64::from(u8::from(open(i)))).collect();
    HostTensor::from_f64(Dtype::Bool, &[tokens as u64, experts as u64], &values)
}

#[test]
fn masks_go_with_groups_capacity_expert_choice_and_soft_routers() {
    let mut inputs = SMALL.tensors(Dtype::F32, 14);
    inputs.insert("logit_mask".to_owned(), mask(21, 6));
    let groups = json!({"count": 3, "keep": 2, "by": "max"});
    let capacity = json!({"rows": 4, "priority": "score"});
    let outputs = json!(["out", "topk_ids", "topk_weights", "counts", "dropped"]);
    for choice in [json!({}), json!({"score": "sigmoid", "groups": groups})] {
        let router = json!({"token_choice": choice});
        check(
            &json!({"top_k": 2, "router": router, "capacity": capacity, "outputs": outputs}),
            &inputs,
        );
    }
    let outputs = json!(["out", "token_weights"]);
    check(&json!({"router": {"expert_choice": {"capacity": 9}}, "outputs": outputs}), &inputs);
    inputs.insert("phi".to_owned(), Random(3).tensor(Dtype::F32, &[6, 3, 20], 0.6));
    let question = json!({"router": {"soft": {"slots": 3}}});
    check(&question, &inputs);
    let out = &run(&question, &inputs)["out"];
    assert!(out[80..100].iter().all(|value| *value == 0.0), "token 4 sees no slot");
}

#[test]
fn an_external_router_has_capacities_and_a_top_k_for_each_token() {
    let mut inputs = Layer { tokens: 24, ..SMALL }.tensors(Dtype::F32, 15);
    let ids: Vec<i32> = (0..72).map(|pair| pair * 7 % 6).collect();
    inputs.insert("topk_ids".to_owned(), i32s(&[24, 3], &ids));
    inputs.insert("topk_weights".to_owned(), Random(4).tensor(Dtype::F32, &[24, 3], 1.0));
    let own: Vec<i32> = (0..24).map(|token| token % 6 - 1).collect();
    inputs.insert("token_top_k".to_owned(), i32s(&[24], &own));
    let outputs = json!(["out", "counts", "dropped", "expert_offsets", "row_tokens", "pair_rows"]);
    for priority in ["token_order", "score"] {
        let capacity = json!({"rows": 2, "sequences": 3, "priority": priority});
        check(&json!({"router": "external", "capacity": capacity, "outputs": outputs}), &inputs);
    }
    check(&json!({"router": "external", "outputs": outputs}), &inputs);
}

#[test]
fn side_tensors_may_be_f32_beside_halves() {
    for (dtype, name) in [(Dtype::F16, "f16"), (Dtype::Bf16, "bf16")] {
        for side in [dtype, Dtype::F32] {
            let mut inputs = SMALL.tensors(dtype, 16);
            let mut random = Random(17);
            for (name, shape) in [
                ("router_w", vec![6, 20]),
                ("router_b", vec![6]),
                ("correction_bias", vec![6]),
                ("b_gate", vec![6, 12]),
                ("b_up", vec![6, 12]),
                ("b_down", vec![6, 20]),
            ] {
                inputs.insert(name.to_owned(), random.tensor(side, &shape, 0.5));
            }
            let mut question = token_choice(json!({"score": "sigmoid"}), 2);
            question["dtype"] = json!(name);
            check(&question, &inputs);
        }
    }
}
