//! How kernels around the matmuls begin and end: headers, entry points, grids.

use super::context::Context;
use crate::error::PlanError;
use crate::gpu::recording::{Step, fold_grid};
use crate::kernel::slices::workgroups_a_dispatch;
use crate::kernel::source::{KernelSource, Launch};
use crate::kernel::template::template;

/// Lanes of a workgroup where nothing else decides.
pub(super) const WORKGROUP_SIZE: u32 = 64;

/// Closes a kernel.
pub(super) fn close(
    source: KernelSource,
    entry: &'static str,
    workgroup_size: u32,
    workgroup_bytes: u32,
    grid: [u32; 3],
) -> Step {
    source.step(Launch { entry, workgroup_size, workgroup_bytes, checked: false, grid })
}

/// A kernel whose header says its workgroup size, and what stands for no expert, row or token.
pub(super) fn kernel(workgroup_size: u32) -> KernelSource {
    let mut source = KernelSource::default();
    source.const_u32("WORKGROUP_SIZE", workgroup_size);
    source.const_u32("NONE", u32::MAX);
    source
}

/// An entry point that makes a call, of the workgroup's `index` and the `lane`.
pub(super) fn entry(source: &mut KernelSource, name: &str, call: &str) {
    source.fragment("entry", template!("moe/entry.wgsl", "NAME" = name, "CALL" = call));
}

/// Dispatches of a kernel that would keep a slow device busy for too long in one: `step` makes one of them from its
/// first workgroup, which is a param, and its grid.
pub(super) fn in_spans(
    context: &Context<'_>,
    what: &str,
    workgroups: u64,
    flops: f64,
    step: impl Fn(u32, [u32; 3]) -> Result<Step, PlanError>,
) -> Result<Vec<Step>, PlanError> {
    fold_grid(what, workgroups, context.limits)?;
    let most = workgroups_a_dispatch(|| flops, context.limits).min(workgroups.max(1));
    let span = |first: u64| {
        let grid = fold_grid(what, most.min(workgroups - first), context.limits)?;
        step(first as u32, grid)
    };
    (0..workgroups).step_by(most as usize).map(span).collect()
}

/// Workgroups for `lanes` of work.
pub(super) fn lanes(
    context: &Context<'_>,
    what: &str,
    lanes: u64,
    workgroup_size: u32,
) -> Result<[u32; 3], PlanError> {
    fold_grid(what, lanes.div_ceil(u64::from(workgroup_size)), context.limits)
}
