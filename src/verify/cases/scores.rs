//! What changes scores, and what turns them into weights.

use serde_json::{Value, json};

use crate::tensor::Dtype::{Bf16, F16, F32, I32};
use crate::verify::case::{Case, Fill, Placement};
use crate::verify::inputs::lowest;

pub(super) fn cases() -> Vec<Case> {
    [orders(), biases(), slopes(), wgsl(), halves(), normalisers()].concat()
}

/// Few rows: kernels whose tiles have many rows take several times as long to compile.
const EXTENTS: [u32; 6] = [2, 4, 2, 3, 131, 40];

fn score(name: &str, modifiers: &Value) -> Case {
    Case::attention(format!("score/{name}"), EXTENTS).causal().with(&json!({"score": modifiers}))
}

const WGSL: &str = "fn score_mod(score: f32, b: u32, h: u32, q: u32, kv: u32) -> f32 { return score * 0.5 - 0.01 * f32(pos_q(b, q) - i32(kv)); }";

fn orders() -> Vec<Case> {
    let cap = json!({"softcap": 2.0});
    let (alibi, bias, wgsl) =
        (json!({"alibi": "slopes"}), json!({"bias": "bias"}), json!({"wgsl": WGSL}));
    vec![
        score("softcap", &json!([cap])).core(),
        score("softcap_saturated", &json!([{"softcap": 0.01}])),
        score("softcap_wide", &json!([{"softcap": 1e6}])),
        score("softcap_bias", &json!([cap, bias])).core(),
        score("bias_softcap", &json!([bias, cap])),
        score("alibi_bias_softcap_wgsl", &json!([alibi, bias, cap, wgsl])).core(),
        score("wgsl_softcap_bias_alibi", &json!([wgsl, cap, bias, alibi])),
        score("softcap_twice", &json!([cap, {"softcap": 1.0}])),
        score("wgsl_twice", &json!([wgsl, wgsl])),
        score("bias_twice", &json!([bias, {"bias": "other"}])).tensor(
            "other",
            F32,
            &[1, 1, 1, 131],
        ),
        score("bias_same_twice", &json!([bias, bias])),
    ]
}

fn biases() -> Vec<Case> {
    let mut cases = Vec::new();
    let bias = json!([{"bias": "bias"}]);
    for shape in
        [[2, 4, 3, 131], [1, 1, 3, 131], [2, 1, 1, 131], [1, 4, 3, 1], [1, 1, 1, 1], [1, 4, 1, 131]]
    {
        let name = format!("bias_{}_{}_{}_{}", shape[0], shape[1], shape[2], shape[3]);
        cases.push(score(&name, &bias).tensor("bias", F32, &shape).place(Placement::Odd));
    }
    for (name, dtype) in [("f32", F32), ("f16", F16), ("bf16", Bf16)] {
        let bias = |what: &str| {
            let case = score(&format!("bias_{what}_{name}"), &bias)
                .with(&json!({"dtype": dtype, "mask": "full"}));
            case.tensor("bias", dtype, &[2, 4, 3, 131])
        };
        let inf = bias("neg_inf").fill("bias", Fill::SomeNegInf);
        cases.push(inf.core());
        cases.push(bias("all_neg_inf").fill("bias", Fill::Values(vec![f64::NEG_INFINITY])));
        cases.push(bias("lowest").fill("bias", Fill::SomeLowest));
        cases.push(
            // An lse down there is beyond what f32 can tell.
            bias("all_lowest")
                .with(&json!({"outputs": ["out"]}))
                .fill("bias", Fill::Values(vec![lowest(dtype)])),
        );
    }
    let decode = Case::attention("score/bias_decode_splits", [2, 4, 1, 1, 300, 64])
        .with(&json!({"score": bias}));
    cases.push(decode.fill("bias", Fill::SomeNegInf).splits(3));
    let many = Case::attention("score/bias_many_rows", [2, 4, 2, 37, 131, 40]);
    cases.push(many.with(&json!({"score": bias})).causal().fill("bias", Fill::SomeNegInf).core());
    let exact = score("bias_exact", &bias).place(Placement::Exact);
    cases.push(exact.with(&json!({"mask": "full"})));
    cases
}

fn slopes() -> Vec<Case> {
    let alibi = json!([{"alibi": "slopes"}]);
    let full = json!({"mask": "full"});
    vec![
        score("alibi_by_head", &alibi).core(),
        score("alibi_by_batch", &alibi).tensor("slopes", F32, &[2, 4]).place(Placement::Odd),
        score("alibi_both_sides", &alibi).with(&full),
        score("alibi_offset", &alibi).with(&full).with(&json!({"q_offset": -20})),
        score("alibi_kv_lens", &alibi).with(&full).counts("kv_lens", &[131, 40]),
    ]
}

fn wgsl() -> Vec<Case> {
    let aux = "fn score_mod(score: f32, b: u32, h: u32, q: u32, kv: u32) -> f32 { return score + t[kv * 2u + q] * t[arrayLength(&t) - 1u - h]; }";
    let whole = "fn score_mod(score: f32, b: u32, h: u32, q: u32, kv: u32) -> f32 { return score + 0.1 * f32(t[i32(kv) - 40]); }";
    let masks = "fn score_mod(score: f32, b: u32, h: u32, q: u32, kv: u32) -> f32 { if (kv % 5u == 2u) { return bitcast<f32>(0xff800000u + (b & 0u)); } return score; }";
    let local = "const STEP: f32 = 0.25;\nfn score_mod(score: f32, b: u32, h: u32, q: u32, kv: u32) -> f32 {\n  var table = array<f32, 4>(1.0, 0.5, -0.5, 2.0);\n  var s = score;\n  for (var i = 0u; i < 3u; i++) { s += STEP * table[(kv + i) % 4u]; }\n  return s;\n}";
    let with_aux = |text: &str| json!([{"wgsl": text, "aux": ["t"]}]);
    vec![
        score("wgsl", &json!([{"wgsl": WGSL}])).core(),
        // Indices beyond the tensor are clamped.
        score("wgsl_aux_f32", &with_aux(aux)).tensor("t", F32, &[100]).core(),
        score("wgsl_aux_f16", &with_aux(aux)).tensor("t", F16, &[99]).place(Placement::Odd),
        score("wgsl_aux_bf16", &with_aux(aux)).tensor("t", Bf16, &[3, 33]),
        score("wgsl_aux_i32", &with_aux(whole)).tensor("t", I32, &[60]).place(Placement::Exact),
        score("wgsl_masks", &json!([{"wgsl": masks}])),
        score("wgsl_loop", &json!([{"wgsl": local}])),
    ]
}

/// Extra inputs in the spec's own type.
fn halves() -> Vec<Case> {
    let mut cases = Vec::new();
    for dtype in [F16, Bf16] {
        let fields = json!({
            "dtype": dtype, "score": [{"alibi": "slopes"}, {"bias": "bias"}],
            "normaliser": {"softmax": {"sink": "sink_logits"}},
        });
        let case = Case::attention(format!("score/sides_{dtype}"), EXTENTS).causal().with(&fields);
        let case = case.tensor("slopes", dtype, &[4]).tensor("bias", dtype, &[1, 4, 3, 131]);
        let case = case.tensor("sink_logits", dtype, &[4]);
        cases.push(case.clone());
        cases.push(case.named(format!("score/sides_{dtype}_odd")).place(Placement::Odd));
    }
    cases
}

fn normalisers() -> Vec<Case> {
    let case = |name: &str, fields: Value| {
        Case::attention(format!("normaliser/{name}"), EXTENTS).causal().with(&fields)
    };
    let sink = json!({"softmax": {"sink": "sinks"}});
    let sigmoid = json!({"sigmoid": {"bias": -4.0}});
    let negative = |case: Case| case.fill("sinks", Fill::Values(vec![f64::NEG_INFINITY, 3.0]));
    let empty =
        json!({"normaliser": sink, "mask": {"band": {"left": 3, "right": 0}}, "q_offset": -10});
    vec![
        case("sink", json!({"normaliser": sink})).core(),
        case("sink_empty_rows", empty.clone()).core(),
        case("sink_empty_rows_splits", empty.clone()).splits(3),
        negative(case("sink_neg_inf", json!({"normaliser": sink}))),
        negative(case("sink_neg_inf_empty_rows", empty)),
        case("sink_splits", json!({"normaliser": sink})).splits(3),
        case("sink_large", json!({"normaliser": sink}))
            .fill("sinks", Fill::Values(vec![1e4, -1e4])),
        case("sigmoid", json!({"normaliser": sigmoid, "outputs": ["out"]})).core(),
        case(
            "sigmoid_softcap",
            json!({"normaliser": sigmoid, "outputs": ["out"], "score": [{"softcap": 3.0}]}),
        ),
        case("sigmoid_splits", json!({"normaliser": sigmoid, "outputs": ["out"]})).splits(3),
        case(
            "sigmoid_empty_rows",
            json!({"normaliser": "sigmoid", "outputs": ["out"], "q_offset": -10}),
        ),
        case(
            "sigmoid_bias",
            json!({"normaliser": "sigmoid", "outputs": ["out"], "score": [{"bias": "bias"}]}),
        )
        .fill("bias", Fill::SomeNegInf),
    ]
}
