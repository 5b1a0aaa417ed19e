//! Gates for each query and head: with all that ends a row, and where they let rows be skipped.

use serde_json::{Value, json};

use crate::tensor::Dtype::{self, Bf16, F16, F32};
use crate::verify::case::{Case, Fill, Placement};

fn gated(name: &str, extents: [u32; 6], dtype: Dtype) -> Case {
    let [batch, q_heads, _, seq_len_q, ..] = extents.map(u64::from);
    let shape = [batch, q_heads, seq_len_q];
    Case::attention(format!("gate/{name}"), extents).tensor("head_gate", dtype, &shape)
}

/// Without `lse` rows may be skipped.
fn skips(name: &str, extents: [u32; 6], fields: &Value) -> Case {
    let case = gated(name, extents, F32).with(&json!({"outputs": ["out"]})).with(fields);
    // Whole tiles of gates are 0, and tiles with a last row that is not.
    let gates = (0..97).map(|row| if row > 90 { 0.5 } else { 0.0 }).collect();
    case.fill("head_gate", Fill::Values(gates))
}

fn prefix_of(case: Case, dtype: Dtype) -> Case {
    let shape = [2, 65, 40];
    case.tensor("prefix_k", dtype, &shape).tensor("prefix_v", dtype, &shape)
}

pub(super) fn cases() -> Vec<Case> {
    [ends(), halves(), skipped()].concat()
}

const QUERIES: [u32; 6] = [2, 4, 2, 70, 131, 40];
const DECODE: [u32; 6] = [3, 8, 2, 1, 300, 64];

fn sink() -> Value {
    json!({"normaliser": {"softmax": {"sink": "sinks"}}})
}

fn sigmoid() -> Value {
    json!({"normaliser": "sigmoid", "outputs": ["out"]})
}

/// All that ends a row.
fn ends() -> Vec<Case> {
    vec![
        gated("causal", QUERIES, F32).causal().core(),
        gated("bshd_odd", QUERIES, F32).with(&json!({"layout": "bshd"})).place(Placement::Odd),
        gated("decode", DECODE, F32).core(),
        gated("decode_splits", DECODE, F32).splits(3),
        gated("splits", QUERIES, F32).causal().splits(2),
        gated("sink", QUERIES, F32).with(&sink()),
        gated("sigmoid", QUERIES, F32).with(&sigmoid()),
        gated("sigmoid_splits", DECODE, F32).with(&sigmoid()).splits(2),
        prefix_of(gated("prefix", QUERIES, F32), F32).causal(),
        gated("every_side", QUERIES, F32)
            .causal()
            .with(&json!({
                "mask": {"and": [{"band": {"right": 0}}, {"dense": "keep"}]},
                "score": [{"alibi": "slopes"}, {"bias": "bias"}],
                "normaliser": {"softmax": {"sink": "sinks"}},
            }))
            .counts("kv_lens", &[131, 70]),
    ]
}

/// Gates of halves, and what matrices take with all that ends a row.
fn halves() -> Vec<Case> {
    let mut cases = Vec::new();
    for (name, dtype) in [("f16", F16), ("bf16", Bf16)] {
        let spec = json!({"dtype": dtype});
        cases.push(gated(name, QUERIES, dtype).with(&spec).place(Placement::Odd));
        cases.push(gated(&format!("f32_with_{name}"), QUERIES, F32).with(&spec));
    }
    let f16 = |name: &str, fields: &Value| {
        gated(name, QUERIES, F16).with(&json!({"dtype": "f16"})).with(fields)
    };
    cases.extend([
        f16("f16_causal", &json!({"mask": {"band": {"right": 0}}})),
        f16("f16_sink", &sink()),
        f16("f16_sigmoid", &sigmoid()),
        f16("f16_splits", &json!({})).splits(2),
        prefix_of(f16("f16_prefix", &json!({})), F16).causal(),
    ]);
    cases
}

/// Gates of 0 that let rows be skipped.
fn skipped() -> Vec<Case> {
    let none = json!({});
    let dense = json!({"mask": {"dense": "keep"}});
    vec![
        skips("skips", [2, 2, 2, 200, 131, 40], &none).core(),
        skips("skips_by_map", [2, 2, 2, 200, 131, 40], &dense),
        skips("skips_decode", [25, 4, 4, 1, 300, 64], &none).splits(2),
        skips("skips_groups", [25, 4, 2, 1, 300, 64], &sink()),
        prefix_of(skips("skips_prefix", [13, 4, 2, 1, 131, 40], &none), F32),
    ]
}
