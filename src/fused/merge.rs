//! The kernel that merges partial results, for split keys, shared prefixes and the public operator.

use crate::error::PlanError;
use crate::gpu::limits::GpuLimits;
use crate::gpu::recording::{Bound, Step, fold_grid};
use crate::kernel::source::{Access, KernelSource, Launch, add_fragment};
use crate::tensor::Dtype;

/// Parts to merge: `[parts, rows, dim]`, rows being `[batch, heads, queries]` of a slice.
pub(crate) struct Parts {
    pub parts: u32,
    pub batch: u32,
    pub heads: u32,
    pub queries: u32,
    pub value_dim: u32,
    pub dtype: Dtype,
    pub access: Access,
    /// Elements between rows of outs.
    pub row_stride: u32,
    pub outs: Bound,
    pub outs_first: u32,
    pub lses: Option<Bound>,
    pub lses_first: u32,
}

const WORKGROUP_SIZE: u32 = 64;

/// Closes a source that has its outputs (`out_row`, `out_store4`, `lse_row`, `lse_store`, `head_gate`, the HAS constants) and `place_of`
/// already.
pub(crate) fn merge_step(
    mut source: KernelSource,
    parts: Parts,
    limits: &GpuLimits,
) -> Result<Step, PlanError> {
    let Parts { batch, heads, queries, value_dim, dtype, access, row_stride, .. } = parts;
    let rows = u64::from(batch) * u64::from(heads) * u64::from(queries);
    let value_vecs = value_dim.div_ceil(4);
    source.const_u32("WORKGROUP_SIZE", WORKGROUP_SIZE);
    source.const_u32("VALUE_VECS", value_vecs);
    source.const_u32("PARTS_ASKED", if limits.is_cpu { 1 } else { 4 });
    source.const_bool("PLAIN_SUM", parts.lses.is_none());
    source.params.u32("parts", parts.parts);
    let share = 1.0 / u64::from(parts.parts).next_power_of_two() as f32;
    source.params.f32("part_share", share);
    source.params.u32("rows", rows as u32);
    source.params.u32("heads", heads);
    source.params.u32("queries", queries);
    source.params.u32("outs_first", parts.outs_first);
    source.params.u32("outs_part_stride", (rows as u32).wrapping_mul(row_stride));
    source.params.u32("outs_row_stride", row_stride);
    source.params.u32("lses_first", parts.lses_first);
    source.params.u32("lses_part_stride", rows as u32);
    source.bind("outs", KernelSource::row_element(dtype, access), false, parts.outs);
    source.row_reader("outs", dtype, access, value_dim, value_vecs * 4);
    let lse = match parts.lses {
        Some(lses) => {
            source.bind("lses", "u32", false, lses);
            "lses[params.lses_first + part * params.lses_part_stride + row]"
        }
        None => "0u",
    };
    source.accessor(&format!("fn part_lse(part: u32, row: u32) -> u32 {{ return {lse}; }}\n"));
    add_fragment!(source, "common/nan.wgsl");
    add_fragment!(source, "fused/merge.wgsl");
    let lanes = rows * u64::from(value_vecs);
    let grid = fold_grid("merge", lanes.div_ceil(u64::from(WORKGROUP_SIZE)), limits)?;
    Ok(source.step(Launch {
        entry: "fused_merge",
        workgroup_size: WORKGROUP_SIZE,
        workgroup_bytes: 0,
        checked: false,
        grid,
    }))
}
