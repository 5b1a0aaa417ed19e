//! A case of the suite, as data.

use serde_json::{Map, Value, json};

use crate::tensor::Dtype;

/// A problem with all that its outputs depend on.
#[derive(Clone, Debug, PartialEq)]
pub struct Case {
    /// `group/name`, unlike any other's.
    pub name: String,
    /// The spec as a file has it, extents included.
    pub spec: Value,
    /// Element type and shape, by name, of tensors that the spec alone does not tell.
    pub tensors: Vec<(&'static str, Dtype, Vec<u64>)>,
    /// What tensors hold that hold more than noise.
    pub fills: Vec<(&'static str, Fill)>,
    /// How large q, k and v are.
    pub style: Style,
    /// How tensors lie in their buffers.
    pub placement: Placement,
    /// Whether all tensors lie in one buffer, one behind the other.
    pub one_buffer: bool,
    /// Parts that keys are split into. `None` leaves it to the plan.
    pub kv_splits: Option<u32>,
    /// Where the noise starts.
    pub seed: u64,
    /// Whether `tilewise verify` runs it without `--all`.
    pub core: bool,
}

/// How large q, k and v are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Style {
    /// About normal, variance 1.
    #[default]
    Normal,
    /// Even within ±8.
    Eight,
    /// Queries within ±1e4, so that scores are too.
    Extreme,
    /// Every element the same.
    Equal,
}

/// What a tensor holds.
#[derive(Clone, Debug, PartialEq)]
pub enum Fill {
    /// These numbers, again and again.
    Values(Vec<f64>),
    /// Noise, a third of it minus infinity.
    SomeNegInf,
    /// Noise, a third of it the lowest number of the type.
    SomeLowest,
    /// Document ids in no order.
    Unsorted,
}

/// How tensors lie in their buffers. Most placements leave room behind a tensor's end.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Placement {
    /// Without gaps.
    #[default]
    Dense,
    /// Without gaps, and the buffer ends with them.
    Exact,
    /// Gaps behind rows, heads and batches, all multiples of four elements.
    Aligned,
    /// Odd offsets, odd gaps.
    Odd,
    /// q, k and v are views of one buffer `[batch, seq, q heads then k heads then v heads, dim]`. The layout is `bshd`.
    Packed,
}

impl Case {
    /// A case of f32 attention: batch, q_heads, kv_heads, seq_len_q, seq_len_kv, head_dim. Out and lse are wanted.
    pub(super) fn attention(name: impl Into<String>, extents: [u32; 6]) -> Self {
        let [batch, q_heads, kv_heads, seq_len_q, seq_len_kv, head_dim] = extents;
        Self::new(
            name,
            json!({
                "op": "attention", "batch": batch, "q_heads": q_heads, "kv_heads": kv_heads,
                "seq_len_q": seq_len_q, "seq_len_kv": seq_len_kv, "head_dim": head_dim,
                "outputs": ["out", "lse"],
            }),
        )
    }

    /// A case of f32 neighborhood attention: batch, q_heads, kv_heads, head_dim. Out and lse are wanted.
    pub(super) fn neighborhood(
        name: impl Into<String>,
        [batch, q_heads, kv_heads, head_dim]: [u32; 4],
        spatial: &[u32],
        window: &[u32],
    ) -> Self {
        Self::new(
            name,
            json!({
                "op": "neighborhood", "batch": batch, "q_heads": q_heads, "kv_heads": kv_heads,
                "spatial": spatial, "head_dim": head_dim, "window": window,
                "outputs": ["out", "lse"],
            }),
        )
    }

    /// A case of scores or sums over windows apart, with all its extents in `spec`.
    pub(super) fn slots(name: impl Into<String>, spec: Value) -> Self {
        Self::new(name, spec)
    }

    /// A case of an f32 mixture of experts: tokens, model_dim, experts, expert_dim.
    pub(super) fn moe(
        name: impl Into<String>,
        [tokens, model_dim, experts, expert_dim]: [u32; 4],
    ) -> Self {
        Self::new(
            name,
            json!({
                "op": "moe", "tokens": tokens, "model_dim": model_dim, "experts": experts,
                "expert_dim": expert_dim,
            }),
        )
    }

    /// A case of an f32 matmul: rows, columns, inner.
    pub(super) fn matmul(name: impl Into<String>, [rows, columns, inner]: [u32; 3]) -> Self {
        Self::new(name, json!({"op": "matmul", "rows": rows, "columns": columns, "inner": inner}))
    }

    /// A merge of outs `[parts, batch, heads, seq, dim]`.
    pub(super) fn merge(name: impl Into<String>, dtype: Dtype, outs: [u64; 5]) -> Self {
        Self::new(name, json!({"op": "attention_merge", "dtype": dtype}))
            .tensor("outs", dtype, &outs)
            .tensor("lses", Dtype::F32, &outs[..4])
    }

    fn new(name: impl Into<String>, spec: Value) -> Self {
        Self {
            name: name.into(),
            spec,
            tensors: Vec::new(),
            fills: Vec::new(),
            style: Style::Normal,
            placement: Placement::Dense,
            one_buffer: false,
            kv_splits: None,
            seed: 1,
            core: false,
        }
    }

    /// What stands before the slash of its name.
    pub fn group(&self) -> &str {
        self.name.split('/').next().unwrap_or_default()
    }

    /// Sets fields of the spec.
    #[must_use]
    pub fn with(mut self, fields: &Value) -> Self {
        let fields: Map<String, Value> = fields.as_object().cloned().unwrap_or_default();
        for (field, value) in fields {
            self.spec[field] = value;
        }
        self
    }

    /// The same problem of queries at the end of the keys that see none beyond themselves.
    pub(super) fn causal(self) -> Self {
        self.with(&json!({"mask": {"band": {"right": 0}}}))
    }

    pub(super) fn tensor(mut self, name: &'static str, dtype: Dtype, shape: &[u64]) -> Self {
        self.tensors.push((name, dtype, shape.to_vec()));
        self
    }

    pub(super) fn fill(mut self, name: &'static str, fill: Fill) -> Self {
        self.fills.push((name, fill));
        self
    }

    /// An i32 tensor and what it holds.
    pub(super) fn counts(self, name: &'static str, values: &[i32]) -> Self {
        let fill = Fill::Values(values.iter().map(|&value| f64::from(value)).collect());
        self.tensor(name, Dtype::I32, &[values.len() as u64]).fill(name, fill)
    }

    pub(super) fn style(mut self, style: Style) -> Self {
        self.style = style;
        self
    }

    pub(super) fn place(mut self, placement: Placement) -> Self {
        self.placement = placement;
        self
    }

    pub(super) fn splits(mut self, kv_splits: u32) -> Self {
        self.kv_splits = Some(kv_splits);
        self
    }

    pub(super) fn core(mut self) -> Self {
        self.core = true;
        self
    }

    /// The same case under another name.
    pub(super) fn named(mut self, name: impl Into<String>) -> Self {
        self.name = name.into();
        self
    }
}
