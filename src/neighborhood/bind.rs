//! What the kernels of neighborhoods bind: which part of which tensor, under which name.

use super::window::Axis;
use crate::fused::domain::HEAD_GATE;
use crate::kernel::slices::{Bindings, Cut, Slice};
use crate::kernel::source::{KernelSource, bound_range};
use crate::tensor::TensorDescs;

/// Tensors `[batch, X…, heads, …]`, and the slice of them that a kernel touches.
#[derive(Clone, Copy)]
pub(super) struct Rows<'a> {
    pub tensors: &'a TensorDescs,
    /// Number of axes X….
    pub rank: usize,
    /// Query heads that share a key head.
    pub group_size: u32,
    pub slice: &'a Slice,
    /// What bindings start at a multiple of, in bytes.
    pub alignment: u32,
}

/// Stands in for rows that a kernel neither reads nor writes.
pub(super) fn no_rows(source: &mut KernelSource, role: &str) {
    source.accessor(&format!(
        "fn {role}_step(by: vec3<u32>) -> u32 {{ return 0u; }}\n\
         fn {role}_row(batch: u32, head: u32, token: vec3<u32>) -> u32 {{ return 0u; }}\n"
    ));
}

impl Rows<'_> {
    /// First and one past the last element of a tensor that the slice touches.
    pub fn element_range(&self, name: &str) -> (u64, u64) {
        let (layout, slice) = (&self.tensors[name].layout, self.slice);
        let q_heads = slice.q_heads(self.group_size);
        let (heads, tokens) = match name {
            "q" | "out" | "lse" | "scores" | "weights" | HEAD_GATE => {
                (q_heads, Some(&slice.queries))
            }
            "k" | "v" => (slice.kv_heads.clone(), Some(&slice.keys)),
            "extra_k" | "extra_v" => (slice.kv_heads.clone(), None),
            _ => return (layout.offset(), layout.offset() + layout.len()), // the caller's, without gaps
        };
        let head_axis = self.head_axis(name);
        layout.range_within(|axis| match axis {
            0 => Some(slice.batch.clone()),
            _ if axis == head_axis => Some(heads.clone()),
            _ if axis < head_axis => tokens.map(|tokens| tokens[axis + 2 - self.rank].clone()),
            _ => None,
        })
    }

    fn head_axis(&self, name: &str) -> usize {
        if name.starts_with("extra_") { 2 } else { self.rank + 1 }
    }

    /// Binds a tensor as `name`; `ROLE_row(batch, head, token)` is where a row of it begins, `ROLE_step(by)` how far rows
    /// of tokens lie apart. Extra tokens have `params.ROLE_first` and strides of batch, head and x alone.
    pub fn bind(
        &self,
        source: &mut KernelSource,
        (role, tensor): (&str, &str),
        (name, element, writes): (&str, &str, bool),
    ) {
        let desc = &self.tensors[tensor];
        let (first, end) = self.element_range(tensor);
        let (bound, origin) = bound_range(tensor, desc.dtype, first, end, self.alignment);
        source.bind(name, element, writes, bound);
        // Offsets are sums modulo 2^32 that end inside the binding, whatever their terms.
        source
            .params
            .u32(format!("{role}_first"), origin.wrapping_add(desc.layout.offset() as u32));
        let strides = desc.layout.strides();
        let head = self.head_axis(tensor);
        source.params.u32(format!("{role}_batch_stride"), strides[0] as u32);
        source.params.u32(format!("{role}_head_stride"), strides[head] as u32);
        if tensor.starts_with("extra_") {
            source.params.u32(format!("{role}_x_stride"), strides[1] as u32);
            return;
        }
        let missing = 3 - self.rank;
        for (axis, letter) in ["x", "y", "z"].into_iter().enumerate() {
            let stride = if axis < missing { 0 } else { strides[1 + axis - missing] };
            source.params.u32(format!("{role}_{letter}_stride"), stride as u32);
        }
        source.accessor(&format!(
            "fn {role}_step(by: vec3<u32>) -> u32 {{ return by.x * params.{role}_x_stride + by.y * params.{role}_y_stride + by.z * params.{role}_z_stride; }}\n\
             fn {role}_row(batch: u32, head: u32, token: vec3<u32>) -> u32 {{ return params.{role}_first + batch * params.{role}_batch_stride + head * params.{role}_head_stride + {role}_step(token); }}\n"
        ));
    }

    /// What the slice binds.
    pub fn bindings(&self) -> Bindings {
        let tensors = self.tensors.iter().map(|(name, desc)| {
            let (first, end) = self.element_range(name);
            let slack = u64::from(self.alignment); // bindings start at multiples of it
            let bytes = end.saturating_sub(first).saturating_mul(desc.dtype.bytes());
            (name.clone(), bytes.saturating_add(slack))
        });
        let keys = self.slice.keys.clone().map(|range| range.len() as u32);
        Bindings { bytes: tensors.collect(), keys }
    }
}

/// The widest slice of a cut: its queries, and the keys that they see, or as many of them as a pass binds.
pub(super) fn widest(axes: &[Axis; 3], cut: &Cut) -> Slice {
    let keys = |i: usize| 0..axes[i].most_tokens_seen(cut.queries[i]);
    Slice {
        batch: 0..cut.batches,
        kv_heads: 0..cut.kv_heads,
        group: 0..cut.group,
        queries: cut.queries.map(|queries| 0..queries),
        keys: std::array::from_fn(keys),
    }
}

/// A slice with the keys that its queries see.
pub(super) fn with_keys_seen(axes: &[Axis; 3], slice: Slice) -> Slice {
    let keys = std::array::from_fn(|i| axes[i].tokens_seen(&slice.queries[i]));
    Slice { keys, ..slice }
}

/// `NAME()`, a number for each axis; axes that are not there have `absent`, which the compiler knows.
pub(super) fn vector(
    source: &mut KernelSource,
    rank: usize,
    name: &str,
    numbers: [u32; 3],
    absent: u32,
) {
    let mut terms = Vec::new();
    for (axis, letter) in ["x", "y", "z"].into_iter().enumerate() {
        if axis < 3 - rank {
            terms.push(format!("{absent}u"));
        } else {
            source.params.u32(format!("{name}_{letter}"), numbers[axis]);
            terms.push(format!("params.{name}_{letter}"));
        }
    }
    let terms = terms.join(", ");
    source.accessor(&format!("fn {name}() -> vec3<u32> {{ return vec3({terms}); }}\n"));
}

/// The tokens of a slice: `slice_first()`, and `slice_sides()` along each axis.
pub(super) fn slice_tokens(source: &mut KernelSource, rank: usize, slice: &Slice) {
    vector(source, rank, "slice_first", slice.queries.each_ref().map(|it| it.start), 0);
    vector(source, rank, "slice_sides", slice.queries.each_ref().map(|it| it.len() as u32), 1);
}
