//! Extra inputs: what a problem names beside its rows, and the caller's functions that read it.

use crate::error::PlanError;
use crate::gpu::limits::GpuLimits;
use crate::gpu::recording::{Bound, Slot, Step};
use crate::kernel::access::bound_range;
use crate::kernel::packed::Packed;
use crate::kernel::source::KernelSource;
use crate::snippet::{Asked, AuxRewrite, parse_with};
use crate::tensor::{Dtype, Layout, TensorDescs};

/// How the kernels of a problem bind its extra inputs.
pub(crate) struct ExtraInputs<'a> {
    tensors: &'a TensorDescs,
    limits: &'a GpuLimits,
    /// Those that share a binding.
    packed: Packed,
    /// The scratch buffer that those lie in.
    scratch: usize,
    /// Even one binding for all of them is more than the device takes beside the others.
    pub crowded: bool,
}

impl KernelSource {
    /// The strides that [`table_index`] reads.
    pub fn table_strides(&mut self, id: &str, layout: &Layout) {
        let axes = ["batch_stride", "head_stride", "q_stride"].into_iter().zip(layout.shape());
        for ((axis, &extent), &stride) in axes.zip(layout.strides()) {
            let stride = if extent > 1 { stride as u32 } else { 0 };
            self.params.u32(format!("{id}_{axis}"), stride);
        }
    }
}

impl<'a> ExtraInputs<'a> {
    /// Where a kernel would bind more tensors than the device takes, the smallest extra inputs are packed into one
    /// buffer, no more than needed. `core` is how many other bindings a kernel has.
    pub fn new(
        tensors: &'a TensorDescs,
        mut names: Vec<String>,
        core: u32,
        scratch: usize,
        limits: &'a GpuLimits,
    ) -> Self {
        names.sort_by_key(|name| (tensors[name].layout.len(), name.clone()));
        names.dedup();
        let room = limits.storage_buffers.saturating_sub(core) as usize;
        let crowded = room == 0 && !names.is_empty();
        names.truncate(Packed::count(names.len(), room));
        let words = |name: &String| tensors[name].layout.len();
        let packed = names.into_iter().map(|name| (name.clone(), words(&name))).collect();
        Self { tensors, limits, packed: Packed::new(packed), scratch, crowded }
    }

    /// The name that an extra input has in kernels: the caller's need not be one of WGSL's.
    pub fn id(&self, name: &str) -> String {
        extra_id(self.tensors, name)
    }

    /// Bytes of the buffer of packed ones; 0 where there is none.
    pub fn scratch_bytes(&self) -> u64 {
        if self.packed.is_empty() { 0 } else { self.buffer().size }
    }

    /// Makes an extra input readable, once a kernel: `inputN_get(i)`, `params.inputN_len`. Elements `range` are bound where
    /// it is not packed.
    pub fn bind(&self, source: &mut KernelSource, name: &str, range: (u64, u64)) {
        let (id, desc) = (self.id(name), &self.tensors[name]);
        if source.has_param(&format!("{id}_len")) {
            return;
        }
        source.params.u32(format!("{id}_len"), desc.layout.len() as u32);
        match self.packed.first(name) {
            Some(first) => {
                source.bind("inputs", "u32", false, self.buffer());
                source.params.u32(format!("{id}_first"), first);
                source.packed_reader(&id, "inputs", desc.dtype);
            }
            None => self.bind_alone(source, name, range),
        }
    }

    /// First and one past the last element of a whole tensor, which has no gaps.
    pub fn whole(&self, name: &str) -> (u64, u64) {
        let layout = &self.tensors[name].layout;
        (layout.offset(), layout.offset() + layout.len())
    }

    /// Binds elements `first..end` of one that is not packed.
    fn bind_alone(&self, source: &mut KernelSource, name: &str, (first, end): (u64, u64)) {
        let (id, desc) = (self.id(name), &self.tensors[name]);
        let alignment = self.limits.storage_alignment;
        let (bound, origin) = bound_range(name, desc.dtype, first, end, alignment);
        source.bind(&id, KernelSource::element_type_of(desc.dtype), false, bound);
        source.params.u32(format!("{id}_first"), origin.wrapping_add(desc.layout.offset() as u32));
        source.element_reader(&id, desc.dtype);
    }

    /// The buffer of packed ones, as a binding.
    fn buffer(&self) -> Bound {
        let size = (self.packed.words() * 4).max(4);
        Bound { slot: Slot::Scratch(self.scratch), offset: 0, size }
    }

    /// Copies the packed extra inputs to their places, as 32-bit words: once for all slices.
    pub fn pack_steps(&self) -> Result<Vec<Step>, PlanError> {
        let step = |(name, words)| {
            self.packed.step((name, words), self.buffer(), self.limits, |source| {
                self.bind_alone(source, name, self.whole(name));
                Ok((self.id(name), self.tensors[name].dtype))
            })
        };
        self.packed.iter().map(step).collect()
    }

    /// Adds a caller's functions under names of their own, `PREFIXname`; says whether they must run checked.
    pub fn snippet(
        &self,
        source: &mut KernelSource,
        asked: Asked<'_>,
        prefix: &str,
    ) -> Result<bool, PlanError> {
        let (_, snippet, field) = asked;
        let parsed = parse_with(self.tensors, asked).map_err(|error| PlanError::Unsupported {
            what: field.to_owned(),
            reason: error.to_string(),
        })?;
        for name in &snippet.aux {
            self.bind(source, name, self.whole(name));
            let id = self.id(name);
            let kind = if self.tensors[name].dtype == Dtype::I32 { "i32" } else { "f32" };
            let text = format!(
                "fn {id}_aux(i: u32) -> {kind} {{ return {id}_get(min(i, max(params.{id}_len, 1u) - 1u)); }}\n"
            );
            source.fragment(&format!("aux {name}"), text);
        }
        let text = parsed.rewrite(prefix, &|word| {
            let known = snippet.aux.iter().any(|name| name == word);
            known.then(|| AuxRewrite {
                accessor: format!("{}_aux", self.id(word)),
                length: format!("params.{}_len", self.id(word)),
            })
        });
        source.fragment(&format!("{field} of the caller, {prefix}"), text);
        Ok(parsed.needs_checks)
    }
}

/// The flat index of the element at `[batch, head, row, column]` of a table with four axes, those of extent 1 broadcast.
pub(crate) fn table_index(id: &str, shape: &[u64], at: [&str; 4]) -> String {
    let strides =
        ["batch_stride", "head_stride", "q_stride"].map(|s| format!(" * params.{id}_{s}"));
    let strides = strides.into_iter().chain([String::new()]);
    let terms: Vec<String> = at
        .into_iter()
        .zip(strides)
        .zip(shape)
        .filter(|(_, extent)| **extent > 1)
        .map(|((index, stride), _)| format!("({index}){stride}"))
        .collect();
    if terms.is_empty() { "0u".to_owned() } else { terms.join(" + ") }
}

/// As [`ExtraInputs::id`].
pub(crate) fn extra_id(tensors: &TensorDescs, name: &str) -> String {
    let index = tensors.keys().position(|known| known == name);
    format!("input{}", index.unwrap_or_default())
}
