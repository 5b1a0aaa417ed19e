//! Matmuls: every format of weights with few rows and with many, biases, and rows that lie apart.

use serde_json::{Value, json};

use crate::tensor::Dtype::{F16, F32, U8};
use crate::verify::case::{Case, Placement};

pub(super) fn cases() -> Vec<Case> {
    [formats(), rounded(), shapes()].concat()
}

/// Rows, columns, inner dims.
fn sized(name: &str, [rows, columns, inner]: [u32; 3], fields: &Value) -> Case {
    Case::matmul(format!("matmul/{name}"), [rows, columns, inner]).with(fields)
}

/// One row, a few, and more than a tile: of 4 blocks a row, and of 3, which start at odd places.
fn formats() -> Vec<Case> {
    let mut cases = Vec::new();
    for weights in ["f32", "f16", "bf16", "q8_0", "q4_0", "mxfp4"] {
        let fields = json!({"weights": weights});
        for (rows, inner) in [(1, 128), (3, 96), (70, 96), (70, 128)] {
            let case = sized(&format!("{weights}_{rows}x{inner}"), [rows, 37, inner], &fields);
            cases.push(if rows == 3 { case } else { case.core() });
        }
    }
    for rows in [1, 70] {
        let pair =
            sized(&format!("mxfp4_pair_{rows}"), [rows, 37, 96], &json!({"weights": "mxfp4"}));
        cases.push(pair.tensor("w", U8, &[37, 3, 16]).tensor("w_scales", U8, &[37, 3]).core());
    }
    cases
}

/// Activations rounded to bytes: blocks that a chunk of two divides and that it does not.
fn rounded() -> Vec<Case> {
    let mut cases = Vec::new();
    for weights in ["q8_0", "q4_0", "mxfp4"] {
        let fields = json!({"weights": weights, "quantise_activations": "mxint8"});
        for (rows, inner) in [(1, 128), (70, 96), (70, 128)] {
            let name = format!("mxint8_{weights}_{rows}x{inner}");
            cases.push(sized(&name, [rows, 37, inner], &fields).core());
        }
    }
    let pair = json!({"dtype": "f16", "weights": "mxfp4", "quantise_activations": "mxint8"});
    let case = sized("mxint8_f16_mxfp4_pair", [70, 37, 96], &pair);
    cases.push(case.tensor("w", U8, &[37, 3, 16]).tensor("w_scales", U8, &[37, 3]).core());
    cases
}

fn shapes() -> Vec<Case> {
    let f32 = json!({});
    let f16 = json!({"dtype": "f16"});
    vec![
        sized("bias", [20, 30, 24], &f32).tensor("bias", F32, &[30]).core(),
        sized("f16_bias", [20, 30, 24], &f16).tensor("bias", F16, &[30]).core(),
        sized("f16_out_f32", [9, 17, 40], &json!({"dtype": "f16", "out_dtype": "f32"})),
        sized("bf16_q8_0", [5, 64, 64], &json!({"dtype": "bf16", "weights": "q8_0"})),
        sized("f16_q4_0", [1, 64, 64], &json!({"dtype": "f16", "weights": "q4_0"})).core(),
        sized("odd", [35, 67, 41], &f32).place(Placement::Odd).core(),
        sized("f16_odd", [3, 67, 41], &f16).place(Placement::Odd),
        sized("exact", [3, 5, 7], &f32).place(Placement::Exact),
        sized("aligned", [65, 64, 32], &f32).place(Placement::Aligned),
        sized("no_row", [0, 5, 7], &f32),
        sized("one", [1, 1, 1], &f32),
    ]
}
