//! Extents, layouts, magnitudes, outputs.

use serde_json::json;

use crate::tensor::Dtype::{Bf16, F16, F32};
use crate::verify::case::{Case, Placement, Style};

pub(super) fn cases() -> Vec<Case> {
    [lengths(), heads(), dims(), halves(), layouts(), magnitudes(), outputs()].concat()
}

/// 64 keys are a tile of most tile sets: 1, t − 1, t, t + 1, 2t, 2t + 3, and what has no keys, no rows, no batch.
fn lengths() -> Vec<Case> {
    let pairs = [
        (1, 1),
        (63, 63),
        (64, 64),
        (65, 65),
        (128, 128),
        (131, 131),
        (1, 65),
        (5, 131),
        (16, 64),
        (131, 65),
        (70, 3),
        (2, 1),
        (7, 0),
        (0, 7),
        (1, 0),
        (9, 300),
    ];
    let mut cases = Vec::new();
    for (q, kv) in pairs {
        let case = |name: &str| {
            Case::attention(format!("length/{name}_q{q}_kv{kv}"), [1, 2, 1, q, kv, 40])
        };
        cases.push(case("full"));
        cases.push(case("causal").causal());
    }
    cases.push(Case::attention("length/no_batch", [0, 2, 1, 5, 7, 40]));
    cases.push(Case::attention("length/three_batches", [3, 2, 1, 33, 65, 40]).causal());
    cases
        .into_iter()
        .map(|case| if case.name.contains("131") { case.core() } else { case })
        .collect()
}

/// MHA, GQA and MQA; a single query packs the heads of a group into a tile's rows.
fn heads() -> Vec<Case> {
    let mut cases = Vec::new();
    for (q_heads, kv_heads) in [(1, 1), (3, 3), (4, 2), (6, 2), (8, 1), (16, 2)] {
        for q in [1, 3, 37] {
            let name = format!("heads/{q_heads}_of_{kv_heads}_q{q}");
            let case = Case::attention(name, [2, q_heads, kv_heads, q, 70, 64]).causal();
            cases.push(if q_heads == 8 { case.core() } else { case });
        }
    }
    cases
}

fn dims() -> Vec<Case> {
    let mut cases = Vec::new();
    for (head_dim, value_dim) in [
        (1, 1),
        (7, 7),
        (40, 40),
        (64, 64),
        (72, 72),
        (80, 80),
        (128, 128),
        (192, 192),
        (256, 256),
        (576, 576),
        (64, 32),
        (32, 96),
        (40, 7),
        (3, 40),
        (192, 128),
        (576, 512),
    ] {
        let name = format!("dims/{head_dim}_{value_dim}");
        let case = Case::attention(name, [1, 2, 1, 11, 70, head_dim])
            .with(&json!({"value_dim": value_dim}))
            .causal();
        cases.push(if [7, 80, 576].contains(&head_dim) { case.core() } else { case });
    }
    cases
}

/// Halves that share a word with another lane's, or another row's, are the trap.
fn halves() -> Vec<Case> {
    let mut cases = Vec::new();
    for dtype in [F16, Bf16] {
        for (head_dim, value_dim) in
            [(64, 64), (7, 7), (1, 1), (6, 5), (8, 3), (80, 40), (33, 64), (576, 512)]
        {
            let name = format!("half/{dtype}_{head_dim}_{value_dim}");
            let fields = json!({"dtype": dtype, "value_dim": value_dim});
            let case = Case::attention(name, [2, 3, 3, 9, 70, head_dim]).with(&fields).causal();
            cases.push(if head_dim < 65 { case.core() } else { case });
        }
        for splits in [1, 3] {
            let name = format!("half/{dtype}_out_f32_splits{splits}");
            let fields = json!({"dtype": dtype, "out_dtype": "f32"});
            cases.push(Case::attention(name, [1, 2, 1, 9, 200, 64]).with(&fields).splits(splits));
        }
        let odd = Case::attention(format!("half/{dtype}_odd_splits"), [1, 3, 1, 5, 200, 9]);
        cases.push(odd.with(&json!({"dtype": dtype})).splits(3));
    }
    cases
}

fn layouts() -> Vec<Case> {
    let mut cases = Vec::new();
    for dtype in [F32, F16, Bf16] {
        for head_dim in [64, 7] {
            let base = |name: &str, layout: &str| {
                let name = format!("layout/{layout}_{name}_{dtype}_{head_dim}");
                Case::attention(name, [2, 4, 2, 17, 17, head_dim])
                    .with(&json!({"dtype": dtype, "layout": layout}))
                    .causal()
            };
            for layout in ["bhsd", "bshd"] {
                cases.push(base("dense", layout));
                cases.push(base("exact", layout).place(Placement::Exact));
                cases.push(base("aligned", layout).place(Placement::Aligned));
                cases.push(base("odd", layout).place(Placement::Odd).core());
            }
            cases.push(base("packed", "bshd").place(Placement::Packed).core());
        }
    }
    let one =
        Case::attention("layout/exact_one_element", [1, 1, 1, 1, 1, 1]).place(Placement::Exact);
    cases.push(one.clone().counts("kv_lens", &[1]));
    cases.push(
        one.named("layout/exact_one_half")
            .with(&json!({"dtype": "f16", "score": [{"bias": "bias"}]})),
    );
    cases
}

fn magnitudes() -> Vec<Case> {
    let mut cases = Vec::new();
    for dtype in [F32, F16, Bf16] {
        for (name, style) in
            [("eight", Style::Eight), ("extreme", Style::Extreme), ("equal", Style::Equal)]
        {
            let case = Case::attention(format!("magnitude/{name}_{dtype}"), [1, 2, 1, 33, 131, 64]);
            cases.push(case.with(&json!({"dtype": dtype})).causal().style(style));
        }
    }
    for (name, scale) in [("zero", 0.0), ("negative", -0.125), ("tiny", 1e-30), ("large", 50.0)] {
        let case = Case::attention(format!("magnitude/scale_{name}"), [1, 4, 2, 131, 131, 64]);
        cases.push(case.with(&json!({"softmax_scale": scale})).causal().core());
    }
    cases
}

fn outputs() -> Vec<Case> {
    let mut cases = Vec::new();
    for (name, outputs) in
        [("out", json!(["out"])), ("lse", json!(["lse"])), ("both", json!(["lse", "out"]))]
    {
        for splits in [1, 3] {
            let case =
                Case::attention(format!("output/{name}_splits{splits}"), [1, 2, 1, 9, 200, 40]);
            cases.push(case.with(&json!({"outputs": outputs})).causal().splits(splits));
        }
    }
    cases
}
