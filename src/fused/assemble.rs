//! The kernels of a pass: what each is made of, in order, and its launches.

use super::classify::{self, classify_source};
use super::domain::{Domain, HEAD_GATE, Part, Pass, Rows, Work};
use super::forward::{Forward, score_constants};
use super::merge::{Parts, merge_step};
use super::modifiers;
use super::outputs;
use crate::error::PlanError;
use crate::gpu::recording::{Step, fold_grid};
use crate::kernel::slices::{dispatches, workgroups_a_dispatch};
use crate::kernel::source::{Access, KernelSource, Launch, add_fragment};
use crate::tensor::Dtype;

/// The launch that finds which tiles the mask leaves empty or whole.
pub(super) fn classify_step(
    domain: &impl Domain,
    part: &Part<'_>,
    pass: &Pass,
) -> Result<Step, PlanError> {
    let classified = domain.classified();
    let mut source = classify_source(classified, part.tile_map(domain, pass));
    let row_tiles = domain.map_row_tiles(part, pass);
    domain.write(&mut source, part, pass, Work::Map { row_tiles: row_tiles as u32 });
    let checked = domain.mask(&mut source, part, pass)?;
    add_fragment!(source, "fused/gate.wgsl");
    outputs::never_gated(&mut source);
    for name in ["q", "k", "v"] {
        domain.no_rows(&mut source, name);
    }
    check_bindings(&source, part)?;
    let cut = [row_tiles, domain.map_words()];
    classify::classify_step(source, classified, cut, checked, part.call.limits)
}

/// The launches of a pass: one kernel, cut so that each ends before a watchdog looks.
pub(super) fn forward_steps<D: Domain>(
    domain: &D,
    part: &Part<'_>,
    pass: &Pass,
) -> Result<Vec<Step>, PlanError> {
    let call = part.call;
    let row_tiles = domain.row_tiles(part, pass);
    let workgroups = row_tiles.saturating_mul(call.tiles.kv_splits().into());
    let flops = || {
        let dims = f64::from(call.shape.head_dim + call.shape.value_dim);
        let keys = domain.keys_visited(part, pass) / f64::from(call.tiles.kv_splits());
        2.0 * f64::from(call.tiles.tile_q()) * keys.max(1.0) * dims
    };
    let most = workgroups_a_dispatch(flops, call.limits).min(workgroups.max(1));
    let shares = dispatches(D::NAME, workgroups, most)?;
    let (first_step, range_at) = forward_step(domain, part, pass, most as u32)?;
    let launch = |(first, count): (u32, u32)| {
        let mut step = first_step.clone();
        for (at, number) in range_at.into_iter().zip([first, first + count]) {
            step.params[at..at + 4].copy_from_slice(&number.to_le_bytes());
        }
        step.grid = fold_grid(D::NAME, count.into(), call.limits)?.into();
        Ok(step)
    };
    shares.map(launch).collect()
}

/// The first launch, of so many workgroups, and where its params say which ones they are.
fn forward_step<D: Domain>(
    domain: &D,
    part: &Part<'_>,
    pass: &Pass,
    count: u32,
) -> Result<(Step, [usize; 2]), PlanError> {
    let call = part.call;
    let forward = Forward { shape: call.shape, tiles: call.tiles, is_cpu: call.limits.is_cpu };
    let mut source = KernelSource::default();
    let asked = forward.constants(&mut source);
    inputs(domain, &mut source, part, pass, asked);
    domain.write(&mut source, part, pass, Work::Forward { first: 0, count });
    let mut checked = domain.mask(&mut source, part, pass)?;
    add_fragment!(source, "fused/gate.wgsl");
    outputs::gate(domain, &mut source, part);
    source.params.u32("q_heads", call.q_heads());
    let raw = call.score.is_empty() && call.softmax_scale > 0.0 && !call.is_sigmoid();
    let (scale, may_mask) = (call.softmax_scale, call.score_may_mask());
    score_constants(&mut source, &call.tiles, scale, raw, may_mask);
    // Halves are too small for their sums to leave f32; without a denominator, sums are the result.
    let halves = call.tensors[domain.core(pass)[2]].dtype == Dtype::F16;
    source.const_bool("MAY_OVERFLOW", !halves && !call.is_sigmoid());
    checked |= modifiers::score(domain, &mut source, part, pass)?;
    modifiers::normaliser(domain, &mut source, part);
    outputs::forward_outputs(domain, &mut source, part);
    tile_states(domain, &mut source, part, pass);
    forward.body(&mut source);
    check_bindings(&source, part)?;
    let range_at = ["workgroup_first", "workgroups"].map(|name| source.params.offset_of(name));
    let step = source.step(Launch {
        entry: forward.entry(),
        workgroup_size: call.tiles.workgroup_size(),
        workgroup_bytes: call.tiles.workgroup_bytes(call.shape),
        checked,
        grid: fold_grid(D::NAME, u64::from(count), call.limits)?,
    });
    Ok((step, range_at))
}

/// Binds q, k and v with their readers; `asked` is how far a body asks for dims of q and k, and of v.
fn inputs(
    domain: &impl Domain,
    source: &mut KernelSource,
    part: &Part<'_>,
    pass: &Pass,
    asked: (u32, u32),
) {
    let (call, core) = (part.call, domain.core(pass));
    let names = domain.core_names();
    for (index, role) in ["q", "k", "v"].into_iter().enumerate() {
        let (dim, asked) = match role {
            "v" => (call.shape.value_dim, asked.1),
            _ => (call.shape.head_dim, asked.0),
        };
        let (name, tensor) = (names[index], core[index]);
        let desc = &call.tensors[tensor];
        let access = Access::of(desc);
        let element = KernelSource::row_element(desc.dtype, access);
        domain.bind_rows(source, part, Rows { name, role, tensor, element, writes: false });
        source.row_reader(name, desc.dtype, access, dim, asked);
    }
    domain.other_keys(source, part, asked);
}

/// What says which tiles are empty, and which whole.
fn tile_states(domain: &impl Domain, source: &mut KernelSource, part: &Part<'_>, pass: &Pass) {
    if pass.by_map {
        source.bind("tile_map", "vec2<u32>", false, part.tile_map(domain, pass));
        add_fragment!(source, "fused/tiles_by_map.wgsl");
    } else {
        add_fragment!(source, "fused/tiles_by_form.wgsl");
    }
}

fn check_bindings(source: &KernelSource, part: &Part<'_>) -> Result<(), PlanError> {
    let available = part.call.limits.storage_buffers;
    if source.binding_count() <= available {
        return Ok(());
    }
    Err(PlanError::Limit {
        what: "the tensors of this spec in one kernel".to_owned(),
        limit: "storage buffers (max_storage_buffers_per_shader_stage)",
        needed: u64::from(source.binding_count()),
        available: u64::from(available),
    })
}

/// The launch that merges the partial results of a slice.
pub(super) fn partial_merge_step(domain: &impl Domain, part: &Part<'_>) -> Result<Step, PlanError> {
    let call = part.call;
    let mut source = KernelSource::default();
    source.const_f32("LOWEST", f32::MIN);
    source.params.u32("batch_first", part.slice.batch.start);
    source.params.u32("head_first", part.head_first());
    domain.places(&mut source, part);
    outputs::outputs(domain, &mut source, part);
    if call.has(HEAD_GATE) {
        outputs::bind_gate(domain, &mut source, part);
    } else {
        outputs::no_gate(&mut source);
    }
    let value_dim = call.shape.value_dim.next_multiple_of(4);
    let parts = Parts {
        parts: part.parts,
        batch: part.batches(),
        heads: part.q_heads(),
        queries: part.queries(),
        value_dim,
        dtype: Dtype::F32,
        access: Access::Vec4,
        row_stride: value_dim,
        outs: part.part_outs(),
        outs_first: 0,
        lses: (!call.is_sigmoid()).then(|| part.part_lses()),
        lses_first: 0,
    };
    merge_step(source, parts, call.limits)
}
