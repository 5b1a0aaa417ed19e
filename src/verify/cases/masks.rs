//! Every form of mask, alone and nested.

use serde_json::{Value, json};

use crate::tensor::Dtype::{Bool, I32};
use crate::verify::case::{Case, Fill, Placement};

pub(super) fn cases() -> Vec<Case> {
    [forms(), lists(), tensors(), dense(), blocks(), wgsl(), lens(), offsets()].concat()
}

const EXTENTS: [u32; 6] = [2, 4, 2, 70, 131, 40];

fn mask(name: &str, mask: &Value) -> Case {
    Case::attention(format!("mask/{name}"), EXTENTS).with(&json!({"mask": mask}))
}

/// What numbers alone say: no tensor, no map of tiles.
fn forms() -> Vec<Case> {
    let causal = json!({"band": {"right": 0}});
    let sinks_and_window = json!({"and": [causal, {"or": [{"sink": 4}, {"band": {"left": 20}}]}]});
    vec![
        mask("full", &json!("full")).core(),
        mask("causal", &causal).core(),
        mask("window_l0_r0", &json!({"band": {"left": 0, "right": 0}})).core(),
        mask("window_l16_r16", &json!({"band": {"left": 16, "right": 16}})).core(),
        mask("window_l63_r0", &json!({"band": {"left": 63, "right": 0}})),
        mask("window_l64_r1", &json!({"band": {"left": 64, "right": 1}})),
        mask("window_wide", &json!({"band": {"left": 4_000_000_000_u32, "right": 500}})),
        mask("left_only", &json!({"band": {"left": 10}})),
        mask("right_only", &json!({"band": {"right": 9}})),
        mask("prefix_0", &json!({"prefix": 0})),
        mask("prefix_65", &json!({"prefix": 65})),
        mask("prefix_or_causal", &json!({"or": [{"prefix": 70}, causal]})).core(),
        mask("sink_3", &json!({"sink": 3})),
        mask("sinks_and_window", &sinks_and_window).core(),
        mask("and_of_none", &json!({"and": []})),
        mask("or_of_none", &json!({"or": []})).core(),
        mask("not_causal", &json!({"not": causal})).core(),
        mask("not_not", &json!({"not": {"not": {"band": {"left": 5, "right": 5}}}})),
        mask(
            "nested",
            &json!({"not": {"and": [{"or": [{"sink": 9}, {"not": {"prefix": 90}}]}, {"not": {"band": {"left": 3, "right": 3}}}]}}),
        ),
    ]
}

/// What lists of numbers say, and masks for each head.
fn lists() -> Vec<Case> {
    let causal = json!({"band": {"right": 0}});
    let mut cases = vec![
        mask("counts_by_list", &json!({"band": {"left": [0, 7, 64, 200], "right": [0, 1, 2, 3]}}))
            .core(),
        mask(
            "sinks_by_list",
            &json!({"or": [{"sink": [0, 1, 65, 131]}, {"band": {"left": 1, "right": 0}}]}),
        ),
        mask(
            "per_head",
            &json!({"per_head": [causal, "full", {"band": {"left": 4, "right": 4}}, {"or": []}]}),
        )
        .core(),
    ];
    // A few queries share a tile with those of other heads.
    for (name, form) in [
        ("packed_by_list", json!({"band": {"left": [0, 7, 64, 200], "right": 0}})),
        ("packed_per_head", json!({"per_head": [causal, "full", {"sink": 2}, {"or": []}]})),
    ] {
        cases.push(
            Case::attention(format!("mask/{name}"), [2, 4, 1, 2, 131, 40])
                .with(&json!({"mask": form})),
        );
    }
    cases
}

/// What tensors say.
fn tensors() -> Vec<Case> {
    let documents = json!({"documents": {"q": "doc_q", "kv": "doc_kv"}});
    let mut cases = vec![
        mask("prefix_tensor", &json!({"prefix": "n"})).counts("n", &[0, 66]),
        mask("prefix_tensor_wild", &json!({"prefix": "n"})).counts("n", &[-5, i32::MAX]),
        mask("counts_by_tensor", &json!({"band": {"left": "l", "right": "r"}}))
            .counts("l", &[0, 3, i32::MAX, 64])
            .counts("r", &[i32::MIN, 0, 1, -2]),
        mask("sinks_by_tensor", &json!({"sink": "s"})).counts("s", &[0, 1, 70, -1]),
        mask("documents", &documents).core(),
        mask("documents_unsorted", &documents)
            .fill("doc_q", Fill::Unsorted)
            .fill("doc_kv", Fill::Unsorted),
        mask("documents_and_causal", &json!({"and": [documents, {"band": {"right": 0}}]}))
            .place(Placement::Odd),
        mask("documents_one_name", &json!({"documents": {"q": "doc", "kv": "doc"}})),
        mask(
            "dense_and_documents_or_sink",
            &json!({"or": [{"and": [{"dense": "keep"}, documents]}, {"sink": 2}]}),
        ),
        mask("not_dense", &json!({"not": {"dense": "keep"}})),
        mask("dense_false", &json!({"dense": "keep"})).fill("keep", Fill::Values(vec![0.0])),
        mask("dense_true", &json!({"dense": "keep"})).fill("keep", Fill::Values(vec![1.0])),
    ];
    for case in cases.iter_mut().filter(|case| case.name.ends_with("one_name")) {
        case.spec["seq_len_kv"] = json!(70);
    }
    cases
}

/// A dense mask of every shape.
fn dense() -> Vec<Case> {
    let mut cases = Vec::new();
    for shape in [
        [2, 4, 70, 131],
        [1, 1, 70, 131],
        [2, 1, 1, 131],
        [1, 4, 70, 1],
        [1, 1, 1, 1],
        [2, 1, 70, 1],
    ] {
        let name = format!("dense_{}_{}_{}_{}", shape[0], shape[1], shape[2], shape[3]);
        let case = mask(&name, &json!({"dense": "keep"})).tensor("keep", Bool, &shape);
        cases.push(if shape[3] == 1 { case } else { case.place(Placement::Odd) });
    }
    cases
}

fn blocks() -> Vec<Case> {
    let mut cases = Vec::new();
    for (bq, bk) in [(64, 64), (16, 16), (128, 128), (7, 13), (1, 1), (1000, 3)] {
        let form = json!({"block_sparse": {"block": [bq, bk], "keep": "keep"}});
        let name = format!("blocks_{bq}_{bk}");
        let case = mask(&name, &form);
        cases.push(if bq == 64 { case.core() } else { case });
    }
    let form = json!({"block_sparse": {"block": [16, 32], "keep": "keep"}});
    cases.push(
        mask("blocks_by_head", &form).tensor("keep", Bool, &[2, 4, 5, 5]).place(Placement::Odd),
    );
    cases.push(mask("blocks_causal", &json!({"and": [form, {"band": {"right": 0}}]})));
    let decoding = Case::attention("mask/blocks_by_head_decode", [2, 8, 2, 2, 300, 40]);
    let of_heads = json!({"block_sparse": {"block": [1, 64], "keep": "keep"}});
    cases
        .push(decoding.with(&json!({"mask": of_heads})).tensor("keep", Bool, &[1, 8, 2, 5]).core());
    let documents = json!({"documents": {"q": "doc_q", "kv": "doc_kv"}});
    for (name, form) in [
        ("not_blocks", json!({"not": form})),
        ("blocks_and_documents", json!({"and": [documents, form]})),
        ("blocks_or_documents", json!({"or": [documents, form, {"sink": 1}]})),
        ("blocks_per_head", json!({"per_head": [form, documents, {"not": form}, "full"]})),
        ("blocks_and_dense", json!({"and": [{"dense": "open"}, form]})),
    ] {
        cases.push(mask(name, &form));
    }
    // One document, and none that both have.
    for (name, of_keys) in [("documents_one", -1), ("documents_apart", 2)] {
        let ids = |id: i32| Fill::Values(vec![f64::from(id)]);
        cases.push(mask(name, &documents).fill("doc_q", ids(-1)).fill("doc_kv", ids(of_keys)));
    }
    cases
}

fn wgsl() -> Vec<Case> {
    let position = "fn mask_mod(b: u32, h: u32, q: u32, kv: u32) -> bool { return (pos_q(b, q) - i32(kv)) % 3 == 0; }";
    let aux = "fn far(x: i32) -> bool { return x > 1; }\nfn mask_mod(b: u32, h: u32, q: u32, kv: u32) -> bool { return far(t[q * 3u + kv]) || t[h] < 0; }";
    let looped = "fn mask_mod(b: u32, h: u32, q: u32, kv: u32) -> bool {\n  var n = 0u;\n  for (var i = 0u; i < 5u; i++) { if ((kv >> i) % 2u == 1u) { n++; } }\n  return n % 2u == (h % 2u);\n}";
    let position = json!({"wgsl": position});
    // Batches and heads share a map of tiles; in decoding a tile's rows are heads, too.
    let shared = json!({"wgsl": "fn mask_mod(b: u32, h: u32, q: u32, kv: u32) -> bool { return (kv / 40u + q) % 2u == 0u; }"});
    let decoding = Case::attention("mask/wgsl_shared_decode", [2, 8, 2, 1, 300, 40]);
    vec![
        mask("wgsl_shared", &shared).core(),
        decoding.with(&json!({"mask": shared})).core(),
        mask("wgsl", &position).core(),
        mask("wgsl_not", &json!({"not": position})),
        mask("wgsl_loop", &json!({"wgsl": looped})),
        // The tensor is shorter than what is asked of it: indices are clamped.
        mask("wgsl_aux", &json!({"wgsl": aux, "aux": ["t"]}))
            .tensor("t", I32, &[50])
            .place(Placement::Odd),
        mask("wgsl_per_head", &json!({"per_head": [position, "full", {"wgsl": looped}, position]})),
        mask("wgsl_and_causal", &json!({"and": [position, {"band": {"right": 0}}]})),
    ]
}

fn lens() -> Vec<Case> {
    let mut cases = Vec::new();
    for (name, form) in [
        ("full", json!("full")),
        ("causal", json!({"band": {"right": 0}})),
        ("window", json!({"band": {"left": 5, "right": 2}})),
        ("not", json!({"not": {"band": {"right": 0}}})),
        ("dense", json!({"dense": "keep"})),
    ] {
        let case = Case::attention(format!("kv_lens/{name}"), [5, 2, 1, 9, 131, 40])
            .with(&json!({"mask": form}));
        let case = case.counts("kv_lens", &[131, 0, 64, 5, 100]);
        cases.push(if name == "causal" { case.core() } else { case });
    }
    let decode = Case::attention("kv_lens/decode", [5, 8, 2, 1, 300, 64]).causal();
    let decode = decode.counts("kv_lens", &[300, 0, 1, 65, 128]);
    cases.push(decode.clone().core());
    cases.push(decode.named("kv_lens/decode_splits").splits(4));
    let wild = Case::attention("kv_lens/beyond_the_keys", [3, 2, 1, 9, 70, 40]).causal();
    cases.push(wild.counts("kv_lens", &[-3, i32::MAX, 9]));
    cases
}

fn offsets() -> Vec<Case> {
    let mut cases = Vec::new();
    for offset in [0, -5, -70, 30, 200, 1 << 29, -(1 << 29)] {
        let case = mask(&format!("offset_{offset}"), &json!({"band": {"left": 20, "right": 0}}));
        let case = case.with(&json!({"q_offset": offset}));
        cases.push(if offset == -5 { case.core() } else { case });
    }
    let lens = Case::attention("kv_lens/offset", [3, 2, 1, 9, 70, 40])
        .causal()
        .with(&json!({"q_offset": 4}));
    cases.push(lens.counts("kv_lens", &[0, 70, 9]));
    cases
}
