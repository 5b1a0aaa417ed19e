//! Mixtures of experts, with every router.

use serde_json::{Value, json};
use tilewise::tensor::{Dtype, TensorDesc, TensorDescs};

use crate::draw::{Asked, Draw};
use crate::matmul::{format, weights};

const OUTPUTS: [&str; 13] = [
    "counts",
    "topk_ids",
    "topk_weights",
    "expert_offsets",
    "row_tokens",
    "pair_rows",
    "dropped",
    "router_logits",
    "gates",
    "load_balancing_loss",
    "z_loss",
    "token_ids",
    "token_weights",
];

fn token_choice(draw: &mut Draw<'_>, choices: u64) -> Value {
    let mut choice = json!({
        "score": draw.pick(&["softmax", "sigmoid", "sqrt_softplus", "logit"]),
        "weight": draw.pick(&["score", "renormalized", "softmax", "sigmoid"]),
    });
    if draw.once_in(4) {
        let count = draw.pick(&[1, 2, 4, choices.min(1024), 3, 0]);
        let by = draw.pick(&["max", "top2_sum"]);
        choice["groups"] = json!({"count": count, "keep": 1 + u64::from(draw.below(3)), "by": by});
    }
    choice
}

/// Experts of weights, all choices, and the range of experts that are here.
struct Experts {
    here: [u64; 2],
    all: u64,
    choices: u64,
}

pub fn mixture(draw: &mut Draw<'_>) -> Asked {
    let dtype = draw.float();
    let format = format(draw, dtype);
    let whole = if format.1 == Dtype::U8 && !draw.once_in(9) { 32 } else { 1 };
    let tokens = draw.extent(50);
    let [model_dim, expert_dim] =
        [draw.extent(40), draw.extent(40)].map(|dim| dim.saturating_mul(whole));
    let all = draw.extent(9);
    let mut spec = json!({"op": "moe", "dtype": dtype, "weights": format.0});
    let nulls = if draw.once_in(5) {
        [u64::from(draw.below(3)), draw.extent(3) % (1 << 32)]
    } else {
        [0, 0]
    };
    spec["null_experts"] = json!({"zero": nulls[0], "identity": nulls[1]});
    let mut experts =
        Experts { here: [0, all], all, choices: all.saturating_add(nulls[0] + nulls[1]) };
    if draw.once_in(5) {
        let start = u64::from(draw.below(all.clamp(1, 1 << 30) as u32));
        experts.here = [start, start + draw.extent(4).min(1 << 30)];
        spec["expert_range"] = json!(experts.here);
        spec["experts"] = json!(all);
    }
    let mut tensors = TensorDescs::new();
    tensors.insert("x".to_owned(), draw.tensor(dtype, &[tokens, model_dim]));
    router(draw, (&mut spec, &mut tensors), [tokens, model_dim], &experts, dtype);
    layer(draw, (&mut spec, &mut tensors), [model_dim, expert_dim], &experts, (format, dtype));
    let mut outputs = vec!["out"];
    if draw.once_in(8) {
        outputs.clear();
    }
    outputs.extend((0..draw.below(3)).map(|_| draw.pick(&OUTPUTS)));
    outputs.dedup();
    spec["outputs"] = json!(outputs);
    Asked { spec, tensors }
}

fn router(
    draw: &mut Draw<'_>,
    (spec, tensors): (&mut Value, &mut TensorDescs),
    [tokens, model_dim]: [u64; 2],
    experts: &Experts,
    dtype: Dtype,
) {
    let choices = experts.choices;
    let mut add = |name: &str, desc: TensorDesc| tensors.insert(name.to_owned(), desc);
    let kind = draw.below(6);
    let top_k = 1 + u64::from(draw.below(choices.clamp(1, 5) as u32));
    match kind {
        3 => {
            spec["router"] = json!("external");
            let top_k = draw.extent(4);
            add("topk_ids", draw.tensor(Dtype::I32, &[tokens, top_k]));
            add("topk_weights", draw.tensor(Dtype::F32, &[tokens, top_k]));
        }
        4 => {
            let slots = draw.extent(4) % (1 << 32);
            spec["router"] = json!({"soft": {"slots": slots}});
            add("phi", draw.tensor(dtype, &[experts.all, slots, model_dim]));
        }
        5 => {
            let capacity = 1 + u64::from(draw.below(tokens.clamp(1, 1 << 30) as u32));
            spec["router"] = json!({"expert_choice": {"capacity": capacity}});
            add("router_w", draw.tensor(dtype, &[choices, model_dim]));
        }
        _ => {
            spec["router"] = json!({"token_choice": token_choice(draw, choices)});
            spec["top_k"] =
                json!(if draw.once_in(9) { draw.extent(40) % (1 << 32) } else { top_k });
            if draw.once_in(4) {
                add("router_logits", draw.tensor(Dtype::F32, &[tokens, choices]));
            } else {
                add("router_w", draw.tensor(dtype, &[choices, model_dim]));
            }
            if draw.once_in(4) {
                add("correction_bias", draw.tensor(Dtype::F32, &[choices]));
            }
        }
    }
    if kind <= 3 && draw.once_in(6) {
        add("token_top_k", TensorDesc::contiguous(Dtype::I32, &[tokens]));
    }
    if kind != 3 && draw.once_in(6) {
        add("logit_mask", draw.tensor(Dtype::Bool, &[tokens, choices]));
    }
    if kind < 4 && draw.once_in(4) {
        let priority = draw.pick(&["token_order", "choice_order", "score", "best_score"]);
        let sequences = if draw.once_in(3) { draw.extent(3) % (1 << 32) } else { 1 };
        let rows = draw.extent(9) % (1 << 32);
        spec["capacity"] = json!({"rows": rows, "sequences": sequences, "priority": priority});
    }
}

fn layer(
    draw: &mut Draw<'_>,
    (spec, tensors): (&mut Value, &mut TensorDescs),
    [model_dim, expert_dim]: [u64; 2],
    experts: &Experts,
    (format, dtype): ((&str, Dtype), Dtype),
) {
    let activation = draw.pick(&["silu_glu", "gelu_glu", "relu", "gelu_tanh"]);
    spec["activation"] = json!(activation);
    if draw.once_in(4) {
        spec["weight_on"] = json!("input");
    }
    if draw.once_in(3) {
        spec["out_dtype"] = json!("f32");
    }
    if format.1 == Dtype::U8 && draw.once_in(3) {
        spec["quantise_activations"] = json!("mxint8");
    }
    let (gated, here) =
        (activation.ends_with("glu"), experts.here[1].saturating_sub(experts.here[0]));
    let shared = draw.once_in(4).then(|| if format.1 == Dtype::U8 { 64 } else { draw.extent(30) });
    let mut matrices = vec![
        ("w_up", vec![here, expert_dim, model_dim]),
        ("w_down", vec![here, model_dim, expert_dim]),
    ];
    if gated {
        matrices.push(("w_gate", vec![here, expert_dim, model_dim]));
    }
    if let Some(dim) = shared {
        matrices.push(("shared_w_up", vec![dim, model_dim]));
        matrices.push(("shared_w_down", vec![model_dim, dim]));
        if gated {
            matrices.push(("shared_w_gate", vec![dim, model_dim]));
        }
        if draw.once_in(3) {
            tensors
                .insert("shared_gate_w".to_owned(), TensorDesc::contiguous(dtype, &[1, model_dim]));
        }
    }
    for (name, shape) in matrices {
        tensors.extend(weights(draw, format, name, &shape));
    }
    if draw.once_in(3) {
        tensors.insert("b_up".to_owned(), draw.tensor(Dtype::F32, &[here, expert_dim]));
        tensors.insert("b_down".to_owned(), draw.tensor(dtype, &[here, model_dim]));
    }
}
