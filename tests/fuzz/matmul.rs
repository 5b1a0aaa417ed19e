//! Matmuls, with weights as numbers and in blocks.

use serde_json::json;
use tilewise::tensor::{Dtype, TensorDesc, TensorDescs};

use crate::draw::{Asked, Draw};

/// The tensors of weights `[…, inner]` in a format.
pub fn weights(
    draw: &mut Draw<'_>,
    (format, dtype): (&str, Dtype),
    name: &str,
    shape: &[u64],
) -> Vec<(String, TensorDesc)> {
    let (inner, outer) = shape.split_last().expect("weights have an inner axis");
    let blocks = inner / 32;
    let bytes = match format {
        "q8_0" => 34,
        "q4_0" => 18,
        "mxfp4" if draw.once_in(2) => {
            let pair =
                [([outer, &[blocks, 16]].concat(), ""), ([outer, &[blocks]].concat(), "_scales")];
            let desc = |shape: &[u64]| TensorDesc::contiguous(Dtype::U8, shape);
            return pair.map(|(shape, suffix)| (format!("{name}{suffix}"), desc(&shape))).into();
        }
        "mxfp4" => 17,
        _ => return vec![(name.to_owned(), draw.tensor(dtype, shape))],
    };
    let shape = [outer, &[blocks.saturating_mul(bytes)]].concat();
    vec![(name.to_owned(), draw.tensor(Dtype::U8, &shape))]
}

/// A format's name, and the element type of its numbers.
pub fn format(draw: &mut Draw<'_>, dtype: Dtype) -> (&'static str, Dtype) {
    match draw.below(8) {
        0..3 => (
            ["f32", "f16", "bf16"][[Dtype::F32, Dtype::F16, Dtype::Bf16]
                .iter()
                .position(|known| *known == dtype)
                .unwrap_or(0)],
            dtype,
        ),
        3 => ("f16", Dtype::F16),
        4 => ("bf16", Dtype::Bf16),
        5 => ("q8_0", Dtype::U8),
        6 => ("q4_0", Dtype::U8),
        _ => ("mxfp4", Dtype::U8),
    }
}

pub fn matmul(draw: &mut Draw<'_>) -> Asked {
    let dtype = draw.float();
    let format = format(draw, dtype);
    let (rows, columns) = (draw.extent(90), draw.extent(140));
    let mut inner = draw.extent(130);
    if format.1 == Dtype::U8 && !draw.once_in(9) {
        inner = inner.saturating_mul(32);
    }
    let mut spec = json!({"op": "matmul", "dtype": dtype, "weights": format.0});
    let mut tensors: TensorDescs =
        weights(draw, format, "w", &[columns, inner]).into_iter().collect();
    tensors.insert("x".to_owned(), draw.tensor(dtype, &[rows, inner]));
    if draw.once_in(3) {
        tensors.insert("bias".to_owned(), draw.tensor(Dtype::F32, &[columns]));
    }
    if draw.once_in(3) {
        spec["out_dtype"] = json!("f32");
    } else if draw.once_in(4) && !draw.small {
        tensors.insert("out".to_owned(), draw.tensor(dtype, &[rows, columns]));
    }
    if draw.once_in(3) && format.1 == Dtype::U8 {
        spec["quantise_activations"] = json!("mxint8");
    }
    Asked { spec, tensors }
}
