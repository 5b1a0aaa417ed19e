//! Mixtures of experts and matmuls: specs, and tensors beside which they take them.

use super::{OperatorGroups, alone, beside};
use crate::tensor::Dtype::{Bool, F16, F32, I32, U8};

pub(super) const MOE: OperatorGroups = OperatorGroups {
    op: "moe",
    extents: &[
        ("tokens", 11),
        ("model_dim", 64),
        ("experts", 4),
        ("expert_dim", 96),
        ("top_k", 2),
        ("shared_dim", 32),
        ("slots", 3),
        ("capacity", 7),
        ("model_dim / 32", 2),
        ("expert_dim / 32", 3),
        ("model_dim / 32 · 34", 68),
        ("expert_dim / 32 · 34", 102),
    ],
    groups: &[
        beside(
            "",
            r#"{"top_k": 2, "router": {"token_choice": {}}, "activation": "silu_glu", "outputs": ["out", "topk_ids", "topk_weights", "gates", "counts", "expert_offsets", "row_tokens", "pair_rows", "router_logits", "dropped", "load_balancing_loss", "z_loss"]}"#,
            &[
                ("x", F16, &["tokens", "model_dim"]),
                ("router_w", F32, &["experts", "model_dim"]),
                ("w_gate", F16, &["experts", "expert_dim", "model_dim"]),
                ("w_up", F16, &["experts", "expert_dim", "model_dim"]),
                ("w_down", F16, &["experts", "model_dim", "expert_dim"]),
            ],
        ),
        beside(
            "",
            "{}",
            &[
                ("router_b", F32, &["experts"]),
                ("b_gate", F32, &["experts", "expert_dim"]),
                ("b_up", F32, &["experts", "expert_dim"]),
                ("b_down", F32, &["experts", "model_dim"]),
                ("logit_mask", Bool, &["tokens", "experts"]),
                ("token_top_k", I32, &["tokens"]),
                ("correction_bias", F32, &["experts"]),
            ],
        ),
        alone(
            "logits of the caller's, in place of `router_w`",
            r#"{"outputs": ["out"]}"#,
            &[
                ("x", F16, &["tokens", "model_dim"]),
                ("router_logits", F32, &["tokens", "experts"]),
                ("w_gate", F16, &["experts", "expert_dim", "model_dim"]),
                ("w_up", F16, &["experts", "expert_dim", "model_dim"]),
                ("w_down", F16, &["experts", "model_dim", "expert_dim"]),
            ],
        ),
        beside(
            "a shared expert",
            "{}",
            &[
                ("shared_w_gate", F16, &["shared_dim", "model_dim"]),
                ("shared_w_up", F16, &["shared_dim", "model_dim"]),
                ("shared_w_down", F16, &["model_dim", "shared_dim"]),
                ("shared_gate_w", F32, &["1", "model_dim"]),
            ],
        ),
        alone(
            "`router`: `external`",
            r#"{"router": "external", "outputs": ["out"]}"#,
            &[
                ("x", F16, &["tokens", "model_dim"]),
                ("topk_ids", I32, &["tokens", "top_k"]),
                ("topk_weights", F32, &["tokens", "top_k"]),
                ("w_gate", F16, &["experts", "expert_dim", "model_dim"]),
                ("w_up", F16, &["experts", "expert_dim", "model_dim"]),
                ("w_down", F16, &["experts", "model_dim", "expert_dim"]),
            ],
        ),
        alone(
            "`router`: `soft`",
            r#"{"router": {"soft": {"slots": 3}}, "top_k": null, "outputs": ["out", "router_logits"]}"#,
            &[
                ("x", F16, &["tokens", "model_dim"]),
                ("phi", F32, &["experts", "slots", "model_dim"]),
                ("w_gate", F16, &["experts", "expert_dim", "model_dim"]),
                ("w_up", F16, &["experts", "expert_dim", "model_dim"]),
                ("w_down", F16, &["experts", "model_dim", "expert_dim"]),
            ],
        ),
        beside(
            "`router`: `expert_choice`",
            r#"{"router": {"expert_choice": {"capacity": 7}}, "top_k": null, "outputs": ["out", "token_ids", "token_weights"]}"#,
            &[],
        ),
        alone(
            "`weights`: `q8_0` (34 bytes a block), `q4_0` (18), `mxfp4` (17)",
            r#"{"weights": "q8_0"}"#,
            &[
                ("x", F16, &["tokens", "model_dim"]),
                ("router_w", F32, &["experts", "model_dim"]),
                ("w_gate", U8, &["experts", "expert_dim", "model_dim / 32 · 34"]),
                ("w_up", U8, &["experts", "expert_dim", "model_dim / 32 · 34"]),
                ("w_down", U8, &["experts", "model_dim", "expert_dim / 32 · 34"]),
            ],
        ),
        alone(
            "`weights`: `mxfp4`, blocks and scales apart",
            r#"{"weights": "mxfp4"}"#,
            &[
                ("x", F16, &["tokens", "model_dim"]),
                ("router_w", F32, &["experts", "model_dim"]),
                ("w_gate", U8, &["experts", "expert_dim", "model_dim / 32", "16"]),
                ("w_gate_scales", U8, &["experts", "expert_dim", "model_dim / 32"]),
                ("w_up", U8, &["experts", "expert_dim", "model_dim / 32", "16"]),
                ("w_up_scales", U8, &["experts", "expert_dim", "model_dim / 32"]),
                ("w_down", U8, &["experts", "model_dim", "expert_dim / 32", "16"]),
                ("w_down_scales", U8, &["experts", "model_dim", "expert_dim / 32"]),
            ],
        ),
        alone(
            "a shared expert, `weights`: `mxfp4`, blocks and scales apart",
            r#"{"weights": "mxfp4", "outputs": ["out"]}"#,
            &[
                ("x", F16, &["tokens", "model_dim"]),
                ("router_w", F32, &["experts", "model_dim"]),
                ("w_gate", U8, &["experts", "expert_dim", "model_dim / 32", "16"]),
                ("w_gate_scales", U8, &["experts", "expert_dim", "model_dim / 32"]),
                ("w_up", U8, &["experts", "expert_dim", "model_dim / 32", "16"]),
                ("w_up_scales", U8, &["experts", "expert_dim", "model_dim / 32"]),
                ("w_down", U8, &["experts", "model_dim", "expert_dim / 32", "16"]),
                ("w_down_scales", U8, &["experts", "model_dim", "expert_dim / 32"]),
                ("shared_w_gate", U8, &["shared_dim", "model_dim / 32", "16"]),
                ("shared_w_gate_scales", U8, &["shared_dim", "model_dim / 32"]),
                ("shared_w_up", U8, &["shared_dim", "model_dim / 32", "16"]),
                ("shared_w_up_scales", U8, &["shared_dim", "model_dim / 32"]),
                ("shared_w_down", U8, &["model_dim", "1", "16"]),
                ("shared_w_down_scales", U8, &["model_dim", "1"]),
            ],
        ),
    ],
};

pub(super) const MATMUL: OperatorGroups = OperatorGroups {
    op: "matmul",
    extents: &[
        ("rows", 11),
        ("columns", 5),
        ("inner", 64),
        ("inner / 32", 2),
        ("inner / 32 · 34", 68),
    ],
    groups: &[
        beside("", "{}", &[("x", F16, &["rows", "inner"]), ("w", F16, &["columns", "inner"])]),
        beside("", "{}", &[("bias", F32, &["columns"])]),
        alone(
            "`weights`: `q8_0` (34 bytes a block), `q4_0` (18), `mxfp4` (17)",
            r#"{"weights": "q8_0"}"#,
            &[("x", F16, &["rows", "inner"]), ("w", U8, &["columns", "inner / 32 · 34"])],
        ),
        alone(
            "`weights`: `mxfp4`, blocks and scales apart",
            r#"{"weights": "mxfp4"}"#,
            &[
                ("x", F16, &["rows", "inner"]),
                ("w", U8, &["columns", "inner / 32", "16"]),
                ("w_scales", U8, &["columns", "inner / 32"]),
            ],
        ),
    ],
};
