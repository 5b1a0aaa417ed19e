//! What the kernels of attention bind: which part of which tensor, under which name.

use std::ops::Range;

use super::gate::HEAD_GATE;
use super::kernel::Pass;
use super::mask_wgsl::{self, side};
use super::plan::{Context, ScratchBytes};
use super::problem::AttentionProblem;
use super::side::SideRole;
use super::spec::AttentionOutput;
use crate::fused::sides::Sides;
use crate::fused::slices::Slice;
use crate::fused::source::{Access, KernelSource, add_fragment, bound_range};
use crate::gpu::limits::GpuLimits;
use crate::gpu::recording::{Bound, Slot};

/// First and one past the last element of a tensor that a slice touches.
pub(super) fn element_range(problem: &AttentionProblem, name: &str, slice: &Slice) -> (u64, u64) {
    let layout = &problem.tensors[name].layout;
    let group = problem.extents.group_size();
    let q_heads = slice.kv_heads.start * group..slice.kv_heads.end * group;
    let pages = 0..layout.shape().first().map_or(0, |pages| *pages as u32);
    let roles: &[&Range<u32>] = match name {
        "k" | "v" => &[&slice.batch, &slice.kv_heads],
        "k_pages" | "v_pages" => &[&pages, &slice.kv_heads],
        "prefix_k" | "prefix_v" => &[&slice.kv_heads],
        "q" | "out" | "lse" | HEAD_GATE => &[&slice.batch, &q_heads],
        _ if layout.shape().len() == 4 && is_indexed(problem, name) => &[&slice.batch, &q_heads],
        _ => &[],
    };
    let (mut first, mut last) = (layout.offset(), layout.offset());
    for (axis, (&extent, &stride)) in layout.shape().iter().zip(layout.strides()).enumerate() {
        if extent == 0 {
            return (layout.offset(), layout.offset());
        }
        match roles.get(axis) {
            Some(range) if extent > 1 => {
                first += u64::from(range.start) * stride;
                last += u64::from(range.end - 1) * stride;
            }
            _ => last += (extent - 1) * stride,
        }
    }
    (first, last + 1)
}

/// Side tensors whose axes are (batch, head, query, key).
fn is_indexed(problem: &AttentionProblem, name: &str) -> bool {
    problem.side_tensors().iter().any(|side| {
        side.name == name
            && matches!(
                side.role,
                SideRole::Bias | SideRole::DenseMask | SideRole::BlockMask { .. }
            )
    })
}

impl Context<'_> {
    /// Binds a tensor with axes (batch, head, seq, dim) or (batch, head, seq) as `name`, with its strides as params.
    pub fn bind_rows(
        &self,
        source: &mut KernelSource,
        name: &str,
        tensor: &str,
        element: &str,
        writes: bool,
    ) {
        let desc = &self.problem.tensors[tensor];
        let (first, end) = element_range(self.problem, tensor, &self.slice);
        let alignment = self.limits.storage_alignment;
        let (bound, origin) = bound_range(tensor, desc.dtype, first, end, alignment);
        source.bind(name, element, writes, bound);
        // Offsets are sums modulo 2^32 that end inside the binding, whatever their terms.
        source
            .params
            .u32(format!("{name}_first"), origin.wrapping_add(desc.layout.offset() as u32));
        let strides = desc.layout.strides();
        let prefix = usize::from(tensor.starts_with("prefix_"));
        let batch = if prefix == 1 { 0 } else { strides[0] };
        source.params.u32(format!("{name}_batch_stride"), batch as u32);
        source.params.u32(format!("{name}_head_stride"), strides[1 - prefix] as u32);
        source.params.u32(format!("{name}_seq_stride"), strides[2 - prefix] as u32);
    }

    /// Makes a side tensor readable: `sideN_get(i)`, and `params.sideN_*` for its indices.
    pub fn bind_side(&self, source: &mut KernelSource, name: &str) {
        let id = side(self.problem, name);
        if source.has_param(&format!("{id}_len")) {
            return;
        }
        self.sides.bind(source, name, element_range(self.problem, name, &self.slice));
        if is_indexed(self.problem, name) {
            let layout = &self.problem.tensors[name].layout;
            let axes = ["batch_stride", "head_stride", "q_stride"].into_iter().zip(layout.shape());
            for ((axis, &extent), &stride) in axes.zip(layout.strides()) {
                let stride = if extent > 1 { stride as u32 } else { 0 };
                source.params.u32(format!("{id}_{axis}"), stride);
            }
        }
    }

    /// Binds out and lse as asked for, with their writers.
    pub fn outputs(&self, source: &mut KernelSource) {
        let p = self.problem;
        source.const_bool("HAS_OUT", p.wants(AttentionOutput::Out));
        source.const_bool("HAS_LSE", p.wants(AttentionOutput::Lse));
        if p.wants(AttentionOutput::Out) {
            let desc = &p.tensors["out"];
            let access = Access::of(desc);
            let element = KernelSource::written_element(desc.dtype, access);
            self.bind_rows(source, "out", "out", element, true);
            source.row_writer("out", desc.dtype, access, p.extents.value_dim);
        } else {
            stand_in_params(source, "out");
            source.accessor("fn out_store4(offset: u32, d: u32, value: vec4<f32>) {}\n");
        }
        if p.wants(AttentionOutput::Lse) {
            self.bind_rows(source, "lse", "lse", "u32", true);
            source.lse_writer("lse");
        } else {
            stand_in_params(source, "lse");
            source.accessor("fn lse_store(at: u32, value: f32, empty: bool) {}\n");
        }
    }

    pub fn partial_outputs(&self, source: &mut KernelSource) {
        let vecs = self.problem.extents.value_dim.div_ceil(4);
        source.const_u32("PART_STRIDE", vecs);
        source.params.u32("part_batches", self.batches());
        source.params.u32("part_heads", self.q_heads());
        let head_first = self.slice.kv_heads.start * self.problem.extents.group_size();
        source.params.u32("part_head_first", head_first);
        source.bind("part_outs", "vec4<f32>", true, self.part_outs());
        if self.is_sigmoid() {
            source.accessor("fn lse_store(at: u32, value: f32, empty: bool) {}\n");
        } else {
            source.bind("part_lses", "u32", true, self.part_lses());
            source.lse_writer("part_lses");
        }
        add_fragment!(source, "fused/store_partial.wgsl");
    }

    fn part_rows(&self) -> u64 {
        let rows = u64::from(self.batches()) * u64::from(self.q_heads());
        rows * u64::from(self.problem.extents.seq_len_q) * u64::from(self.parts)
    }

    pub fn part_outs(&self) -> Bound {
        let vecs = u64::from(self.problem.extents.value_dim.div_ceil(4));
        scratch(ScratchBytes::PART_OUTS, self.part_rows() * vecs * 16)
    }

    pub fn part_lses(&self) -> Bound {
        scratch(ScratchBytes::PART_LSES, self.part_rows() * 4)
    }

    pub fn tile_map(&self, pass: &Pass) -> Bound {
        let words = self.map_row_tiles(pass).saturating_mul(self.map_words());
        scratch(ScratchBytes::TILE_MAP, words.saturating_mul(8))
    }
}

/// How side tensors are bound beside q, k, v, two outputs, the map of tiles and the gate.
pub(super) fn sides<'a>(problem: &'a AttentionProblem, limits: &'a GpuLimits) -> Sides<'a> {
    let names = problem.side_tensors().into_iter().map(|side| side.name).collect();
    let by_map = mask_wgsl::traits(&problem.spec.mask).by_map;
    let core = 5 + u32::from(by_map) + u32::from(problem.tensors.contains_key(HEAD_GATE));
    Sides::new(&problem.tensors, names, core, ScratchBytes::SIDES, limits)
}

pub(super) fn scratch(index: usize, size: u64) -> Bound {
    Bound { slot: Slot::Scratch(index), offset: 0, size }
}

pub(super) fn stand_in_params(source: &mut KernelSource, name: &str) {
    for field in ["first", "batch_stride", "head_stride", "seq_stride"] {
        source.params.u32(format!("{name}_{field}"), 0);
    }
}
