//! The kernels of attention: what each is made of and what it binds.

use std::ops::Range;

use super::mask::{Mask, Snippet};
use super::mask_wgsl::{self, side, side_index};
use super::plan::{Context, ScratchBytes, Slice};
use super::problem::{AttentionProblem, SideRole, SideTensor};
use super::score::{Normaliser, ScoreModifier};
use super::snippet::{AuxRewrite, SnippetKind, parse_with, snippets};
use super::spec::AttentionOutput;
use crate::error::PlanError;
use crate::fused::forward::{Forward, score_constants};
use crate::fused::merge::{Parts, merge_step};
use crate::fused::source::{Access, KernelSource, Launch, bound_range};
use crate::gpu::recording::{Bound, Slot, Step, fold_grid};
use crate::tensor::Dtype;

/// One sweep of rows over keys.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Pass {
    /// The keys are the shared prefix; every query sees all of them, so that batches are packed into rows too.
    pub prefix: bool,
    /// Query heads packed into rows.
    pub group_rows: u32,
    /// Tiles are classified on the device.
    pub by_map: bool,
    /// Number of the first partial result it writes.
    pub part_first: u32,
}

const CLASSIFY_SIZE: u32 = 128;

/// First and one past the last element of a tensor that a slice touches.
pub(super) fn element_range(problem: &AttentionProblem, name: &str, slice: &Slice) -> (u64, u64) {
    let layout = &problem.tensors[name].layout;
    let group = problem.extents.group_size();
    let q_heads = slice.kv_heads.start * group..slice.kv_heads.end * group;
    let roles: &[&Range<u32>] = match name {
        "k" | "v" => &[&slice.batch, &slice.kv_heads],
        "prefix_k" | "prefix_v" => &[&slice.kv_heads],
        "q" | "out" | "lse" => &[&slice.batch, &q_heads],
        _ if layout.shape.len() == 4 && is_indexed(problem, name) => &[&slice.batch, &q_heads],
        _ => &[],
    };
    let (mut first, mut last) = (layout.offset, layout.offset);
    for (axis, (&extent, &stride)) in layout.shape.iter().zip(&layout.strides).enumerate() {
        if extent == 0 {
            return (layout.offset, layout.offset);
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
    fn bind_rows(
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
        source.params.u32(format!("{name}_first"), origin.wrapping_add(desc.layout.offset as u32));
        let strides = &desc.layout.strides;
        let prefix = usize::from(tensor.starts_with("prefix_"));
        let batch = if prefix == 1 { 0 } else { strides[0] };
        source.params.u32(format!("{name}_batch_stride"), batch as u32);
        source.params.u32(format!("{name}_head_stride"), strides[1 - prefix] as u32);
        source.params.u32(format!("{name}_seq_stride"), strides[2 - prefix] as u32);
    }

    fn bind_side(&self, source: &mut KernelSource, name: &str) {
        let desc = &self.problem.tensors[name];
        let id = side(self.problem, name);
        let (first, end) = element_range(self.problem, name, &self.slice);
        let (bound, origin) =
            bound_range(name, desc.dtype, first, end, self.limits.storage_alignment);
        if !source.bind(&id, KernelSource::side_element(desc.dtype), false, bound) {
            return;
        }
        source.params.u32(format!("{id}_first"), origin.wrapping_add(desc.layout.offset as u32));
        source.side_reader(&id, desc.dtype);
        if is_indexed(self.problem, name) {
            let axes = ["batch_stride", "head_stride", "q_stride"].into_iter().zip(desc.shape());
            for ((axis, &extent), &stride) in axes.zip(&desc.layout.strides) {
                let stride = if extent > 1 { stride as u32 } else { 0 };
                source.params.u32(format!("{id}_{axis}"), stride);
            }
        } else {
            source.params.u32(format!("{id}_len"), desc.layout.len() as u32);
        }
    }

    /// What classification and forward share: the domain and the mask.
    fn domain(
        &self,
        source: &mut KernelSource,
        pass: &Pass,
        work: &Work,
    ) -> Result<bool, PlanError> {
        let Work { first, count, kv_splits } = *work;
        let (p, e) = (self.problem, &self.problem.extents);
        let mask = if pass.prefix { &Mask::Full } else { &p.spec.mask };
        source.const_u32("TILE_Q", self.tiles.tile_q());
        source.const_u32("TILE_KV", self.tiles.tile_kv());
        source.const_u32("GROUP_SIZE", e.group_size());
        source.const_u32("GROUP_ROWS", pass.group_rows);
        source.const_bool("BATCH_ROWS", pass.prefix);
        source.const_bool("HAS_Q_OFFSET", p.spec.q_offset.is_some());
        source.const_bool("MASK_BY_HEAD", mask_wgsl::traits(mask).by_head);
        source.params.u32("workgroup_first", first);
        source.params.u32("workgroups", first + count);
        source.params.u32("kv_splits", kv_splits);
        source.params.u32("part_first", pass.part_first);
        source.params.u32("batch_first", self.slice.batch.start);
        source.params.u32("kv_head_first", self.slice.kv_heads.start);
        source.params.u32("head_groups", self.head_groups(pass));
        source.params.u32("q_tiles", self.q_tiles(pass) as u32);
        source.params.u32("rows", self.rows(pass) as u32);
        source.params.u32("seq_len_q", e.seq_len_q);
        source.params.u32("seq_len_kv", e.seq_len_kv);
        source.params.u32("prefix_len", e.prefix_len);
        source.params.u32("map_words", self.map_words() as u32);
        source.params.i32("q_offset", p.spec.q_offset.unwrap_or(0));
        if p.tensors.contains_key("kv_lens") {
            self.bind_side(source, "kv_lens");
            // Callers may ask for the position in a batch that is none.
            source.params.u32("batch_last", e.batch - 1);
            let get = format!("{}_get(min(b, params.batch_last))", side(p, "kv_lens"));
            source.accessor(&format!(
                "fn own_len(b: u32) -> u32 {{ return u32(clamp({get}, 0, i32(params.seq_len_kv))); }}\n"
            ));
        } else {
            source.accessor("fn own_len(b: u32) -> u32 { return params.seq_len_kv; }\n");
        }
        let len = if pass.prefix { "params.prefix_len" } else { "own_len(b)" };
        source.accessor(&format!("fn kv_len(b: u32) -> u32 {{ return {len}; }}\n"));
        source.fragment(
            "fused/domain_dense.wgsl",
            include_str!("../../shaders/fused/domain_dense.wgsl"),
        );
        let checked = if pass.prefix { false } else { self.mask_sides(source)? };
        mask_wgsl::write(source, p, mask);
        Ok(checked)
    }

    /// Binds what the mask names and adds the caller's functions; says whether they must run checked.
    fn mask_sides(&self, source: &mut KernelSource) -> Result<bool, PlanError> {
        let p = self.problem;
        for SideTensor { name, field, .. } in p.side_tensors() {
            if field.starts_with("mask.") {
                self.bind_side(source, &name);
            }
        }
        let masks = snippets(&p.spec).into_iter().filter(|(kind, ..)| *kind == SnippetKind::Mask);
        let mut checked = false;
        for (index, snippet) in masks.enumerate() {
            checked |= self.snippet(source, snippet, &format!("mask{index}_"))?;
        }
        Ok(checked)
    }

    /// Adds a caller's functions under names of their own; says whether they must run checked.
    fn snippet(
        &self,
        source: &mut KernelSource,
        snippet: (SnippetKind, &Snippet, &str),
        prefix: &str,
    ) -> Result<bool, PlanError> {
        let p = self.problem;
        let parsed = parse_with(&p.tensors, snippet).map_err(|error| PlanError::Unsupported {
            what: snippet.2.to_owned(),
            reason: error.to_string(),
        })?;
        for name in &snippet.1.aux {
            self.bind_side(source, name);
            let id = side(p, name);
            let kind = if p.tensors[name].dtype == Dtype::I32 { "i32" } else { "f32" };
            let text = format!(
                "fn {id}_aux(i: u32) -> {kind} {{ return {id}_get(min(i, max(params.{id}_len, 1u) - 1u)); }}\n"
            );
            source.fragment(&format!("aux {name}"), text);
        }
        let text = parsed.rewrite(prefix, &|word| {
            let known = snippet.1.aux.iter().any(|name| name == word);
            known.then(|| AuxRewrite {
                accessor: format!("{}_aux", side(p, word)),
                length: format!("params.{}_len", side(p, word)),
            })
        });
        source.fragment(&format!("{} of the caller, {prefix}", snippet.2), text);
        Ok(parsed.needs_checks)
    }

    /// Writes `score_modify`: the list of modifiers, in order.
    fn score(&self, source: &mut KernelSource, pass: &Pass) -> Result<bool, PlanError> {
        let p = self.problem;
        let mut body = String::new();
        let mut checked = false;
        for (index, modifier) in p.spec.score.iter().enumerate() {
            let line = match modifier {
                ScoreModifier::Softcap(cap) => {
                    source.params.f32(format!("softcap_{index}"), cap.into_inner());
                    source.fragment(
                        "fused/score_softcap.wgsl",
                        include_str!("../../shaders/fused/score_softcap.wgsl"),
                    );
                    format!("softcap(s, params.softcap_{index})")
                }
                ScoreModifier::Alibi(name) => {
                    self.bind_side(source, name);
                    let row = if p.tensors[name].shape().len() == 2 {
                        "b * params.q_heads + h"
                    } else {
                        "h"
                    };
                    let shift = if pass.prefix { " - i32(params.prefix_len)" } else { "" };
                    format!(
                        "s - {}_get({row}) * abs(f32(pos_q(b, q) - (i32(kv){shift})))",
                        side(p, name)
                    )
                }
                ScoreModifier::Bias(name) => {
                    self.bind_side(source, name);
                    format!("s + {}_get({})", side(p, name), side_index(p, name, "q", "kv"))
                }
                ScoreModifier::Wgsl(snippet) => {
                    let prefix = format!("score{index}_");
                    let snippet = (SnippetKind::Score, snippet, "score.wgsl");
                    checked |= self.snippet(source, snippet, &prefix)?;
                    format!("{prefix}score_mod(s, b, h, q, kv)")
                }
            };
            body.push_str(&format!("    s = {line};\n"));
        }
        if self.score_may_mask() {
            // Minus infinity is "no key"; the lowest finite scores, which some masks use, still are keys.
            body.push_str("    if (bitcast<u32>(s) == 0xff800000u) { return LOWEST; }\n    s = max(s, LOWEST_KEPT);\n");
        }
        let text = format!(
            "fn score_modify(score: f32, b: u32, h: u32, q: u32, kv: u32) -> f32 {{\n    var s = score;\n{body}    return s;\n}}\n"
        );
        source.fragment("score of the spec", text);
        Ok(checked)
    }

    fn score_may_mask(&self) -> bool {
        let may = |m: &ScoreModifier| matches!(m, ScoreModifier::Bias(_) | ScoreModifier::Wgsl(_));
        self.problem.spec.score.iter().any(may)
    }

    fn normaliser(&self, source: &mut KernelSource) {
        let p = self.problem;
        match &p.spec.normaliser {
            Normaliser::Softmax { sink } => {
                source.const_bool("HAS_SINK", sink.is_some());
                let logit = sink.as_ref().map_or("0.0".to_owned(), |name| {
                    self.bind_side(source, name);
                    format!("{}_get(h)", side(p, name))
                });
                source.accessor(&format!("fn sink_logit(h: u32) -> f32 {{ return {logit}; }}\n"));
                let text = include_str!("../../shaders/fused/normaliser_softmax.wgsl");
                source.fragment("fused/normaliser_softmax.wgsl", text);
            }
            Normaliser::Sigmoid { bias } => {
                source.params.f32("sigmoid_bias", bias.into_inner());
                let text = include_str!("../../shaders/fused/normaliser_sigmoid.wgsl");
                source.fragment("fused/normaliser_sigmoid.wgsl", text);
            }
        }
    }

    fn is_sigmoid(&self) -> bool {
        matches!(self.problem.spec.normaliser, Normaliser::Sigmoid { .. })
    }

    /// Binds out and lse as asked for, with their writers.
    fn outputs(&self, source: &mut KernelSource) {
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

    fn partial_outputs(&self, source: &mut KernelSource) {
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
        source.fragment(
            "fused/store_partial.wgsl",
            include_str!("../../shaders/fused/store_partial.wgsl"),
        );
    }

    fn part_rows(&self) -> u64 {
        let rows = u64::from(self.batches()) * u64::from(self.q_heads());
        rows * u64::from(self.problem.extents.seq_len_q) * u64::from(self.parts)
    }

    fn part_outs(&self) -> Bound {
        let vecs = u64::from(self.problem.extents.value_dim.div_ceil(4));
        scratch(ScratchBytes::PART_OUTS, self.part_rows() * vecs * 16)
    }

    fn part_lses(&self) -> Bound {
        scratch(ScratchBytes::PART_LSES, self.part_rows() * 4)
    }

    fn tile_map(&self, pass: &Pass) -> Bound {
        scratch(ScratchBytes::TILE_MAP, self.row_tiles(pass) * self.map_words() * 8)
    }

    fn check_bindings(&self, source: &KernelSource) -> Result<(), PlanError> {
        if source.binding_count() <= self.limits.storage_buffers {
            return Ok(());
        }
        Err(PlanError::Limit {
            what: "the tensors of this spec in one kernel".to_owned(),
            limit: "storage buffers (max_storage_buffers_per_shader_stage)",
            needed: u64::from(source.binding_count()),
            available: u64::from(self.limits.storage_buffers),
        })
    }
}

/// The share of a pass that a dispatch does.
struct Work {
    first: u32,
    count: u32,
    kv_splits: u32,
}

fn scratch(index: usize, size: u64) -> Bound {
    Bound { slot: Slot::Scratch(index), offset: 0, size }
}

fn stand_in_params(source: &mut KernelSource, name: &str) {
    for field in ["first", "batch_stride", "head_stride", "seq_stride"] {
        source.params.u32(format!("{name}_{field}"), 0);
    }
}

pub(super) fn classify_step(context: &Context<'_>, pass: &Pass) -> Result<Step, PlanError> {
    let mut source = KernelSource::default();
    source.const_u32("WORKGROUP_SIZE", CLASSIFY_SIZE);
    source.bind("tile_map", "vec2<u32>", true, context.tile_map(pass));
    let row_tiles = context.row_tiles(pass);
    let work = Work { first: 0, count: row_tiles as u32, kv_splits: 1 };
    let checked = context.domain(&mut source, pass, &work)?;
    for name in ["q", "k", "v"] {
        stand_in_params(&mut source, name);
    }
    source.fragment("fused/classify.wgsl", include_str!("../../shaders/fused/classify.wgsl"));
    context.check_bindings(&source)?;
    let grid = fold_grid("classification", row_tiles * context.map_words(), context.limits)?;
    Ok(source.step(Launch {
        entry: "fused_classify",
        workgroup_size: CLASSIFY_SIZE,
        workgroup_bytes: 8,
        checked,
        grid,
    }))
}

pub(super) fn forward_step(
    context: &Context<'_>,
    pass: &Pass,
    first: u32,
    count: u32,
) -> Result<Step, PlanError> {
    let (p, e) = (context.problem, &context.problem.extents);
    let mut source = KernelSource::default();
    let forward = Forward {
        head_dim: e.head_dim,
        value_dim: e.value_dim,
        tiles: context.tiles,
        is_cpu: context.limits.is_cpu,
    };
    let (head_asked, value_asked) = forward.constants(&mut source);
    for (name, tensor, dim, asked) in [
        ("q", "q", e.head_dim, head_asked),
        ("k", if pass.prefix { "prefix_k" } else { "k" }, e.head_dim, head_asked),
        ("v", if pass.prefix { "prefix_v" } else { "v" }, e.value_dim, value_asked),
    ] {
        let desc = &p.tensors[tensor];
        let access = Access::of(desc);
        let element = KernelSource::row_element(desc.dtype, access);
        context.bind_rows(&mut source, name, tensor, element, false);
        source.row_reader(name, desc.dtype, access, dim, asked);
    }
    let work = Work { first, count, kv_splits: context.tiles.kv_splits() };
    let mut checked = context.domain(&mut source, pass, &work)?;
    let raw = p.spec.score.is_empty() && p.softmax_scale() > 0.0 && !context.is_sigmoid();
    source.params.u32("q_heads", e.q_heads);
    score_constants(&mut source, p.softmax_scale(), raw, context.score_may_mask());
    checked |= context.score(&mut source, pass)?;
    context.normaliser(&mut source);
    if context.parts > 1 {
        context.partial_outputs(&mut source);
    } else {
        context.outputs(&mut source);
        source.fragment(
            "fused/store_direct.wgsl",
            include_str!("../../shaders/fused/store_direct.wgsl"),
        );
    }
    if pass.by_map {
        source.bind("tile_map", "vec2<u32>", false, context.tile_map(pass));
        source.fragment(
            "fused/tiles_by_map.wgsl",
            include_str!("../../shaders/fused/tiles_by_map.wgsl"),
        );
    } else {
        source.fragment(
            "fused/tiles_by_form.wgsl",
            include_str!("../../shaders/fused/tiles_by_form.wgsl"),
        );
    }
    forward.body(&mut source);
    context.check_bindings(&source)?;
    Ok(source.step(Launch {
        entry: forward.entry(),
        workgroup_size: context.tiles.workgroup_size(),
        workgroup_bytes: context.tiles.workgroup_bytes(e.head_dim, e.value_dim),
        checked,
        grid: fold_grid("attention", u64::from(count), context.limits)?,
    }))
}

pub(super) fn partial_merge_step(context: &Context<'_>) -> Result<Step, PlanError> {
    let e = &context.problem.extents;
    let mut source = KernelSource::default();
    source.const_f32("LOWEST", f32::MIN);
    source.params.u32("batch_first", context.slice.batch.start);
    source.params.u32("head_first", context.slice.kv_heads.start * e.group_size());
    context.outputs(&mut source);
    let parts = Parts {
        parts: context.parts,
        batch: context.batches(),
        heads: context.q_heads(),
        seq_len_q: e.seq_len_q,
        value_dim: e.value_dim.next_multiple_of(4),
        dtype: Dtype::F32,
        access: Access::Vec4,
        row_stride: e.value_dim.next_multiple_of(4),
        outs: context.part_outs(),
        outs_first: 0,
        lses: (!context.is_sigmoid()).then(|| context.part_lses()),
        lses_first: 0,
    };
    merge_step(source, parts, context.limits)
}
