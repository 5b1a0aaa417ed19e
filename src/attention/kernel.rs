//! The kernels of attention: what each is made of and what it binds.

use super::bind::stand_in_params;
use super::mask::Mask;
use super::mask_wgsl;
use super::plan::Context;
use crate::error::PlanError;
use crate::fused::classify::{self, CLASSIFY_SIZE, classify_source};
use crate::fused::forward::{Forward, no_gate, score_constants};
use crate::fused::merge::{Parts, merge_step};
use crate::gpu::recording::{Step, fold_grid};
use crate::kernel::source::{Access, KernelSource, Launch, add_fragment};
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

impl Context<'_> {
    /// What classification and forward share: the domain and the mask.
    fn domain(
        &self,
        source: &mut KernelSource,
        pass: &Pass,
        work: &Work,
    ) -> Result<bool, PlanError> {
        let Work { first, count, kv_splits, head_groups } = *work;
        let (p, e) = (self.problem, &self.problem.extents);
        let mask = if pass.prefix { &Mask::Full } else { &p.spec.mask };
        source.const_u32("TILE_Q", self.tiles.tile_q());
        source.const_u32("TILE_KV", self.tiles.tile_kv());
        source.const_u32("GROUP_SIZE", e.group_size());
        source.const_u32("GROUP_ROWS", pass.group_rows);
        source.const_bool("BATCH_ROWS", pass.prefix);
        source.const_bool("HAS_Q_OFFSET", p.spec.q_offset.is_some());
        source.const_bool("EVERY_TILE_FULL", self.every_tile_is_full(pass));
        source.const_bool("MASK_BY_HEAD", mask_wgsl::traits(mask).by_head);
        source.params.u32("workgroup_first", first);
        source.params.u32("workgroups", first + count);
        source.params.u32("kv_splits", kv_splits);
        source.params.u32("part_first", pass.part_first);
        source.params.u32("batch_first", self.slice.batch.start);
        source.params.u32("kv_head_first", self.slice.kv_heads.start);
        let [map_by_batch, map_by_head] = self.map_differs;
        source.const_bool("MAP_BY_BATCH", map_by_batch);
        source.const_bool("MAP_BY_HEAD", map_by_head);
        source.params.u32("head_groups", head_groups);
        source.params.u32("q_tiles", self.q_tiles(pass) as u32);
        source.params.u32("rows", self.rows(pass) as u32);
        source.params.u32("seq_len_q", e.seq_len_q);
        source.params.u32("seq_len_kv", e.seq_len_kv);
        source.params.u32("prefix_len", e.prefix_len);
        source.params.u32("map_words", self.map_words() as u32);
        source.params.i32("q_offset", p.spec.q_offset.unwrap_or(0));
        self.queries(source);
        self.keys(source, pass.prefix);
        let len = if pass.prefix { "params.prefix_len" } else { "own_len(b)" };
        source.accessor(&format!("fn kv_len(b: u32) -> u32 {{ return {len}; }}\n"));
        add_fragment!(source, "fused/domain_dense.wgsl");
        let checked = if pass.prefix { false } else { self.mask_sides(source)? };
        mask_wgsl::write(source, p, mask);
        Ok(checked)
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
    head_groups: u32,
}

pub(super) fn classify_step(context: &Context<'_>, pass: &Pass) -> Result<Step, PlanError> {
    // Lanes side by side read neighbouring elements of a dense mask.
    let key_lanes = context.tiles.tile_kv().next_power_of_two().min(CLASSIFY_SIZE);
    let mut source = classify_source(key_lanes, context.tile_map(pass));
    let row_tiles = context.map_row_tiles(pass);
    let head_groups = context.map_head_groups(pass);
    let work = Work { first: 0, count: row_tiles as u32, kv_splits: 1, head_groups };
    let checked = context.domain(&mut source, pass, &work)?;
    source.const_bool("GATE_SKIPS", false);
    no_gate(&mut source);
    for name in ["q", "k", "v"] {
        stand_in_params(&mut source, name);
    }
    context.check_bindings(&source)?;
    classify::classify_step(source, row_tiles * context.map_words(), checked, context.limits)
}

pub(super) fn forward_step(
    context: &Context<'_>,
    pass: &Pass,
    first: u32,
    count: u32,
) -> Result<Step, PlanError> {
    let (p, e) = (context.problem, &context.problem.extents);
    let mut source = KernelSource::default();
    let forward =
        Forward { shape: p.fused_shape(), tiles: context.tiles, is_cpu: context.limits.is_cpu };
    let (head_asked, value_asked) = forward.constants(&mut source);
    let [_, keys, values] = p.storage.core();
    for (name, tensor, dim, asked) in [
        ("q", "q", e.head_dim, head_asked),
        ("k", if pass.prefix { "prefix_k" } else { keys }, e.head_dim, head_asked),
        ("v", if pass.prefix { "prefix_v" } else { values }, e.value_dim, value_asked),
    ] {
        let desc = &p.tensors[tensor];
        let access = Access::of(desc);
        let element = KernelSource::row_element(desc.dtype, access);
        context.bind_rows(&mut source, name, tensor, element, false);
        source.row_reader(name, desc.dtype, access, dim, asked);
    }
    let (kv_splits, head_groups) = (context.tiles.kv_splits(), context.head_groups(pass));
    let work = Work { first, count, kv_splits, head_groups };
    let mut checked = context.domain(&mut source, pass, &work)?;
    source.const_bool("GATE_SKIPS", context.gate_skips());
    if context.parts == 1 || context.gate_skips() {
        context.gate(&mut source);
    } else {
        no_gate(&mut source);
    }
    let raw = p.spec.score.is_empty() && p.softmax_scale() > 0.0 && !context.is_sigmoid();
    source.params.u32("q_heads", e.q_heads);
    score_constants(&mut source, &context.tiles, p.softmax_scale(), raw, context.score_may_mask());
    checked |= context.score(&mut source, pass)?;
    context.normaliser(&mut source);
    if context.parts > 1 {
        context.partial_outputs(&mut source);
    } else {
        context.outputs(&mut source);
        add_fragment!(source, "fused/store_direct.wgsl");
    }
    if pass.by_map {
        source.bind("tile_map", "vec2<u32>", false, context.tile_map(pass));
        add_fragment!(source, "fused/tiles_by_map.wgsl");
    } else {
        add_fragment!(source, "fused/tiles_by_form.wgsl");
    }
    forward.body(&mut source);
    context.check_bindings(&source)?;
    Ok(source.step(Launch {
        entry: forward.entry(),
        workgroup_size: context.tiles.workgroup_size(),
        workgroup_bytes: context.tiles.workgroup_bytes(p.fused_shape()),
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
    context.gate(&mut source);
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
