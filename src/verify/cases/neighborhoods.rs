//! Windows over one, two and three axes.

use serde_json::{Value, json};

use crate::tensor::Dtype::{Bf16, F16, F32, I32};
use crate::verify::case::{Case, Fill, Placement, Style};

pub(super) fn cases() -> Vec<Case> {
    [rules(), shapes(), extras(), functions(), ends(), apart()].concat()
}

/// Two heads of 16 dims.
fn case(name: &str, spatial: &[u32], window: &[u32]) -> Case {
    Case::neighborhood(format!("neighborhood/{name}"), [1, 2, 2, 16], spatial, window)
}

/// Each option of the rule, and all of them at once.
fn rules() -> Vec<Case> {
    let two = |name: &str, fields: Value| case(name, &[13, 22], &[5, 6]).with(&fields);
    vec![
        case("one_axis", &[31], &[7]).core(),
        case("two_axes", &[9, 14], &[3, 6]).core(),
        case("three_axes", &[5, 6, 7], &[3, 4, 5]).core(),
        case("window_of_one", &[9, 8], &[1, 1]),
        case("whole_window", &[6, 9], &[6, 9]),
        two("stride", json!({"stride": [3, 6]})).core(),
        two("dilation", json!({"dilation": [2, 3]})).core(),
        two("causal", json!({"causal": [true, false]})).core(),
        two("causal_stride", json!({"causal": [true, true], "stride": [4, 2]})),
        two("clip", json!({"border": "clip"})).core(),
        two("clip_stride", json!({"border": "clip", "stride": [5, 4]})),
        // Blocks stay aligned where the last one is cut off; causal and clipped windows reach beyond the axis.
        two("clip_blocks", json!({"border": "clip", "stride": [5, 6]})).core(),
        case("clip_beyond", &[5, 9], &[7, 6])
            .with(&json!({"border": "clip", "stride": [3, 2], "dilation": [2, 11]})),
        case("causal_beyond", &[6, 10], &[9, 4])
            .with(&json!({"causal": [true, false], "stride": [2, 1], "dilation": [1, 2]}))
            .core(),
        two("group_offset", json!({"stride": [3, 6], "group_offset": [2, 1]})).core(),
        case("swin", &[14, 21], &[7, 7])
            .with(&json!({"stride": [7, 7], "group_offset": [3, 3], "border": "clip"}))
            .core(),
        // Windows that divide into boxes: no key is tested; of rows some idle, of the last blocks' some are not there.
        case("blocks", &[16, 24], &[8, 8]).with(&json!({"stride": [8, 8]})).core(),
        case("blocks_idle_rows", &[28, 42], &[14, 14]).with(&json!({"stride": [14, 14]})).core(),
        case("blocks_cut_off", &[70], &[32]).with(&json!({"stride": [32]})),
        case("blocks_dilated", &[32, 33], &[8, 8])
            .with(&json!({"stride": [8, 8], "dilation": [2, 2]})),
        case("blocks_3d", &[4, 8, 12], &[4, 4, 4]).with(&json!({"stride": [4, 4, 4]})),
        two("head_windows", json!({"head_windows": [[5, 6], [3, 2]]})).core(),
        two(
            "all",
            json!({
                "head_windows": [[5, 3], [4, 6]], "stride": [4, 3], "group_offset": [3, 1],
                "dilation": [2, 2], "causal": [false, true], "border": "clip",
            }),
        )
        .core(),
        two("scale", json!({"softmax_scale": -0.5})),
        two("scale_zero", json!({"softmax_scale": 0.0})),
    ]
}

fn shapes() -> Vec<Case> {
    let shaped = |name: &str, extents: [u32; 4]| {
        Case::neighborhood(format!("neighborhood/{name}"), extents, &[8, 11], &[5, 4])
    };
    let halves = |name: &str, dtype, dim| {
        shaped(name, [1, 2, 2, dim]).with(&json!({"dtype": dtype})).place(Placement::Odd)
    };
    vec![
        shaped("grouped_heads", [2, 6, 2, 40]).core(),
        shaped("value_dim", [1, 2, 2, 24]).with(&json!({"value_dim": 40})),
        shaped("odd_dim", [1, 3, 1, 7]).place(Placement::Odd).core(),
        shaped("aligned", [2, 4, 2, 64]).place(Placement::Aligned),
        shaped("exact", [1, 2, 2, 20]).place(Placement::Exact),
        halves("f16", F16, 24).core(),
        halves("bf16", Bf16, 7).core(),
        halves("f16_out_f32", F16, 16).with(&json!({"out_dtype": "f32"})),
        shaped("eight", [1, 2, 2, 32]).style(Style::Eight),
        shaped("extreme", [1, 2, 2, 32]).style(Style::Extreme),
        shaped("equal", [1, 2, 2, 32]).style(Style::Equal),
        shaped("no_batch", [0, 2, 2, 32]),
        shaped("lse_alone", [1, 2, 2, 32]).with(&json!({"outputs": ["lse"]})),
    ]
}

fn extras() -> Vec<Case> {
    let extra = |name: &str, count: u64| {
        let shape = [2, count, 2, 16];
        Case::neighborhood(format!("neighborhood/{name}"), [2, 4, 2, 16], &[9, 8], &[3, 5])
            .tensor("extra_k", F32, &shape)
            .tensor("extra_v", F32, &shape)
    };
    vec![
        extra("extra", 5).core(),
        extra("extra_many", 70).place(Placement::Odd),
        extra("extra_softcap", 3).with(&json!({"score": [{"softcap": 2.0}]})),
    ]
}

/// The caller's functions.
fn functions() -> Vec<Case> {
    let circle = "fn mask_mod(b: u32, h: u32, q: vec2<u32>, kv: vec2<u32>) -> bool { let d = vec2<i32>(kv) - vec2<i32>(q); return dot(d, d) <= 9; }";
    let bias = "fn score_mod(score: f32, b: u32, h: u32, q: vec2<u32>, kv: vec2<u32>) -> f32 { let at = kv + 6u - q; return score + rel[(h * 13u + at.x) * 13u + at.y]; }";
    let masks = "fn score_mod(score: f32, b: u32, h: u32, q: u32, kv: u32) -> f32 { if (kv % 4u == 1u) { return bitcast<f32>(0xff800000u + (b & 0u)); } return score + f32(ids[q]); }";
    let nothing = "fn mask_mod(b: u32, h: u32, q: vec3<u32>, kv: vec3<u32>) -> bool { return q.x != 1u && kv.z >= q.z; }";
    let image = |name: &str, fields: Value| {
        case(name, &[12, 15], &[7, 7]).with(&fields).tensor("rel", F32, &[2, 13, 13])
    };
    let rel = json!([{"wgsl": bias, "aux": ["rel"]}]);
    let ids = Fill::Values(vec![1.0, -2.0, 0.0]);
    vec![
        case("circle", &[12, 15], &[7, 7]).with(&json!({"mask": {"wgsl": circle}})).core(),
        image("relative_bias", json!({"score": rel})).core(),
        image(
            "circle_bias_softcap",
            json!({"mask": {"wgsl": circle}, "score": [rel[0], {"softcap": 3.0}]}),
        )
        .place(Placement::Odd),
        case("score_masks", &[37], &[9])
            .with(&json!({"score": [{"wgsl": masks, "aux": ["ids"]}]}))
            .tensor("ids", I32, &[37])
            .fill("ids", ids),
        case("rows_without_keys", &[3, 5, 6], &[1, 3, 2])
            .with(&json!({"mask": {"wgsl": nothing}}))
            .core(),
    ]
}

/// What ends a row: biases, sinks, gates, weights without a denominator, parts that are merged.
fn ends() -> Vec<Case> {
    let image = |name: &str, fields: Value| {
        Case::neighborhood(format!("neighborhood/{name}"), [2, 4, 2, 20], &[9, 14], &[5, 6])
            .with(&fields)
    };
    let gate = [2, 9, 14, 4];
    let sink = json!({"normaliser": {"softmax": {"sink": "sinks"}}});
    let sigmoid = json!({"normaliser": {"sigmoid": {"bias": -2.0}}, "outputs": ["out"]});
    // Whole boxes of gates are 0.
    let gates = (0..97).map(|row| if row > 90 { 0.5 } else { 0.0 }).collect();
    let everything = json!({
        "dtype": F16, "score": [{"softcap": 4.0}, {"bias": "bias"}],
        "normaliser": {"softmax": {"sink": "sinks"}},
    });
    vec![
        image("bias", json!({})).tensor("bias", F32, &[2, 4, 126, 126]).core(),
        image("bias_broadcast", json!({})).tensor("bias", F32, &[1, 4, 1, 126]),
        image("bias_neg_inf", json!({}))
            .tensor("bias", F32, &[1, 1, 126, 126])
            .fill("bias", Fill::SomeNegInf),
        image("sink", sink.clone()).core(),
        image("sink_splits", sink).splits(3).core(),
        image("sigmoid", sigmoid.clone()).core(),
        image("sigmoid_splits", sigmoid).splits(2),
        image("gate", json!({})).tensor("head_gate", F32, &gate).place(Placement::Odd).core(),
        image("gate_splits", json!({})).tensor("head_gate", F32, &gate).splits(2),
        image("gate_skips", json!({"outputs": ["out"]}))
            .tensor("head_gate", F32, &gate)
            .fill("head_gate", Fill::Values(gates)),
        image("splits_causal_clip", json!({"causal": [true, false], "border": "clip"}))
            .splits(3)
            .place(Placement::Odd),
        image("f16_ends_splits", everything)
            .tensor("bias", F32, &[2, 1, 126, 126])
            .tensor("head_gate", F16, &gate)
            .tensor("extra_k", F16, &[2, 5, 2, 20])
            .tensor("extra_v", F16, &[2, 5, 2, 20])
            .splits(2),
    ]
}

/// Scores and aggregate, the two halves.
fn apart() -> Vec<Case> {
    let half = |op: &str, name: &str, dim: &str, fields: Value| {
        let mut spec = json!({
            "op": format!("neighborhood_{op}"), "batch": 2, "q_heads": 4, "kv_heads": 2,
            "spatial": [9, 14], "window": [3, 6],
        });
        spec[dim] = 20.into();
        Case::slots(format!("neighborhood/{op}{name}"), spec).with(&fields)
    };
    let scores = |name: &str, fields: Value| half("scores", name, "head_dim", fields);
    let aggregate = |name: &str, fields: Value| half("aggregate", name, "value_dim", fields);
    let clipped =
        json!({"stride": [2, 3], "dilation": [2, 1], "causal": [false, true], "border": "clip"});
    vec![
        scores("", json!({})).core(),
        scores("_clip", clipped.clone()).place(Placement::Odd),
        scores("_f16", json!({"dtype": F16, "head_dim": 7})).core(),
        aggregate("", json!({})).core(),
        aggregate("_clip", clipped).place(Placement::Odd),
        aggregate("_bf16", json!({"dtype": Bf16, "value_dim": 7, "out_dtype": "f32"})).core(),
    ]
}
