//! What a kernel reads tensors by: rows of numbers or blocks, and single elements.

use super::access::Access;
use super::blocks::{self, BLOCK_VECTORS, words_of, words_of_run};
use super::numbers::{self, element_at};
use super::pairs;
use super::reads::{Reads, Storage};
use super::source::{KernelSource, add_fragment};
use super::template::template;
use crate::gpu::recording::Bound;
use crate::tensor::{BlockFormat, Dtype};

/// Reads rows of a tensor, by functions that [`Reads`] names.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Reader<'a> {
    /// The name in the kernel: `NAME` of the functions, and the binding.
    pub name: &'a str,
    /// How the rows are stored.
    pub storage: Storage,
    /// How they are read.
    pub reads: Reads,
}

impl Reader<'_> {
    /// The element type of the binding `NAME`.
    pub fn element(&self) -> &'static str {
        let units = matches!(self.reads, Reads::Units { .. });
        match self.storage {
            Storage::Numbers { dtype, access } => numbers::element(dtype, access, self.reads),
            Storage::Blocks { wide: true, .. } | Storage::BlocksBesideScales if units => {
                "vec4<u32>"
            }
            Storage::Blocks { .. } | Storage::BlocksBesideScales => "u32",
        }
    }

    /// Every binding by name and element type: the rows, and scales that lie beside them.
    pub fn bindings(&self) -> Vec<(String, &'static str)> {
        let mut all = vec![(self.name.to_owned(), self.element())];
        if self.storage == Storage::BlocksBesideScales {
            all.push((format!("{}_scales", self.name), "u32"));
        }
        all
    }

    /// The functions.
    pub fn text(&self) -> String {
        match self.storage {
            Storage::Numbers { dtype, access } => {
                numbers::text(self.name, dtype, access, self.reads)
            }
            Storage::Blocks { format, wide } => blocks::text(self.name, format, wide, self.reads),
            Storage::BlocksBesideScales => pairs::text(self.name, self.reads),
        }
    }

    /// Binds `bound`, one for each of [`Reader::bindings`], and adds the functions.
    pub fn bind(&self, source: &mut KernelSource, bound: impl IntoIterator<Item = Bound>) {
        for ((name, element), bound) in self.bindings().into_iter().zip(bound) {
            source.bind(&name, element, false, bound);
        }
        self.add(source);
    }

    /// Adds the functions alone.
    pub fn add(&self, source: &mut KernelSource) {
        if !matches!(self.storage, Storage::Numbers { .. }) {
            add_fragment!(source, "matmul/blocks.wgsl");
        }
        source.accessor(&self.text());
    }
}

/// What `NAME_raw` gives, as little as registers can hold until the numbers are needed, and `w_scale(raw, block)`.
pub(crate) fn raw_type(format: Option<BlockFormat>, vectors: u32) -> String {
    let Some(format) = format else {
        let stored = if vectors == 2 { "vec4<u32>" } else { "vec4<f32>" };
        return template!("kernel/raw_numbers.wgsl", "STORED_VECTOR" = stored);
    };
    let count = vectors / BLOCK_VECTORS;
    template!(
        "kernel/raw_blocks.wgsl",
        "BLOCK_COUNT" = count,
        "WORD_COUNT" = count * words_of(format),
    )
}

/// What `NAME_take` gives, and what `NAME_run` or `NAME_block` makes of it.
pub(crate) fn taken_type(format: Option<BlockFormat>, reads: Reads) -> String {
    let vectors = match reads {
        Reads::Blocks => BLOCK_VECTORS,
        Reads::Runs { vectors } => vectors,
        Reads::Rows { .. } | Reads::Vectors | Reads::Halves | Reads::Units { .. } => 1,
    };
    let made = match reads {
        Reads::Blocks => String::new(),
        _ => format!("alias Run = array<Staged, {vectors}>;\n"),
    };
    match format.filter(|_| vectors > 1) {
        Some(format) => {
            let words = words_of_run(format, vectors) + 1;
            format!("{made}struct Taken {{ shift: u32, head: u32, words: array<u32, {words}> }}\n")
        }
        None => format!("{made}alias Taken = Staged;\n"),
    }
}

/// WGSL's type of a single element.
pub(crate) const fn element_kind(dtype: Dtype) -> &'static str {
    match dtype {
        Dtype::I32 => "i32",
        Dtype::Bool => "bool",
        Dtype::F32 | Dtype::F16 | Dtype::Bf16 | Dtype::U8 => "f32",
    }
}

impl KernelSource {
    /// As [`Reader`], with [`Reads::Rows`] of numbers.
    pub fn row_reader(&mut self, name: &str, dtype: Dtype, access: Access, dim: u32, asked: u32) {
        let storage = Storage::Numbers { dtype, access };
        Reader { name, storage, reads: Reads::Rows { dim, asked } }.add(self);
    }

    /// The element type that [`KernelSource::row_reader`] reads.
    pub fn row_element(dtype: Dtype, access: Access) -> &'static str {
        numbers::row_element(dtype, access)
    }

    /// `NAME_get(i)`: element i of an extra input as f32, i32 or bool; `params.NAME_first` is where element 0 lies.
    pub fn element_reader(&mut self, name: &str, dtype: Dtype) {
        let text = template!(
            "kernel/element.wgsl",
            "KIND" = element_kind(dtype),
            "ELEMENT" = element_at(name, dtype, "at"),
            "NAME" = name,
        );
        self.accessor(&text);
    }

    /// The same for a tensor packed into words of `buffer`.
    pub fn packed_reader(&mut self, name: &str, buffer: &str, dtype: Dtype) {
        let (kind, word) = (element_kind(dtype), format!("{buffer}[params.{name}_first + i]"));
        let value = match dtype {
            Dtype::Bool => format!("{word} != 0u"),
            _ => format!("bitcast<{kind}>({word})"),
        };
        self.accessor(&format!("fn {name}_get(i: u32) -> {kind} {{ return {value}; }}\n"));
    }

    /// The element type that [`KernelSource::element_reader`] reads.
    pub fn element_type_of(dtype: Dtype) -> &'static str {
        match dtype {
            Dtype::F32 => "f32",
            Dtype::I32 => "i32",
            _ => "u32",
        }
    }
}
