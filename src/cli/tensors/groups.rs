//! Specs, and tensors beside which operators take them.

mod experts;

use self::experts::{MATMUL, MOE};
use crate::tensor::Dtype::{self, Bool, F16, F32, I32};

/// An operator's specs and tensors.
pub(super) struct OperatorGroups {
    /// Its name.
    pub op: &'static str,
    /// Extents by axis, unlike each other where what is written has them.
    pub extents: &'static [(&'static str, u64)],
    /// What is always there, then what some specs ask for.
    pub groups: &'static [Group],
}

/// A spec and tensors for it.
pub(super) struct Group {
    /// What asks for the tensors; empty for what is always there.
    pub when: &'static str,
    /// Fields beside those of the first group, as JSON.
    pub spec: &'static str,
    /// Whether the first group's tensors are not among its own.
    pub alone: bool,
    /// Name, a type that is taken, axes.
    pub tensors: &'static [(&'static str, Dtype, &'static [&'static str])],
}

impl OperatorGroups {
    pub fn extent(&self, axis: &str) -> Option<u64> {
        let known = self.extents.iter().find(|(name, _)| *name == axis);
        known.map(|(_, extent)| *extent).or_else(|| axis.parse().ok())
    }

    /// What an extent stands for: an axis, one more than it, or two of them.
    pub fn axis_of(&self, extent: u64) -> String {
        let find = |wanted: u64| self.extents.iter().find(|(_, extent)| *extent == wanted);
        if let Some((name, _)) = find(extent) {
            return (*name).to_owned();
        }
        if let Some((name, _)) = extent.checked_sub(1).and_then(find) {
            return format!("{name} + 1");
        }
        let pairs = self.extents.iter().flat_map(|a| self.extents.iter().map(move |b| (a, b)));
        let product = |((_, a), (_, b)): &(&(&str, u64), &(&str, u64))| a * b == extent;
        match pairs.into_iter().find(product) {
            Some(((a, _), (b, _))) => format!("{a} · {b}"),
            None => extent.to_string(),
        }
    }
}

const fn beside(
    when: &'static str,
    spec: &'static str,
    tensors: &'static [(&'static str, Dtype, &'static [&'static str])],
) -> Group {
    Group { when, spec, alone: false, tensors }
}

const fn alone(
    when: &'static str,
    spec: &'static str,
    tensors: &'static [(&'static str, Dtype, &'static [&'static str])],
) -> Group {
    Group { when, spec, alone: true, tensors }
}

pub(super) const GROUPS: &[OperatorGroups] =
    &[ATTENTION, MERGE, NEIGHBORHOOD, NEIGHBORHOOD_SCORES, NEIGHBORHOOD_AGGREGATE, MOE, MATMUL];

const ATTENTION: OperatorGroups = OperatorGroups {
    op: "attention",
    extents: &[
        ("batch", 2),
        ("q_heads", 6),
        ("kv_heads", 3),
        ("seq_len_q", 5),
        ("seq_len_kv", 7),
        ("head_dim", 64),
        ("value_dim", 32),
        ("prefix_len", 13),
        ("pages", 11),
        ("page_size", 16),
        ("max_pages", 4),
        ("total_q", 17),
        ("total_kv", 19),
        ("batch + 1", 3),
        ("⌈seq_len_q / bq⌉", 3),
        ("⌈seq_len_kv / bk⌉", 2),
        ("any", 23),
    ],
    groups: &[
        beside(
            "",
            r#"{"outputs": ["out", "lse"]}"#,
            &[
                ("q", F16, &["batch", "q_heads", "seq_len_q", "head_dim"]),
                ("k", F16, &["batch", "kv_heads", "seq_len_kv", "head_dim"]),
                ("v", F16, &["batch", "kv_heads", "seq_len_kv", "value_dim"]),
            ],
        ),
        beside("", "{}", &[("head_gate", F32, &["batch", "q_heads", "seq_len_q"])]),
        beside("", "{}", &[("kv_lens", I32, &["batch"])]),
        beside(
            "a shared prefix",
            "{}",
            &[
                ("prefix_k", F16, &["kv_heads", "prefix_len", "head_dim"]),
                ("prefix_v", F16, &["kv_heads", "prefix_len", "value_dim"]),
            ],
        ),
        alone(
            "packed sequences",
            "{}",
            &[
                ("q", F16, &["total_q", "q_heads", "head_dim"]),
                ("k", F16, &["total_kv", "kv_heads", "head_dim"]),
                ("v", F16, &["total_kv", "kv_heads", "value_dim"]),
                ("cu_seqlens_q", I32, &["batch + 1"]),
                ("cu_seqlens_kv", I32, &["batch + 1"]),
            ],
        ),
        alone(
            "keys in pages",
            "{}",
            &[
                ("q", F16, &["batch", "q_heads", "seq_len_q", "head_dim"]),
                ("k_pages", F16, &["pages", "page_size", "kv_heads", "head_dim"]),
                ("v_pages", F16, &["pages", "page_size", "kv_heads", "value_dim"]),
                ("block_table", I32, &["batch", "max_pages"]),
                ("kv_lens", I32, &["batch"]),
            ],
        ),
        beside(
            "named by `score.bias`",
            r#"{"score": [{"bias": "bias"}]}"#,
            &[("bias", F32, &["batch|1", "q_heads|1", "seq_len_q|1", "seq_len_kv|1"])],
        ),
        beside(
            "named by `score.alibi`",
            r#"{"score": [{"alibi": "alibi_slopes"}]}"#,
            &[("alibi_slopes", F32, &["q_heads"])],
        ),
        beside(
            "named by `score.alibi`",
            r#"{"score": [{"alibi": "alibi_slopes"}]}"#,
            &[("alibi_slopes", F32, &["batch", "q_heads"])],
        ),
        beside(
            "named by `normaliser.softmax.sink`",
            r#"{"normaliser": {"softmax": {"sink": "sink_logits"}}}"#,
            &[("sink_logits", F32, &["q_heads"])],
        ),
        beside(
            "named by `mask.band.left` and `.right`, `mask.sink`",
            r#"{"mask": {"and": [{"band": {"left": "counts"}}, {"sink": "counts"}]}}"#,
            &[("counts", I32, &["q_heads"])],
        ),
        beside(
            "named by `mask.prefix`",
            r#"{"mask": {"prefix": "prefix"}}"#,
            &[("prefix", I32, &["batch"])],
        ),
        beside(
            "named by `mask.documents`",
            r#"{"mask": {"documents": {"q": "doc_q", "kv": "doc_kv"}}}"#,
            &[("doc_q", I32, &["batch", "seq_len_q"]), ("doc_kv", I32, &["batch", "seq_len_kv"])],
        ),
        beside(
            "named by `mask.dense`",
            r#"{"mask": {"dense": "keep"}}"#,
            &[("keep", Bool, &["batch|1", "q_heads|1", "seq_len_q|1", "seq_len_kv|1"])],
        ),
        beside(
            "named by `mask.block_sparse.keep`, of `block` [bq, bk]",
            r#"{"mask": {"block_sparse": {"block": [2, 4], "keep": "keep"}}}"#,
            &[("keep", Bool, &["batch|1", "q_heads|1", "⌈seq_len_q / bq⌉", "⌈seq_len_kv / bk⌉"])],
        ),
        beside(
            "named by `aux` of a `wgsl`",
            r#"{"score": [{"wgsl": "fn score_mod(score: f32, b: u32, h: u32, q: u32, kv: u32) -> f32 { return f32(aux[0]); }", "aux": ["aux"]}]}"#,
            &[("aux", F32, &["any"])],
        ),
    ],
};

const MERGE: OperatorGroups = OperatorGroups {
    op: "attention_merge",
    extents: &[("parts", 3), ("batch", 2), ("heads", 6), ("seq", 5), ("dim", 32)],
    groups: &[beside(
        "",
        "{}",
        &[
            ("outs", F16, &["parts", "batch", "heads", "seq", "dim"]),
            ("lses", F32, &["parts", "batch", "heads", "seq"]),
        ],
    )],
};

const PICTURE: &[(&str, u64)] = &[
    ("batch", 2),
    ("X0", 5),
    ("X1", 7),
    ("q_heads", 6),
    ("kv_heads", 3),
    ("head_dim", 64),
    ("value_dim", 32),
    ("extra", 13),
    ("slots", 9),
    ("X0 · X1", 35),
    ("any", 23),
];

const NEIGHBORHOOD: OperatorGroups = OperatorGroups {
    op: "neighborhood",
    extents: PICTURE,
    groups: &[
        beside(
            "",
            r#"{"window": [3, 3], "outputs": ["out", "lse"]}"#,
            &[
                ("q", F16, &["batch", "X0", "X1", "q_heads", "head_dim"]),
                ("k", F16, &["batch", "X0", "X1", "kv_heads", "head_dim"]),
                ("v", F16, &["batch", "X0", "X1", "kv_heads", "value_dim"]),
            ],
        ),
        beside("", "{}", &[("head_gate", F32, &["batch", "X0", "X1", "q_heads"])]),
        beside(
            "extra tokens",
            "{}",
            &[
                ("extra_k", F16, &["batch", "extra", "kv_heads", "head_dim"]),
                ("extra_v", F16, &["batch", "extra", "kv_heads", "value_dim"]),
            ],
        ),
        beside(
            "named by `score.bias`",
            r#"{"score": [{"bias": "bias"}]}"#,
            &[("bias", F32, &["batch|1", "q_heads|1", "X0 · X1|1", "X0 · X1|1"])],
        ),
        beside(
            "named by `normaliser.softmax.sink`",
            r#"{"normaliser": {"softmax": {"sink": "sink_logits"}}}"#,
            &[("sink_logits", F32, &["q_heads"])],
        ),
        beside(
            "named by `aux` of a `wgsl`",
            r#"{"mask": {"wgsl": "fn mask_mod(b: u32, h: u32, q: vec2<u32>, kv: vec2<u32>) -> bool { return f32(aux[0]) > 0.0; }", "aux": ["aux"]}}"#,
            &[("aux", F32, &["any"])],
        ),
    ],
};

const NEIGHBORHOOD_SCORES: OperatorGroups = OperatorGroups {
    op: "neighborhood_scores",
    extents: PICTURE,
    groups: &[beside(
        "",
        r#"{"window": [3, 3]}"#,
        &[
            ("q", F16, &["batch", "X0", "X1", "q_heads", "head_dim"]),
            ("k", F16, &["batch", "X0", "X1", "kv_heads", "head_dim"]),
        ],
    )],
};

const NEIGHBORHOOD_AGGREGATE: OperatorGroups = OperatorGroups {
    op: "neighborhood_aggregate",
    extents: PICTURE,
    groups: &[beside(
        "",
        r#"{"window": [3, 3]}"#,
        &[
            ("weights", F32, &["batch", "X0", "X1", "q_heads", "slots"]),
            ("v", F16, &["batch", "X0", "X1", "kv_heads", "value_dim"]),
        ],
    )],
};
