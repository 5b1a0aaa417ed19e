//! Mixtures of experts: the routers of models that people run, and each option beside them.

use serde_json::{Value, json};

use crate::tensor::Dtype::{self, Bf16, Bool, F16, F32, I32};
use crate::verify::case::{Case, Placement, Style};

pub(super) fn cases() -> Vec<Case> {
    [models(), groups(), routers(), options(), experts(), shapes()].concat()
}

/// 40 tokens of 24 dims, 8 experts of 20.
fn case(name: &str, fields: Value) -> Case {
    sized(name, [40, 24, 8, 20], fields)
}

fn sized(name: &str, extents: [u32; 4], fields: Value) -> Case {
    Case::moe(format!("moe/{name}"), extents).with(&fields)
}

fn choice(choice: Value, top_k: u32) -> Value {
    json!({
        "top_k": top_k, "router": {"token_choice": choice},
        "outputs": ["out", "topk_ids", "topk_weights", "counts", "dropped", "router_logits", "load_balancing_loss", "z_loss"],
    })
}

impl Case {
    fn biases(self, dtype: Dtype) -> Self {
        let biases = self.tensor("b_gate", dtype, &[8, 20]).tensor("b_up", dtype, &[8, 20]);
        biases.tensor("b_down", dtype, &[8, 24])
    }

    fn shared(self, dtype: Dtype) -> Self {
        let shared = self.tensor("shared_w_gate", dtype, &[12, 24]);
        shared.tensor("shared_w_up", dtype, &[12, 24]).tensor("shared_w_down", dtype, &[24, 12])
    }
}

fn models() -> Vec<Case> {
    let groups = json!({"count": 4, "keep": 2, "by": "top2_sum"});
    let deepseek = json!({
        "score": "sigmoid", "weight": "renormalized", "scale": 2.5, "epsilon": 1e-20,
        "groups": groups, "correction_bias": "correction_bias",
    });
    let capacity = json!({"capacity": {"rows": 4, "sequences": 2}});
    vec![
        case("mixtral", choice(json!({"score": "softmax", "weight": "renormalized"}), 2)).core(),
        case("qwen3", choice(json!({"score": "softmax", "weight": "score"}), 3)).core(),
        case("gpt_oss", choice(json!({"score": "logit", "weight": "softmax"}), 4))
            .with(&json!({"activation": {"clamped_swiglu": {"alpha": 1.702, "limit": 1.0}}}))
            .tensor("router_b", F32, &[8])
            .biases(F32)
            .core(),
        case("deepseek_v3", choice(deepseek, 3)).shared(F32).core(),
        case("llama4", choice(json!({"score": "logit", "weight": "sigmoid"}), 1))
            .with(&json!({"weight_on": "input"}))
            .shared(F32)
            .core(),
        case("switch", choice(json!({"score": "softmax", "weight": "score"}), 1))
            .with(&capacity)
            .core(),
        case("sqrt_softplus", choice(json!({"score": "sqrt_softplus"}), 3)),
    ]
}

/// Groups and a mask, with every score.
fn groups() -> Vec<Case> {
    let group = |score: &str, by: &str| {
        let groups = json!({"count": 4, "keep": 2, "by": by});
        let fields = choice(json!({"score": score, "groups": groups}), 3);
        let case = case(&format!("groups_{score}_{by}_masked"), fields);
        case.tensor("logit_mask", Bool, &[40, 8])
    };
    vec![
        group("softmax", "max").core(),
        group("sigmoid", "top2_sum").core(),
        group("sqrt_softplus", "max"),
        group("logit", "top2_sum"),
        sized(
            "groups_many",
            [70, 8, 512, 4],
            choice(json!({"groups": {"count": 64, "keep": 7, "by": "top2_sum"}}), 8),
        ),
    ]
}

fn routers() -> Vec<Case> {
    let taken = json!(["out", "token_ids", "token_weights", "router_logits"]);
    let expert_choice = |capacity: u32| json!({"router": {"expert_choice": {"capacity": capacity}}, "outputs": taken});
    let soft = |slots: u32| json!({"router": {"soft": {"slots": slots}}, "outputs": ["out", "router_logits"]});
    let placed = json!(["out", "counts", "dropped", "expert_offsets", "row_tokens", "pair_rows"]);
    vec![
        case("expert_choice", expert_choice(7)).core(),
        case("expert_choice_all", expert_choice(40)),
        case("expert_choice_masked", expert_choice(7)).tensor("logit_mask", Bool, &[40, 8]),
        case("soft", soft(3)).core(),
        case("soft_masked", soft(2)).tensor("logit_mask", Bool, &[40, 8]),
        case("external", json!({"router": "external", "top_k": 3, "outputs": placed})).core(),
        case("external_capacity", json!({"router": "external", "top_k": 3, "outputs": placed}))
            .with(&json!({"capacity": {"rows": 5, "priority": "score"}}))
            .tensor("token_top_k", I32, &[40]),
        case("router_alone", json!({"top_k": 2, "outputs": ["gates", "topk_ids", "pair_rows"]})),
    ]
}

fn options() -> Vec<Case> {
    let null = json!({"null_experts": {"zero": 2, "identity": 1}});
    let range = |start: u32, end: u32| json!({"expert_range": [start, end]});
    let capacity = |rows: u32, sequences: u32, priority: &str| json!({"capacity": {"rows": rows, "sequences": sequences, "priority": priority}});
    let mixtral = |name: &str| case(name, choice(json!({}), 2));
    vec![
        mixtral("null_experts").with(&null).core(),
        mixtral("null_experts_capacity").with(&null).with(&capacity(3, 1, "score")),
        mixtral("range").with(&range(2, 5)).core(),
        mixtral("range_null").with(&range(5, 8)).with(&null),
        mixtral("capacity_score").with(&capacity(6, 1, "score")).core(),
        mixtral("capacity_choice_order").with(&capacity(5, 2, "choice_order")).core(),
        mixtral("capacity_best_score").with(&capacity(5, 2, "best_score")).core(),
        mixtral("capacity_sequences").with(&capacity(2, 4, "token_order")),
        mixtral("capacity_none").with(&capacity(0, 1, "token_order")),
        mixtral("logit_mask").tensor("logit_mask", Bool, &[40, 8]).core(),
        mixtral("token_top_k").tensor("token_top_k", I32, &[40]).core(),
        mixtral("shared_gate").shared(F32).tensor("shared_gate_w", F32, &[1, 24]),
    ]
}

fn experts() -> Vec<Case> {
    let plain =
        ["silu_glu", "gelu_glu", "gelu_tanh_glu", "relu", "relu2", "gelu", "gelu_tanh", "silu"];
    let with_biases = |name: &str| {
        let fields = json!({"top_k": 2, "activation": name});
        let case = case(name, fields).tensor("b_up", F32, &[8, 20]);
        case.tensor("b_down", F32, &[8, 24])
    };
    let mut cases: Vec<Case> = plain.into_iter().map(with_biases).collect();
    for (dtype, name) in [(F16, "f16"), (Bf16, "bf16")] {
        let halves = |more: &str| {
            case(&format!("{name}{more}"), choice(json!({}), 2)).with(&json!({"dtype": name}))
        };
        cases.push(halves("").core());
        cases.push(halves("_odd").biases(dtype).shared(dtype).place(Placement::Odd).core());
        cases.push(halves("_out_f32").with(&json!({"out_dtype": "f32"})).biases(F32));
        cases.push(case(&format!("weights_{name}"), json!({"top_k": 2, "weights": name})));
    }
    let blocks = |name: &str, fields: Value| {
        sized(name, [40, 64, 4, 32], choice(json!({}), 2)).with(&fields)
    };
    cases.push(blocks("q4_0", json!({"weights": "q4_0"})));
    cases.push(blocks("mxint8", json!({"weights": "q8_0", "quantise_activations": "mxint8"})));
    cases
}

fn shapes() -> Vec<Case> {
    let all = choice(json!({}), 2);
    let shaped = |name: &str, extents: [u32; 4]| sized(name, extents, all.clone());
    vec![
        shaped("no_token", [0, 24, 8, 20]).core(),
        shaped("one_token", [1, 24, 8, 20]).core(),
        shaped("odd", [33, 27, 5, 13]).place(Placement::Odd).core(),
        shaped("exact", [7, 3, 3, 5]).place(Placement::Exact),
        shaped("aligned", [65, 64, 4, 32]).place(Placement::Aligned),
        shaped("two_experts", [300, 16, 2, 8]),
        sized("one_expert", [30, 16, 1, 8], choice(json!({}), 1)),
        sized("many_experts", [70, 8, 1024, 4], choice(json!({}), 32)),
        sized("many_experts_capacity", [90, 8, 200, 4], choice(json!({}), 6))
            .with(&json!({"capacity": {"rows": 2, "sequences": 3, "priority": "best_score"}})),
        shaped("tall", [700, 12, 6, 8]),
        shaped("wide", [20, 130, 4, 70]).style(Style::Eight),
    ]
}
