//! The text that reads rows of numbers, and single elements.

use super::access::Access;
use super::reads::Reads;
use super::template::template;
use crate::tensor::Dtype;

/// The element type of a binding of rows.
pub(super) fn row_element(dtype: Dtype, access: Access) -> &'static str {
    match (dtype.bytes(), access) {
        (2, Access::Vec4) => "vec2<u32>",
        (2, Access::Scalar) => "u32",
        (_, Access::Vec4) => "vec4<f32>",
        (_, Access::Scalar) => "f32",
    }
}

/// The element type of a binding that is read so.
pub(super) fn element(dtype: Dtype, access: Access, reads: Reads) -> &'static str {
    match reads {
        Reads::Units { vectors: 2 } => "vec4<u32>",
        Reads::Halves if in_half_vectors(dtype, access) => "vec4<f16>",
        _ => row_element(dtype, access),
    }
}

/// Functions that read rows.
pub(super) fn text(name: &str, dtype: Dtype, access: Access, reads: Reads) -> String {
    let load4 = || vectors(name, dtype, access, reads);
    match reads {
        Reads::Rows { .. } | Reads::Vectors | Reads::Runs { .. } | Reads::Blocks => load4(),
        Reads::Halves if in_half_vectors(dtype, access) => {
            template!("kernel/inner_halves.wgsl", "NAME" = name)
        }
        Reads::Halves => {
            load4()
                + &format!(
                    "fn {name}_half4(offset: u32, d: u32) -> vec4<f16> {{ return vec4<f16>({name}_load4(offset, d)); }}\n"
                )
        }
        Reads::Units { vectors: 2 } => template!(
            "kernel/unit_halves.wgsl",
            "FIRST_HALF" = vector_of(dtype, "raw.xy"),
            "SECOND_HALF" = vector_of(dtype, "raw.zw"),
            "NAME" = name,
        ),
        Reads::Units { .. } => load4() + &template!("kernel/unit_vectors.wgsl", "NAME" = name),
    }
}

/// Whether rows lie as vectors of four halves.
fn in_half_vectors(dtype: Dtype, access: Access) -> bool {
    dtype == Dtype::F16 && access == Access::Vec4
}

/// `NAME_load4(offset, d)`.
fn vectors(name: &str, dtype: Dtype, access: Access, reads: Reads) -> String {
    match (access, reads) {
        (Access::Vec4, Reads::Rows { dim, asked }) => row_vectors(name, dtype, dim, asked),
        (Access::Vec4, _) => template!(
            "kernel/inner_vectors.wgsl",
            "NUMBERS" = vector_of(dtype, "word"),
            "NAME" = name,
        ),
        (Access::Scalar, _) => template!(
            "kernel/row_elements.wgsl",
            "LAST_DIM" = match reads {
                Reads::Rows { dim, .. } => format!("{}u", dim - 1),
                _ => format!("{} - 1u", reads.dims()),
            },
            "ELEMENT" = element_at(name, dtype, "i"),
            "DIMS" = reads.dims(),
            "NAME" = name,
        ),
    }
}

/// The same by aligned vectors of rows of `dim` elements, of which `asked` are asked for.
fn row_vectors(name: &str, dtype: Dtype, dim: u32, asked: u32) -> String {
    let (place, kept) = if asked > dim {
        (format!("min(d, {}u)", dim - 4), format!("select(vec4(0.0), value, d < {dim}u)"))
    } else {
        ("d".to_owned(), "value".to_owned())
    };
    template!(
        "kernel/row_vectors.wgsl",
        "VECTOR_DIM" = place,
        "NUMBERS" = vector_of(dtype, "word"),
        "KEPT" = kept,
        "NAME" = name,
    )
}

/// Four numbers of a vector of words, two where numbers are of 16 bits.
fn vector_of(dtype: Dtype, words: &str) -> String {
    match dtype {
        Dtype::F16 => format!("vec4(unpack2x16float({words}.x), unpack2x16float({words}.y))"),
        Dtype::Bf16 => format!(
            "bitcast<vec4<f32>>(vec4({words}.x << 16u, {words}.x & 0xffff0000u, {words}.y << 16u, {words}.y & 0xffff0000u))"
        ),
        _ => words.to_owned(),
    }
}

/// An expression for element `index` of `name`.
pub(crate) fn element_at(name: &str, dtype: Dtype, index: &str) -> String {
    match dtype {
        Dtype::F32 | Dtype::I32 => format!("{name}[{index}]"),
        Dtype::F16 => {
            format!("unpack2x16float({name}[{index} >> 1u] >> (16u * ({index} & 1u))).x")
        }
        Dtype::Bf16 => {
            format!("bitcast<f32>(({name}[{index} >> 1u] >> (16u * ({index} & 1u))) << 16u)")
        }
        Dtype::Bool => {
            format!("(({name}[{index} >> 2u] >> (8u * ({index} & 3u))) & 0xffu) != 0u")
        }
        Dtype::U8 => format!("f32(({name}[{index} >> 2u] >> (8u * ({index} & 3u))) & 0xffu)"),
    }
}
