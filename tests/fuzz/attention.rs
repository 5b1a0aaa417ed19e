//! Attention and merges.

use serde_json::{Value, json};
use tilewise::tensor::{Dtype, TensorDesc, TensorDescs};

use crate::draw::{Asked, Draw, named};

/// Extents of batch, heads of queries and keys, queries, keys, dims of keys and values.
struct Extents {
    batch: u64,
    q_heads: u64,
    kv_heads: u64,
    queries: u64,
    keys: u64,
    head_dim: u64,
    value_dim: u64,
}

fn extents(draw: &mut Draw<'_>) -> Extents {
    let kv_heads = draw.extent(4);
    let head_dim = draw.extent(72);
    Extents {
        batch: draw.extent(4),
        q_heads: kv_heads.saturating_mul(draw.extent(4)),
        kv_heads,
        queries: draw.extent(90),
        keys: draw.extent(150),
        head_dim,
        value_dim: if draw.once_in(3) { draw.extent(90) } else { head_dim },
    }
}

/// Extra inputs that a spec names, and the number of those so far.
struct Sides<'a> {
    extents: &'a Extents,
    tensors: &'a mut TensorDescs,
}

impl Sides<'_> {
    fn add(&mut self, desc: TensorDesc) -> String {
        let name = format!("side_{}", self.tensors.len());
        self.tensors.insert(name.clone(), desc);
        name
    }

    /// A table by batch, head, query and key; some axes have one index.
    fn table(&mut self, draw: &mut Draw<'_>, dtype: Dtype, block: [u64; 2]) -> String {
        let e = self.extents;
        let full = [
            e.batch,
            e.q_heads,
            e.queries.div_ceil(block[0].max(1)),
            e.keys.div_ceil(block[1].max(1)),
        ];
        let broadcasts = draw.below(3) > 0;
        let shape: Vec<u64> = full
            .iter()
            .enumerate()
            .map(
                |(axis, extent)| {
                    if axis < 2 && broadcasts || draw.once_in(9) { 1 } else { *extent }
                },
            )
            .collect();
        let desc = if draw.once_in(5) {
            draw.tensor(dtype, &shape)
        } else {
            TensorDesc::contiguous(dtype, &shape)
        };
        self.add(desc)
    }

    fn count(&mut self, draw: &mut Draw<'_>) -> Value {
        match draw.below(4) {
            0 | 1 => draw.extent(40).into(),
            2 => {
                let heads = self.extents.q_heads.min(64);
                (0..heads).map(|_| u64::from(draw.below(50))).collect::<Vec<_>>().into()
            }
            _ => self.add(TensorDesc::contiguous(Dtype::I32, &[self.extents.q_heads])).into(),
        }
    }

    fn mask(&mut self, draw: &mut Draw<'_>, depth: u32) -> Value {
        let e = self.extents;
        match draw.below(if depth > 0 { 13 } else { 9 }) {
            0 | 1 => json!("full"),
            2 => json!({"band": {"right": 0}}),
            3 => json!({"band": {"left": self.count(draw), "right": self.count(draw)}}),
            4 => match draw.once_in(2) {
                true => json!({"prefix": self.add(TensorDesc::contiguous(Dtype::I32, &[e.batch]))}),
                false => json!({"prefix": draw.extent(60)}),
            },
            5 => json!({"sink": self.count(draw)}),
            6 => {
                let ids = [[e.batch, e.queries], [e.batch, e.keys]]
                    .map(|shape| self.add(TensorDesc::contiguous(Dtype::I32, &shape)));
                json!({"documents": {"q": ids[0], "kv": ids[1]}})
            }
            7 => json!({"dense": self.table(draw, Dtype::Bool, [1, 1])}),
            8 => {
                let block = [draw.extent(70), draw.extent(70)];
                json!({"block_sparse": {"block": block, "keep": self.table(draw, Dtype::Bool, block)}})
            }
            9 => {
                let aux =
                    self.add(TensorDesc::contiguous(Dtype::I32, &[1 + draw.extent(9).min(99)]));
                let text =
                    draw.pick(&["q + AUX[kv] > 3u", "AUX[h] > 0", "((q / 5u) ^ kv) % 2u == 0u"]);
                let text = text
                    .replace("q + AUX[kv] > 3u", "AUX[q % 3u] + 2 > i32(kv % 4u)")
                    .replace("AUX", &aux);
                json!({"wgsl": format!("fn mask_mod(b: u32, h: u32, q: u32, kv: u32) -> bool {{ return {text}; }}"), "aux": [aux]})
            }
            10 => {
                let masks: Vec<Value> =
                    (0..e.q_heads.min(8)).map(|_| self.mask(draw, depth - 1)).collect();
                json!({"per_head": masks})
            }
            11 => json!({"not": self.mask(draw, depth - 1)}),
            _ => {
                let masks: Vec<Value> =
                    (0..draw.below(4)).map(|_| self.mask(draw, depth - 1)).collect();
                if draw.once_in(2) { json!({"and": masks}) } else { json!({"or": masks}) }
            }
        }
    }

    fn score(&mut self, draw: &mut Draw<'_>, dtype: Dtype) -> Value {
        let modifier = |sides: &mut Self, draw: &mut Draw<'_>| match draw.below(5) {
            0 | 1 => json!({"softcap": 30.0}),
            2 => {
                json!({"alibi": sides.add(TensorDesc::contiguous(dtype, &[sides.extents.q_heads]))})
            }
            3 => json!({"bias": sides.table(draw, dtype, [1, 1])}),
            _ => {
                let aux = sides.add(TensorDesc::contiguous(dtype, &[1 + draw.extent(5).min(99)]));
                json!({"wgsl": format!("fn score_mod(score: f32, b: u32, h: u32, q: u32, kv: u32) -> f32 {{ return score + {aux}[h % 2u]; }}"), "aux": [aux]})
            }
        };
        let count = draw.below(6) / 2;
        (0..count).map(|_| modifier(self, draw)).collect::<Vec<Value>>().into()
    }
}

/// q, k and v where their storage has them, and what tells it.
fn stored(draw: &mut Draw<'_>, e: &mut Extents, dtype: Dtype, bshd: bool) -> TensorDescs {
    let ordered = |[b, h, s, d]: [u64; 4]| if bshd { [b, s, h, d] } else { [b, h, s, d] };
    let i32s = |shape: &[u64]| TensorDesc::contiguous(Dtype::I32, shape);
    let mut tensors = TensorDescs::new();
    let mut add = |name: &str, desc: TensorDesc| tensors.insert(name.to_owned(), desc);
    match draw.below(8) {
        6 => {
            add("q", draw.tensor(dtype, &[e.queries, e.q_heads, e.head_dim]));
            add("k", draw.tensor(dtype, &[e.keys, e.kv_heads, e.head_dim]));
            add("v", draw.tensor(dtype, &[e.keys, e.kv_heads, e.value_dim]));
            let starts = e.batch.saturating_add(1);
            add("cu_seqlens_q", i32s(&[starts]));
            add("cu_seqlens_kv", i32s(&[starts]));
        }
        7 => {
            let (pages, size) = (draw.extent(9), draw.extent(20));
            add("q", draw.tensor(dtype, &ordered([e.batch, e.q_heads, e.queries, e.head_dim])));
            add("k_pages", draw.tensor(dtype, &[pages, size, e.kv_heads, e.head_dim]));
            add("v_pages", draw.tensor(dtype, &[pages, size, e.kv_heads, e.value_dim]));
            let most = draw.extent(6);
            add("block_table", i32s(&[e.batch, most]));
            add("kv_lens", i32s(&[e.batch]));
            e.keys = most.saturating_mul(size);
        }
        storage => {
            add("q", draw.tensor(dtype, &ordered([e.batch, e.q_heads, e.queries, e.head_dim])));
            add("k", draw.tensor(dtype, &ordered([e.batch, e.kv_heads, e.keys, e.head_dim])));
            add("v", draw.tensor(dtype, &ordered([e.batch, e.kv_heads, e.keys, e.value_dim])));
            if storage >= 4 {
                add("kv_lens", i32s(&[e.batch]));
            }
            if storage == 5 {
                let prefix = draw.extent(40);
                add("prefix_k", draw.tensor(dtype, &[e.kv_heads, prefix, e.head_dim]));
                add("prefix_v", draw.tensor(dtype, &[e.kv_heads, prefix, e.value_dim]));
            }
        }
    }
    tensors
}

pub fn attention(draw: &mut Draw<'_>) -> Asked {
    let mut extents = extents(draw);
    let (dtype, bshd) = (draw.float(), draw.once_in(2));
    let mut tensors = stored(draw, &mut extents, dtype, bshd);
    let (plain, sigmoid) = (draw.once_in(2), draw.once_in(8));
    let mut spec =
        json!({"op": "attention", "dtype": dtype, "layout": if bshd { "bshd" } else { "bhsd" }});
    let outputs = draw.pick(&[json!(["out"]), json!(["out", "lse"]), json!(["lse"]), json!([])]);
    spec["outputs"] = if sigmoid { json!(["out"]) } else { outputs };
    if sigmoid {
        spec["normaliser"] = json!({"sigmoid": {"bias": -1.5}});
    } else if draw.once_in(5) {
        tensors.insert(
            "sink_logits".to_owned(),
            TensorDesc::contiguous(Dtype::F32, &[extents.q_heads]),
        );
    }
    if !plain {
        let mut sides = Sides { extents: &extents, tensors: &mut tensors };
        spec["mask"] = sides.mask(draw, 3);
        spec["score"] = sides.score(draw, dtype);
    }
    if draw.once_in(6) {
        spec["q_offset"] = draw.pick(&[0, 5, -7, 1 << 29, -(1 << 29), i32::MAX, i32::MIN]).into();
    }
    if draw.once_in(6) {
        spec["softmax_scale"] = draw.pick(&[0.0, 1.0, -0.5]).into();
    }
    if draw.once_in(4) {
        spec["out_dtype"] = json!("f32");
    }
    if draw.once_in(8) {
        let Extents { batch, q_heads, queries, .. } = extents;
        let shape = if bshd { [batch, queries, q_heads] } else { [batch, q_heads, queries] };
        tensors.insert("head_gate".to_owned(), draw.tensor(Dtype::F32, &shape));
    }
    if draw.once_in(5) && !draw.small {
        let Extents { batch, q_heads, queries, value_dim, .. } = extents;
        let shape = if bshd {
            [batch, queries, q_heads, value_dim]
        } else {
            [batch, q_heads, queries, value_dim]
        };
        tensors.insert("out".to_owned(), draw.tensor(dtype, &shape));
    }
    Asked { spec, tensors }
}

pub fn merge(draw: &mut Draw<'_>) -> Asked {
    let dtype = draw.float();
    let outs = [draw.extent(4), draw.extent(3), draw.extent(4), draw.extent(40), draw.extent(70)];
    let tensors =
        named([("outs", draw.tensor(dtype, &outs)), ("lses", draw.tensor(Dtype::F32, &outs[..4]))]);
    Asked { spec: json!({"op": "attention_merge", "dtype": dtype}), tensors }
}
