//! Packed sequences, and keys in pages.

use serde_json::{Value, json};

use crate::tensor::Dtype::{self, Bf16, F16, F32, I32};
use crate::verify::case::{Case, Fill, Placement};

pub(super) fn cases() -> Vec<Case> {
    [packed_cases(), packed_starts(), paged_cases(), ragged_cases()].concat()
}

/// Sequences, q_heads, kv_heads, queries and keys of all sequences, head_dim.
fn packed(name: &str, extents: [u32; 6], dtype: Dtype) -> Case {
    let [sequences, q_heads, kv_heads, total_q, total_kv, dim] = extents.map(u64::from);
    Case::attention(format!("packed/{name}"), extents)
        .with(&json!({"dtype": dtype}))
        .tensor("q", dtype, &[total_q, q_heads, dim])
        .tensor("k", dtype, &[total_kv, kv_heads, dim])
        .tensor("v", dtype, &[total_kv, kv_heads, dim])
        .tensor("cu_seqlens_q", I32, &[sequences + 1])
        .tensor("cu_seqlens_kv", I32, &[sequences + 1])
}

/// Sequences of lengths by chance.
fn packed_cases() -> Vec<Case> {
    let many = [7, 4, 2, 150, 260, 40];
    let window = json!({"mask": {"band": {"left": 9, "right": 9}}, "q_offset": 2});
    let sides = json!({
        "mask": {"and": [{"band": {"right": 0}}, {"prefix": "counts"}]},
        "score": [{"alibi": "slopes"}, {"softcap": 3.0}],
        "normaliser": {"softmax": {"sink": "sinks"}},
    });
    let wgsl = "fn mask_mod(b: u32, h: u32, q: u32, kv: u32) -> bool { return (pos_q(b, q) + i32(kv + h + b)) % 3 != 0; }";
    let shared =
        "fn mask_mod(b: u32, h: u32, q: u32, kv: u32) -> bool { return (q + kv / 9u) % 3u != 0u; }";
    let sigmoid = json!({"normaliser": "sigmoid", "outputs": ["out"]});
    vec![
        packed("causal", many, F32).causal().core(),
        packed("window", many, F32).with(&window).place(Placement::Odd),
        packed("aligned", many, F32).place(Placement::Aligned),
        packed("sides", many, F32).with(&sides).tensor("slopes", F32, &[7, 4]),
        packed("by_map", many, F32).with(&json!({"mask": {"wgsl": wgsl}})).core(),
        packed("by_shared_map", many, F32).with(&json!({"mask": {"wgsl": shared}})),
        packed("splits", many, F32).causal().splits(3),
        packed("sigmoid", many, F32).with(&sigmoid),
        packed("f16", many, F16).causal(),
        packed("f16_sides", many, F16).with(&sides).tensor("slopes", F32, &[7, 4]),
        packed("f16_splits", many, F16).causal().splits(3),
        packed("f16_gate", many, F16).causal().tensor("head_gate", F16, &[4, 150]),
        packed("bf16_odd", [7, 4, 2, 150, 260, 7], Bf16).place(Placement::Odd),
        packed("gate", many, F32).causal().tensor("head_gate", F32, &[4, 150]),
        packed("gate_skips", many, F32)
            .with(&json!({"outputs": ["out"]}))
            .tensor("head_gate", F32, &[4, 150])
            .place(Placement::Odd),
    ]
}

/// Sequences that start at these rows.
fn starts(name: &str, extents: [u32; 6], q: &[i32], kv: &[i32]) -> Case {
    let of = |case: Case, name: &'static str, values: &[i32]| {
        let values = values.iter().map(|value| f64::from(*value)).collect();
        case.fill(name, Fill::Values(values))
    };
    of(of(packed(name, extents, F32), "cu_seqlens_q", q), "cu_seqlens_kv", kv)
}

/// Sequences of given lengths, and of none.
fn packed_starts() -> Vec<Case> {
    let decode = [6, 8, 2, 6, 700, 64];
    vec![
        starts("decode", decode, &[0, 1, 2, 3, 4, 5, 6], &[0, 300, 300, 301, 600, 699, 700]).core(),
        starts("decode_splits", decode, &[0, 1, 2, 3, 4, 5, 6], &[0, 300, 300, 301, 600, 699, 700])
            .splits(3),
        starts("more_queries", [3, 2, 2, 107, 184, 32], &[0, 10, 74, 107], &[0, 100, 164, 184])
            .causal(),
        starts(
            "empty_ones",
            [5, 2, 1, 90, 90, 40],
            &[0, 0, 64, 64, 90, 90],
            &[0, 20, 20, 40, 90, 90],
        ),
        starts("all_keys_divide", [3, 2, 1, 90, 256, 40], &[0, 20, 64, 90], &[0, 50, 128, 256])
            .core(),
        // Rows behind the last sequence are nobody's: 0, and lse minus infinity, with a sink too.
        starts("rows_of_none", [3, 2, 1, 90, 90, 40], &[0, 5, 20, 41], &[0, 30, 60, 85]).core(),
        starts("rows_of_none_sink_splits", [2, 4, 1, 70, 300, 40], &[0, 5, 20], &[0, 100, 300])
            .with(&json!({"normaliser": {"softmax": {"sink": "sinks"}}}))
            .splits(2),
        packed("no_sequence_but_rows", [0, 2, 1, 9, 0, 40], F32),
        packed("one_sequence", [1, 2, 1, 70, 131, 40], F32).causal(),
        packed("no_query", [2, 2, 1, 0, 131, 40], F32),
        packed("no_key", [2, 2, 1, 70, 0, 40], F32),
        packed("no_sequence", [0, 2, 1, 0, 0, 40], F32),
    ]
}

/// Batch, q_heads, kv_heads, queries, keys at most, head_dim; pages, and rows of one.
fn paged(name: &str, extents: [u32; 6], [pages, page_size]: [u64; 2], dtype: Dtype) -> Case {
    let [batch, _, kv_heads, _, keys, dim] = extents.map(u64::from);
    let shape = [pages, page_size, kv_heads, dim];
    let lens = |batch: u64| (keys * (batch + 1) * 7 / 9 % (keys + 1)) as i32;
    Case::attention(format!("paged/{name}"), extents)
        .with(&json!({"dtype": dtype}))
        .tensor("k_pages", dtype, &shape)
        .tensor("v_pages", dtype, &shape)
        .tensor("block_table", I32, &[batch, keys / page_size])
        .counts("kv_lens", &(0..batch).map(lens).collect::<Vec<i32>>())
}

/// Packed queries over keys in pages: sequences of given queries and keys.
fn ragged(name: &str, q: &[i32], lens: &[i32], [pages, page_size]: [u64; 2]) -> Case {
    let total = q.last().copied().unwrap_or(0);
    let keys = lens.iter().copied().max().unwrap_or(0).max(1) as u64;
    let of_sequence = keys.div_ceil(page_size);
    let extents = [lens.len() as u32, 4, 2, total as u32, (of_sequence * page_size) as u32, 40];
    let starts = q.iter().map(|start| f64::from(*start)).collect();
    paged(name, extents, [pages, page_size], F32)
        .tensor("q", F32, &[u64::from(total.unsigned_abs()), 4, 40])
        .tensor("cu_seqlens_q", I32, &[q.len() as u64])
        .fill("cu_seqlens_q", Fill::Values(starts))
        .counts("kv_lens", lens)
}

fn ragged_cases() -> Vec<Case> {
    let window = json!({"mask": {"band": {"left": 30, "right": 0}}, "score": [{"softcap": 5.0}]});
    let mixed = [0, 1, 40, 41, 41, 70];
    let lens = [150, 90, 7, 33, 0];
    vec![
        ragged("ragged_causal", &mixed, &lens, [24, 16]).causal().core(),
        ragged("ragged_window", &mixed, &lens, [40, 7]).with(&window).place(Placement::Odd),
        ragged("ragged_splits", &mixed, &lens, [24, 16]).splits(3),
        ragged("ragged_gate", &mixed, &lens, [24, 16]).tensor("head_gate", F32, &[4, 70]),
    ]
}

fn paged_cases() -> Vec<Case> {
    let queries = [3, 4, 2, 9, 160, 40];
    let decode = [5, 8, 2, 1, 512, 64];
    let window = json!({"mask": {"band": {"left": 40, "right": 0}}});
    let sides: Value = json!({
        "mask": {"dense": "keep"},
        "score": [{"bias": "bias"}, {"alibi": "slopes"}],
        "normaliser": {"softmax": {"sink": "sinks"}},
    });
    let prefix = [2, 65, 40];
    vec![
        paged("decode", decode, [40, 64], F32).causal().core(),
        paged("decode_splits", decode, [40, 16], F32).causal().splits(3),
        paged("window", queries, [16, 16], F32).with(&window).core(),
        paged("odd_pages", [3, 4, 2, 9, 161, 40], [20, 7], F32).causal().place(Placement::Odd),
        paged("pages_of_one", [2, 2, 1, 5, 40, 8], [50, 1], F32).causal(),
        paged("bshd", queries, [16, 16], F32)
            .with(&json!({"layout": "bshd"}))
            .place(Placement::Aligned),
        paged("sides", queries, [16, 16], F32).with(&sides),
        paged("many_queries", [2, 2, 2, 70, 160, 40], [16, 32], F32).causal(),
        paged("gate", queries, [16, 16], F32).tensor("head_gate", F32, &[3, 4, 9]),
        paged("prefix", queries, [16, 16], F32)
            .causal()
            .tensor("prefix_k", F32, &prefix)
            .tensor("prefix_v", F32, &prefix),
        paged("f16", decode, [40, 64], F16).causal(),
        paged("f16_window", queries, [16, 16], F16).with(&window),
        paged("f16_many_queries", [2, 2, 2, 70, 160, 40], [16, 32], F16).causal(),
        paged("f16_gate", queries, [16, 16], F16).tensor("head_gate", F16, &[3, 4, 9]),
        paged("bf16_odd", [3, 4, 2, 9, 160, 7], [16, 16], Bf16).causal().place(Placement::Odd),
    ]
}
