//! Rows whose keys are computed apart: split keys, shared prefixes, and the merge as an operator.

use serde_json::{Value, json};

use crate::tensor::Dtype::{Bf16, F16, F32};
use crate::verify::case::{Case, Fill, Placement};

pub(super) fn cases() -> Vec<Case> {
    [splits(), prefixes(), merges()].concat()
}

/// More parts than tiles leave some without keys.
fn splits() -> Vec<Case> {
    let mut cases = Vec::new();
    for count in 1..=7 {
        let decode =
            Case::attention(format!("splits/decode_{count}"), [2, 4, 2, 1, 300, 64]).splits(count);
        cases.push(if count % 2 == 1 { decode.core() } else { decode });
        cases.push(
            Case::attention(format!("splits/causal_{count}"), [1, 2, 1, 70, 200, 40])
                .causal()
                .splits(count),
        );
    }
    let window = json!({"mask": {"band": {"left": 30, "right": 0}}});
    cases.push(Case::attention("splits/window", [1, 2, 1, 70, 200, 40]).with(&window).splits(4));
    let dense = json!({"mask": {"dense": "keep"}});
    cases.push(Case::attention("splits/dense", [1, 2, 1, 70, 200, 40]).with(&dense).splits(4));
    let f16 = json!({"dtype": "f16"});
    cases.push(
        Case::attention("splits/f16_causal", [1, 2, 1, 70, 200, 40]).with(&f16).causal().splits(3),
    );
    cases.push(Case::attention("splits/odd", [1, 2, 1, 5, 200, 7]).place(Placement::Odd).splits(3));
    cases
}

fn prefix(name: &str, extents: [u32; 6], length: u64) -> Case {
    let [_, _, kv_heads, _, _, dim] = extents.map(u64::from);
    let shape = [kv_heads, length, dim];
    let case = Case::attention(format!("prefix/{name}"), extents).causal();
    case.tensor("prefix_k", F32, &shape).tensor("prefix_v", F32, &shape)
}

fn prefixes() -> Vec<Case> {
    let decode = [5, 4, 2, 1, 70, 64];
    let alibi = json!({"score": [{"alibi": "slopes"}, {"softcap": 5.0}]});
    let window = json!({"mask": {"band": {"left": 3, "right": 0}}});
    let sink = json!({"normaliser": {"softmax": {"sink": "sinks"}}});
    let halves = |name: &str, dtype, dim| {
        let mut case = prefix(name, [5, 4, 2, 1, 70, dim], 65).with(&json!({"dtype": dtype}));
        case.tensors.iter_mut().for_each(|(_, of, _)| *of = dtype);
        case
    };
    vec![
        prefix("decode", decode, 130).core(),
        prefix("decode_kv_lens", decode, 130).counts("kv_lens", &[70, 0, 1, 64, 33]).core(),
        prefix("decode_alibi", decode, 65).with(&alibi).counts("kv_lens", &[70, 0, 1, 64, 33]),
        prefix("decode_splits", decode, 300).splits(3),
        prefix("queries", [3, 6, 2, 9, 70, 40], 65).core(),
        prefix("queries_window", [3, 6, 2, 9, 70, 40], 65).with(&window).place(Placement::Odd),
        prefix("queries_sink", [3, 6, 2, 9, 70, 40], 65).with(&sink),
        prefix("bshd", [3, 6, 2, 9, 70, 40], 65)
            .with(&json!({"layout": "bshd"}))
            .place(Placement::Aligned),
        prefix("no_own_keys", [3, 6, 2, 9, 0, 40], 65),
        prefix("of_one_key", [3, 6, 2, 9, 70, 40], 1),
        prefix("of_no_key", [3, 6, 2, 9, 70, 40], 0),
        prefix("dense", [3, 6, 2, 9, 70, 40], 65).with(&json!({"mask": {"dense": "keep"}})),
        prefix("sigmoid", [3, 6, 2, 9, 70, 40], 65)
            .with(&json!({"normaliser": "sigmoid", "outputs": ["out"]})),
        halves("f16", F16, 64),
        halves("bf16_odd", Bf16, 7),
    ]
}

fn merges() -> Vec<Case> {
    let mut cases = Vec::new();
    for dtype in [F32, F16, Bf16] {
        for dim in [64, 7] {
            cases
                .push(Case::merge(format!("merge/{dtype}_{dim}"), dtype, [5, 2, 3, 9, dim]).core());
        }
        cases.push(
            Case::merge(format!("merge/{dtype}_odd"), dtype, [3, 1, 2, 5, 9]).place(Placement::Odd),
        );
        cases.push(
            Case::merge(format!("merge/{dtype}_exact"), dtype, [2, 1, 1, 1, 1])
                .place(Placement::Exact),
        );
    }
    cases.push(Case::merge("merge/one_part", F32, [1, 2, 3, 9, 64]));
    cases.push(Case::merge("merge/no_rows", F32, [3, 2, 3, 0, 64]));
    let spread: Value = json!({});
    let spread = Case::merge("merge/spread", F32, [4, 1, 2, 9, 40]).with(&spread);
    cases.push(spread.fill("lses", Fill::Values(vec![1e4, -1e4, 0.0, 88.0, -88.0])));
    cases
}
