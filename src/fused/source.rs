//! Writes a kernel's header: constants, params, bindings, and the functions that read and write tensors.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::Arc;

use super::unroll::unrolled;
use crate::gpu::recording::{Bound, Slot, Step};
use crate::gpu::shader::{Declared, Params, Part, Proven, Shader};
use crate::tensor::{Dtype, TensorDesc};

/// Adds a fragment to a kernel by its file in `shaders/`.
macro_rules! add_fragment {
    ($source:expr, $file:literal) => {
        $source
            .fragment($file, include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/shaders/", $file)))
    };
}
pub(crate) use add_fragment;

/// A kernel being put together; [`KernelSource::step`] closes it.
#[derive(Default)]
pub(crate) struct KernelSource {
    enables: String,
    consts: String,
    /// The numbers among the constants, which loops may be unrolled by.
    counts: BTreeMap<String, u32>,
    pub params: Params,
    declarations: String,
    accessors: String,
    fragments: Vec<Part>,
    declared: Vec<Declared>,
    bound: Vec<Bound>,
}

/// What closes a kernel beside its text.
pub(crate) struct Launch {
    pub entry: &'static str,
    pub workgroup_size: u32,
    pub workgroup_bytes: u32,
    /// Bounds checks stay on: the text holds a caller's code that may need them.
    pub checked: bool,
    pub grid: [u32; 3],
}

/// How a row of a tensor is read: by aligned vectors of four or element by element.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Access {
    Vec4,
    Scalar,
}

impl Access {
    /// Vectors where every row starts and ends at a multiple of four elements.
    pub fn of(desc: &TensorDesc) -> Self {
        let (dim, outer) =
            desc.layout.strides().split_last().map_or((1, &[][..]), |(d, o)| (*d, o));
        let rows_aligned = outer
            .iter()
            .zip(desc.layout.shape())
            .all(|(&stride, &extent)| extent <= 1 || stride.is_multiple_of(4));
        let extent = desc.layout.shape().last().copied().unwrap_or(0);
        let aligned = extent.is_multiple_of(4) && desc.layout.offset().is_multiple_of(4);
        if dim == 1 && rows_aligned && aligned { Self::Vec4 } else { Self::Scalar }
    }
}

/// What a constant vector may hold.
pub(crate) trait Vec3Element: std::fmt::Display {
    const KIND: &'static str;
    const SUFFIX: &'static str;
}

impl Vec3Element for u32 {
    const KIND: &'static str = "u32";
    const SUFFIX: &'static str = "u";
}

impl Vec3Element for bool {
    const KIND: &'static str = "bool";
    const SUFFIX: &'static str = "";
}

impl KernelSource {
    /// Enables an extension of WGSL.
    pub fn enable(&mut self, extension: &str) {
        let _ = writeln!(self.enables, "enable {extension};");
    }

    pub fn alias(&mut self, name: &str, of: &str) {
        let _ = writeln!(self.consts, "alias {name} = {of};");
    }

    pub fn const_u32(&mut self, name: &str, value: u32) {
        let _ = writeln!(self.consts, "const {name}: u32 = {value}u;");
        self.counts.insert(name.to_owned(), value);
    }

    pub fn const_bool(&mut self, name: &str, value: bool) {
        let _ = writeln!(self.consts, "const {name}: bool = {value};");
    }

    pub fn const_f32(&mut self, name: &str, value: f32) {
        // Exactly: the shortest form of the lowest number lies beyond it, which browsers refuse.
        let _ = writeln!(self.consts, "const {name}: f32 = {:?}f;", f64::from(value));
    }

    /// A vector of three, of unsigned numbers or truth values.
    pub fn const_vec3<T: Vec3Element>(&mut self, name: &str, [x, y, z]: [T; 3]) {
        let (kind, suffix) = (T::KIND, T::SUFFIX);
        let _ = writeln!(
            self.consts,
            "const {name}: vec3<{kind}> = vec3<{kind}>({x}{suffix}, {y}{suffix}, {z}{suffix});"
        );
    }

    /// Adds a fragment, once.
    pub fn fragment(&mut self, file: &str, text: impl Into<String>) {
        if self.fragments.iter().any(|part| part.file == file) {
            return;
        }
        self.fragments.push(Part { file: file.to_owned(), text: text.into() });
    }

    /// Declares a storage binding, once: says whether the name is new.
    pub fn bind(&mut self, name: &str, element: &str, writes: bool, bound: Bound) -> bool {
        if self.declared.iter().any(|declared| declared.name == name) {
            return false;
        }
        let access = if writes { "read_write" } else { "read" };
        let number = self.declared.len() + 1;
        let _ = writeln!(
            self.declarations,
            "@group(0) @binding({number}) var<storage, {access}> {name}: array<{element}>;"
        );
        self.declared.push(Declared { name: name.to_owned(), writes });
        self.bound.push(bound);
        true
    }

    /// Storage bindings so far.
    pub fn binding_count(&self) -> u32 {
        self.declared.len() as u32
    }

    /// `NAME_load4(offset, d)`: elements d to d + 3 of the row at `offset`, zero from `dim` on; `asked` is how far
    /// the kernel asks, so that rows which divide evenly are read without a test.
    pub fn row_reader(&mut self, name: &str, dtype: Dtype, access: Access, dim: u32, asked: u32) {
        let text = match access {
            Access::Vec4 => {
                let (index, tail) = if asked > dim {
                    let last = dim - 4;
                    (format!("min(d, {last}u)"), format!("select(vec4(0.0), value, d < {dim}u)"))
                } else {
                    ("d".to_owned(), "value".to_owned())
                };
                let value = match dtype {
                    Dtype::F16 => "vec4(unpack2x16float(word.x), unpack2x16float(word.y))",
                    Dtype::Bf16 => {
                        "bitcast<vec4<f32>>(vec4(word.x << 16u, word.x & 0xffff0000u, word.y << 16u, word.y & 0xffff0000u))"
                    }
                    _ => "word",
                };
                format!(
                    "fn {name}_load4(offset: u32, d: u32) -> vec4<f32> {{\n    let word = {name}[(offset + {index}) / 4u];\n    let value = {value};\n    return {tail};\n}}\n"
                )
            }
            Access::Scalar => {
                let at = element_at(name, dtype, "i");
                let last = dim - 1;
                format!(
                    "fn {name}_at(offset: u32, d: u32) -> f32 {{\n    let i = offset + min(d, {last}u);\n    return select(0.0, {at}, d < {dim}u);\n}}\n\
                     fn {name}_load4(offset: u32, d: u32) -> vec4<f32> {{\n    return vec4({name}_at(offset, d), {name}_at(offset, d + 1u), {name}_at(offset, d + 2u), {name}_at(offset, d + 3u));\n}}\n"
                )
            }
        };
        self.accessors.push_str(&text);
    }

    /// The element type that [`KernelSource::row_reader`] reads.
    pub fn row_element(dtype: Dtype, access: Access) -> &'static str {
        match (dtype.bytes(), access) {
            (2, Access::Vec4) => "vec2<u32>",
            (2, Access::Scalar) => "u32",
            (_, Access::Vec4) => "vec4<f32>",
            (_, Access::Scalar) => "f32",
        }
    }

    /// `NAME_store4(offset, d, value)`: elements d to d + 3 of the row at `offset`, dropping those from `dim` on.
    /// Halves that do not fill words of their own are written by atomics, since the other half is another lane's.
    pub fn row_writer(&mut self, name: &str, dtype: Dtype, access: Access, dim: u32) {
        let bits = if dtype == Dtype::Bf16 { "to_bf16" } else { "to_f16" };
        let head = format!("fn {name}_store4(offset: u32, d: u32, value: vec4<f32>) {{\n");
        let text = match (dtype.bytes(), access) {
            (2, Access::Vec4) => format!(
                "{head}    {name}[(offset + d) / 4u] = vec2({bits}(value.x) | ({bits}(value.y) << 16u), {bits}(value.z) | ({bits}(value.w) << 16u));\n}}\n"
            ),
            (2, Access::Scalar) => format!(
                "fn {name}_put(i: u32, value: f32) {{\n    let shift = 16u * (i & 1u);\n    atomicAnd(&{name}[i >> 1u], 0xffff0000u >> shift);\n    atomicOr(&{name}[i >> 1u], {bits}(value) << shift);\n}}\n\
                 {head}    for (var j = 0u; j < min(4u, {dim}u - d); j++) {{ {name}_put(offset + d + j, value[j]); }}\n}}\n"
            ),
            (_, Access::Vec4) => format!("{head}    {name}[(offset + d) / 4u] = value;\n}}\n"),
            (_, Access::Scalar) => format!(
                "{head}    for (var j = 0u; j < min(4u, {dim}u - d); j++) {{ {name}[offset + d + j] = value[j]; }}\n}}\n"
            ),
        };
        if dtype.bytes() == 2 {
            add_fragment!(self, "common/convert.wgsl");
        }
        self.accessors.push_str(&text);
    }

    /// The element type that [`KernelSource::row_writer`] writes.
    pub fn written_element(dtype: Dtype, access: Access) -> &'static str {
        match (dtype.bytes(), access) {
            (2, Access::Scalar) => "atomic<u32>",
            _ => Self::row_element(dtype, access),
        }
    }

    /// `NAME_get(i)`: element i of a side tensor as f32, i32 or bool; `params.NAME_first` is where element 0 lies.
    pub fn side_reader(&mut self, name: &str, dtype: Dtype) {
        let kind = match dtype {
            Dtype::I32 => "i32",
            Dtype::Bool => "bool",
            _ => "f32",
        };
        let value = element_at(name, dtype, "at");
        let text = format!(
            "fn {name}_get(i: u32) -> {kind} {{\n    let at = params.{name}_first + i;\n    return {value};\n}}\n"
        );
        self.accessors.push_str(&text);
    }

    /// The same for a tensor packed into words of `buffer`.
    pub fn packed_reader(&mut self, name: &str, buffer: &str, dtype: Dtype) {
        let (kind, value) = match dtype {
            Dtype::I32 => ("i32", format!("bitcast<i32>({buffer}[params.{name}_first + i])")),
            Dtype::Bool => ("bool", format!("{buffer}[params.{name}_first + i] != 0u")),
            _ => ("f32", format!("bitcast<f32>({buffer}[params.{name}_first + i])")),
        };
        let text = format!("fn {name}_get(i: u32) -> {kind} {{ return {value}; }}\n");
        self.accessors.push_str(&text);
    }

    /// Whether a param of this name is there already.
    pub fn has_param(&self, name: &str) -> bool {
        self.params.has(name)
    }

    /// The element type that [`KernelSource::side_reader`] reads.
    pub fn side_element(dtype: Dtype) -> &'static str {
        match dtype {
            Dtype::F32 => "f32",
            Dtype::I32 => "i32",
            _ => "u32",
        }
    }

    /// `lse_store(at, value, empty)`, as bits: WGSL has no constant for minus infinity.
    pub fn lse_writer(&mut self, name: &str) {
        let text = format!(
            "fn lse_store(at: u32, value: f32, empty: bool) {{ {name}[at] = select(bitcast<u32>(value), 0xff800000u, empty); }}\n"
        );
        self.accessors.push_str(&text);
    }

    /// Adds a function to the header's accessors.
    pub fn accessor(&mut self, text: &str) {
        self.accessors.push_str(text);
    }

    /// Closes the kernel.
    pub fn step(self, launch: Launch) -> Step {
        let Launch { entry, workgroup_size, workgroup_bytes, checked, grid } = launch;
        let Self {
            enables,
            consts,
            counts,
            params,
            declarations,
            accessors,
            fragments,
            declared,
            bound,
        } = self;
        let header = format!("{enables}{consts}{}{declarations}{accessors}", params.wgsl());
        let mut parts = vec![Part { file: "header".to_owned(), text: header }];
        parts.extend(fragments.into_iter().map(|part| {
            let text = unrolled(part.text, &counts);
            Part { file: part.file, text }
        }));
        let proven = (!checked).then(Proven::by_plan);
        let shader =
            Shader { entry, parts, bindings: declared, workgroup_size, workgroup_bytes, proven };
        Step {
            shader: Arc::new(shader),
            params: params.bytes(),
            bindings: bound,
            grid: grid.into(),
        }
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

/// The bound range of elements `first..end` of a tensor, widened to the device's alignment, and where element 0 of
/// the tensor's buffer lies in it, in elements, modulo 2^32 (kernels add offsets modulo 2^32 too).
pub(crate) fn bound_range(
    name: &str,
    dtype: Dtype,
    first: u64,
    end: u64,
    alignment: u32,
) -> (Bound, u32) {
    let slot = Slot::Tensor(name.to_owned());
    if end <= first {
        return (Bound { slot, offset: 0, size: 0 }, 0);
    }
    // Whole vectors of four elements are read, so that a range starts at one of them too.
    let alignment = u64::from(alignment).max(16);
    let offset = first * dtype.bytes() / alignment * alignment;
    let size = (end * dtype.bytes() - offset).next_multiple_of(4);
    let origin = (offset / dtype.bytes()) as u32;
    (Bound { slot, offset, size }, origin.wrapping_neg())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lowest_number_is_not_written_as_one_below_it() {
        let mut source = KernelSource::default();
        source.const_f32("LOWEST", f32::MIN);
        let written = source.consts.trim_start_matches("const LOWEST: f32 = ");
        let number: f64 = written.trim_end().trim_end_matches("f;").parse().unwrap();
        assert_eq!(number, f64::from(f32::MIN), "{written}");
    }
}
