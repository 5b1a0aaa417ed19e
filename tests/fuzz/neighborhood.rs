//! Neighborhood attention, and its halves.

use serde_json::{Value, json};
use tilewise::tensor::{Dtype, TensorDesc, TensorDescs};

use crate::draw::{Asked, Draw};

/// An axis: extent, and the fields of its window.
struct Axis {
    extent: u64,
    window: u64,
    stride: u64,
    group_offset: u64,
    dilation: u64,
    causal: bool,
}

fn axis(draw: &mut Draw<'_>, most: u32) -> Axis {
    let extent = draw.extent(most);
    let below =
        |draw: &mut Draw<'_>, most: u64| 1 + u64::from(draw.below(most.clamp(1, 1 << 30) as u32));
    // Some reach beyond the extent: causal and clipped ones may.
    let beyond = draw.once_in(8);
    let most = if beyond { extent.saturating_add(5) } else { extent };
    let window = if draw.once_in(12) { draw.extent(9) } else { below(draw, most.min(13)) };
    let stride = if draw.once_in(3) { below(draw, window) } else { 1 };
    let most = if beyond { most } else { extent / window.max(1) };
    let dilation = if draw.once_in(3) { below(draw, most) } else { 1 };
    let group_offset = if draw.once_in(4) { below(draw, stride) - 1 } else { 0 };
    Axis { extent, window, stride, group_offset, dilation, causal: draw.once_in(4) }
}

fn axes(draw: &mut Draw<'_>) -> Vec<Axis> {
    let rank = 1 + draw.below(3);
    let most = [60, 14, 8][rank as usize - 1];
    (0..rank).map(|_| axis(draw, most)).collect()
}

fn windows(draw: &mut Draw<'_>, axes: &[Axis]) -> Value {
    let list = |of: fn(&Axis) -> u64| axes.iter().map(of).collect::<Vec<_>>();
    let causal: Vec<bool> = axes.iter().map(|axis| axis.causal).collect();
    let border = draw.pick(&["shift", "shift", "clip"]);
    json!({
        "window": list(|axis| axis.window), "stride": list(|axis| axis.stride),
        "group_offset": list(|axis| axis.group_offset), "dilation": list(|axis| axis.dilation),
        "causal": causal, "border": border,
    })
}

fn over(axes: &[Axis], batch: u64, tail: [u64; 2]) -> Vec<u64> {
    let spatial = axes.iter().map(|axis| axis.extent);
    [batch].into_iter().chain(spatial).chain(tail).collect()
}

pub fn fused(draw: &mut Draw<'_>) -> Asked {
    let (axes, dtype) = (axes(draw), draw.float());
    let (batch, kv_heads, group) = (draw.extent(3), draw.extent(3), draw.extent(3));
    let (q_heads, dim) = (kv_heads.saturating_mul(group), draw.extent(70));
    let value_dim = if draw.once_in(3) { draw.extent(90) } else { dim };
    let mut tensors = TensorDescs::new();
    for (name, heads, dim) in
        [("q", q_heads, dim), ("k", kv_heads, dim), ("v", kv_heads, value_dim)]
    {
        tensors.insert(name.to_owned(), draw.tensor(dtype, &over(&axes, batch, [heads, dim])));
    }
    let mut spec = windows(draw, &axes);
    spec["op"] = json!("neighborhood");
    spec["dtype"] = json!(dtype);
    spec["outputs"] = draw.pick(&[json!(["out"]), json!(["out", "lse"]), json!(["lse"])]);
    if draw.once_in(4) {
        let extra = draw.extent(20);
        for (name, dim) in [("extra_k", dim), ("extra_v", value_dim)] {
            tensors.insert(name.to_owned(), draw.tensor(dtype, &[batch, extra, kv_heads, dim]));
        }
    }
    if draw.once_in(5) {
        let of_head = |draw: &mut Draw<'_>| {
            let side = |axis: &Axis| {
                let most = axis.window.saturating_sub(axis.stride).min(99) as u32 + 1;
                axis.stride + u64::from(draw.below(most))
            };
            axes.iter().map(side).collect::<Vec<_>>()
        };
        spec["head_windows"] =
            (0..q_heads.min(99)).map(|_| of_head(draw)).collect::<Vec<_>>().into();
        spec["window"] = json!([]);
    }
    let token = ["u32", "vec2<u32>", "vec3<u32>"][axes.len() - 1];
    let first = |of: &str| if axes.len() == 1 { of.to_owned() } else { format!("{of}.x") };
    if draw.once_in(4) {
        let text = format!("({} + {}) % 3u != h", first("q"), first("kv"));
        spec["mask"] = json!({"wgsl": format!("fn mask_mod(b: u32, h: u32, q: {token}, kv: {token}) -> bool {{ return {text}; }}")});
    }
    if draw.once_in(3) {
        tensors.insert("gains".to_owned(), TensorDesc::contiguous(dtype, &[draw.extent(6)]));
        let text = format!("score * gains[{} % 2u]", first("kv"));
        spec["score"] = json!([{"softcap": 20.0}, {"wgsl": format!("fn score_mod(score: f32, b: u32, h: u32, q: {token}, kv: {token}) -> f32 {{ return {text}; }}"), "aux": ["gains"]}]);
    }
    Asked { spec, tensors }
}

pub fn halves(draw: &mut Draw<'_>) -> Asked {
    let (axes, dtype) = (axes(draw), draw.float());
    let (batch, kv_heads, group) = (draw.extent(3), draw.extent(3), draw.extent(3));
    let (q_heads, dim) = (kv_heads.saturating_mul(group), draw.extent(70));
    let slots = axes.iter().fold(1_u64, |slots, axis| slots.saturating_mul(axis.window));
    let mut spec = windows(draw, &axes);
    spec["dtype"] = json!(dtype);
    let mut tensors = TensorDescs::new();
    let mut add = |name: &str, desc: TensorDesc| tensors.insert(name.to_owned(), desc);
    if draw.once_in(2) {
        spec["op"] = json!("neighborhood_scores");
        add("q", draw.tensor(dtype, &over(&axes, batch, [q_heads, dim])));
        add("k", draw.tensor(dtype, &over(&axes, batch, [kv_heads, dim])));
        if !draw.small && draw.once_in(3) {
            add("scores", draw.tensor(Dtype::F32, &over(&axes, batch, [q_heads, slots])));
        }
    } else {
        spec["op"] = json!("neighborhood_aggregate");
        let weights = if draw.once_in(2) { dtype } else { Dtype::F32 };
        add("weights", draw.tensor(weights, &over(&axes, batch, [q_heads, slots])));
        add("v", draw.tensor(dtype, &over(&axes, batch, [kv_heads, dim])));
    }
    Asked { spec, tensors }
}
