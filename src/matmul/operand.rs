//! What a matmul multiplies: matrices as they lie in memory, and the text that reads them as numbers.

use crate::gpu::recording::Bound;
use crate::kernel::blocks::{
    BLOCK_VECTORS, block_reader, bytes_reader, pair_reader, run_reader, take_reader, unit_reader,
};
use crate::kernel::reads::Reads;
use crate::kernel::source::{Access, KernelSource, add_fragment, element_at};
use crate::tensor::{BLOCK, Dtype, WeightFormat};

/// A matrix, or one an expert, with unit stride along the inner dims. Strides and offsets are in elements, in bytes
/// where it is in blocks.
pub(crate) struct Operand {
    pub bound: Bound,
    /// Where element 0 lies.
    pub first: u32,
    pub format: WeightFormat,
    /// Halves hold its numbers: it is f16, or what plain implementations store as f16.
    pub halves: bool,
    pub access: Access,
    pub row_stride: u32,
    /// From one expert's matrix to the next.
    pub expert_stride: u32,
    /// The scales of mxfp4 where they are a tensor of their own, and where the first lies.
    pub scales: Option<(Bound, u32)>,
}

impl Operand {
    /// Vectors that are best read at once: 16 bytes, a block, two that start at whole words together, or as much as
    /// alignment allows.
    pub fn unit_vectors(&self, inner: u32) -> u32 {
        let starts_at = |n: u32| {
            [self.first, self.row_stride, self.expert_stride].iter().all(|at| at.is_multiple_of(n))
        };
        match self.format {
            WeightFormat::Q4_0 if inner.is_multiple_of(64) && starts_at(4) => 2 * BLOCK_VECTORS,
            WeightFormat::Q8_0 | WeightFormat::Q4_0 | WeightFormat::Mxfp4 => BLOCK_VECTORS,
            WeightFormat::F16 | WeightFormat::Bf16 if inner.is_multiple_of(8) && starts_at(8) => 2,
            _ => 1,
        }
    }

    /// Vectors that lanes of a workgroup tile read at once, of `share` that each has of a chunk: as many as lie in a
    /// block's neighbouring words.
    pub fn run_vectors(&self, share: u32, chunk: u32, inner: u32) -> u32 {
        let whole = chunk.is_multiple_of(BLOCK as u32) && inner.is_multiple_of(chunk);
        let in_blocks = self.format.blocks().is_some() && whole;
        if in_blocks && share >= 2 { 1 << share.min(BLOCK_VECTORS).ilog2() } else { 1 }
    }

    /// Whether the numbers in a word of a block lie 16 apart, in two lots of four.
    pub fn spreads(&self) -> bool {
        match self.format {
            WeightFormat::Q4_0 => true,
            WeightFormat::Mxfp4 => self.scales.is_none(),
            _ => false,
        }
    }

    /// Whether it lies as vectors of four halves.
    fn in_half_vectors(&self) -> bool {
        self.format == WeightFormat::F16 && self.access == Access::Vec4
    }

    /// Whether blocks can be read by whole vectors, the last one too.
    fn is_wide(&self) -> bool {
        self.bound.size.is_multiple_of(16)
    }

    fn element(&self, reads: Reads) -> &'static str {
        match (self.format.blocks(), reads) {
            (Some(_), Reads::Units { .. }) if self.scales.is_some() || self.is_wide() => {
                "vec4<u32>"
            }
            (Some(_), _) => "u32",
            (None, Reads::Units { vectors: 2 }) => "vec4<u32>",
            (None, Reads::Halves) if self.in_half_vectors() => "vec4<f16>",
            (None, _) => KernelSource::row_element(self.format.dtype(), self.access),
        }
    }

    /// Binds it as `name`, with its readers.
    pub fn bind(&self, source: &mut KernelSource, name: &str, reads: Reads) {
        source.bind(name, self.element(reads), false, self.bound.clone());
        source.params.u32(format!("{name}_first"), self.first);
        source.params.u32(format!("{name}_stride"), self.row_stride);
        let text = match (self.format.blocks(), reads) {
            (Some(format), reads) => {
                add_fragment!(source, "matmul/blocks.wgsl");
                if let Some((bound, first)) = &self.scales {
                    source.bind(&format!("{name}_scales"), "u32", false, bound.clone());
                    source.params.u32(format!("{name}_scales_first"), *first);
                    pair_reader(name, reads)
                } else {
                    match reads {
                        Reads::Vectors | Reads::Halves => block_reader(name, format),
                        Reads::Runs { vectors } => {
                            take_reader(name, format, vectors) + &run_reader(name, format, vectors)
                        }
                        Reads::Blocks => {
                            take_reader(name, format, BLOCK_VECTORS) + &bytes_reader(name, format)
                        }
                        Reads::Units { vectors } => {
                            unit_reader(name, format, vectors / BLOCK_VECTORS, self.is_wide())
                        }
                    }
                }
            }
            (None, Reads::Vectors | Reads::Runs { .. } | Reads::Blocks) => {
                plain_reader(name, self.format.dtype(), self.access)
            }
            (None, Reads::Halves) if self.in_half_vectors() => half_reader(name),
            (None, Reads::Halves) => {
                let load4 = plain_reader(name, self.format.dtype(), self.access);
                format!(
                    "{load4}fn {name}_half4(offset: u32, d: u32) -> vec4<f16> {{ return vec4<f16>({name}_load4(offset, d)); }}\n"
                )
            }
            (None, Reads::Units { vectors: 2 }) => {
                let half = |word: &str| halves(self.format.dtype(), &format!("raw.{word}"));
                format!(
                    "fn {name}_raw(offset: u32, unit: u32) -> Raw {{ return {name}[offset / 8u + unit]; }}\n\
                     fn {name}_vector(raw: Raw, v: u32) -> vec4<f32> {{\n    if (v == 0u) {{ return {}; }}\n    return {};\n}}\n",
                    half("xy"),
                    half("zw")
                )
            }
            (None, Reads::Units { .. }) => {
                let load4 = plain_reader(name, self.format.dtype(), self.access);
                format!(
                    "{load4}fn {name}_raw(offset: u32, unit: u32) -> Raw {{ return {name}_load4(offset, 4u * unit); }}\n\
                     fn {name}_vector(raw: Raw, v: u32) -> vec4<f32> {{ return raw; }}\n"
                )
            }
        };
        source.accessor(&text);
    }
}

/// Four numbers of two words.
fn halves(dtype: Dtype, words: &str) -> String {
    match dtype {
        Dtype::F16 => format!("vec4(unpack2x16float({words}.x), unpack2x16float({words}.y))"),
        _ => format!(
            "bitcast<vec4<f32>>(vec4({words}.x << 16u, {words}.x & 0xffff0000u, {words}.y << 16u, {words}.y & 0xffff0000u))"
        ),
    }
}

/// The vector at d of a row, zero from `params.inner` on; `INNER_WHOLE`: nothing from there on is asked for.
const VECTOR_AT: &str = "offset / 4u + select(min(d, params.inner - 4u), d, INNER_WHOLE) / 4u";

/// Halves as they lie.
fn half_reader(name: &str) -> String {
    format!(
        "fn {name}_half4(offset: u32, d: u32) -> vec4<f16> {{\n    let word = {name}[{VECTOR_AT}];\n    return select(vec4<f16>(), word, INNER_WHOLE || d < params.inner);\n}}\n\
         fn {name}_load4(offset: u32, d: u32) -> vec4<f32> {{ return vec4<f32>({name}_half4(offset, d)); }}\n"
    )
}

fn plain_reader(name: &str, dtype: Dtype, access: Access) -> String {
    if access == Access::Vec4 {
        let value = if dtype == Dtype::F32 { "word".to_owned() } else { halves(dtype, "word") };
        return format!(
            "fn {name}_load4(offset: u32, d: u32) -> vec4<f32> {{\n    let word = {name}[{VECTOR_AT}];\n    return select(vec4(0.0), {value}, INNER_WHOLE || d < params.inner);\n}}\n"
        );
    }
    let at = element_at(name, dtype, "i");
    format!(
        "fn {name}_at(offset: u32, d: u32) -> f32 {{\n    let i = offset + min(d, params.inner - 1u);\n    return select(0.0, {at}, d < params.inner);\n}}\n\
         fn {name}_load4(offset: u32, d: u32) -> vec4<f32> {{\n    return vec4({name}_at(offset, d), {name}_at(offset, d + 1u), {name}_at(offset, d + 2u), {name}_at(offset, d + 3u));\n}}\n"
    )
}
