//! Where results go: to the caller's out and lse, times a gate where there is one, or as parts to scratch.

use super::domain::{Domain, HEAD_GATE, Part, Rows};
use crate::kernel::numbers::element_at;
use crate::kernel::source::{Access, KernelSource, add_fragment};

/// Binds out and lse as asked for, with their writers.
pub(super) fn outputs(domain: &impl Domain, source: &mut KernelSource, part: &Part<'_>) {
    let call = part.call;
    source.const_bool("HAS_OUT", call.has("out"));
    source.const_bool("HAS_LSE", call.has("lse"));
    if let Some(desc) = call.tensors.get("out") {
        let access = Access::of(desc);
        let element = KernelSource::written_element(desc.dtype, access);
        domain.bind_rows(source, part, written("out", element));
        source.row_writer("out", desc.dtype, access, call.shape.value_dim);
    } else {
        domain.no_rows(source, "out");
        source.accessor("fn out_store4(offset: u32, d: u32, value: vec4<f32>) {}\n");
    }
    if call.has("lse") {
        domain.bind_rows(source, part, written("lse", "u32"));
        source.lse_writer("lse");
    } else {
        domain.no_rows(source, "lse");
        source.accessor("fn lse_store(at: u32, value: f32, empty: bool) {}\n");
    }
}

fn written<'a>(name: &'a str, element: &'static str) -> Rows<'a> {
    Rows { name, role: name, tensor: name, element, writes: true }
}

/// The outputs of a forward kernel: the caller's, or parts for a merge.
pub(super) fn forward_outputs(domain: &impl Domain, source: &mut KernelSource, part: &Part<'_>) {
    if part.merges {
        partial_outputs(source, part);
    } else {
        outputs(domain, source, part);
        add_fragment!(source, "fused/store_direct.wgsl");
    }
}

fn partial_outputs(source: &mut KernelSource, part: &Part<'_>) {
    source.const_u32("PART_STRIDE", part.call.shape.value_dim.div_ceil(4));
    source.params.u32("part_batches", part.batches());
    source.params.u32("part_heads", part.q_heads());
    source.params.u32("part_head_first", part.head_first());
    source.params.u32("part_queries", part.queries());
    source.bind("part_outs", "vec4<f32>", true, part.part_outs());
    if part.call.is_sigmoid() {
        source.accessor("fn lse_store(at: u32, value: f32, empty: bool) {}\n");
    } else {
        source.bind("part_lses", "u32", true, part.part_lses());
        source.lse_writer("part_lses");
    }
    add_fragment!(source, "fused/store_partial.wgsl");
}

/// `head_gate(b, h, q)` of a forward kernel, which may write out, or skip rows whose gates are 0.
pub(super) fn gate(domain: &impl Domain, source: &mut KernelSource, part: &Part<'_>) {
    let skips = part.call.gate_skips();
    source.const_bool("GATE_SKIPS", skips);
    if part.call.has(HEAD_GATE) && (!part.merges || skips) {
        bind_gate(domain, source, part);
    } else {
        no_gate(source);
    }
}

pub(super) fn bind_gate(domain: &impl Domain, source: &mut KernelSource, part: &Part<'_>) {
    let dtype = part.call.tensors[HEAD_GATE].dtype;
    source.const_bool("HAS_GATE", true);
    let element = KernelSource::element_type_of(dtype);
    let rows = Rows { name: "gate", role: "gate", tensor: HEAD_GATE, element, writes: false };
    domain.bind_rows(source, part, rows);
    let gate = element_at("gate", dtype, "at");
    source.accessor(&format!(
        "fn head_gate(batch: u32, head: u32, place: Place) -> f32 {{\n    let at = gate_row(batch, head, place);\n    return {gate};\n}}\n"
    ));
}

/// A kernel that asks no gate.
pub(super) fn never_gated(source: &mut KernelSource) {
    source.const_bool("GATE_SKIPS", false);
    no_gate(source);
}

/// A kernel whose outputs no gate scales.
pub(crate) fn no_gate(source: &mut KernelSource) {
    source.const_bool("HAS_GATE", false);
    source.accessor("fn head_gate(batch: u32, head: u32, place: Place) -> f32 { return 1.0; }\n");
}
