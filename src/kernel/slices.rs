//! Cutting a call so that bindings fit the device and dispatches end before a watchdog does.

use std::ops::Range;

use crate::error::PlanError;
use crate::gpu::limits::GpuLimits;
use crate::gpu::recording::check_step_count;

/// Work of one dispatch, in floating-point operations: about a second on a slow GPU, whose watchdog would end more.
const DISPATCH_FLOPS: f64 = 1e11;

/// Batches and key heads that are computed together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Slice {
    pub batch: Range<u32>,
    pub kv_heads: Range<u32>,
}

/// The fewest slices whose bindings all fit; `largest_binding` names the largest of a slice and its bytes.
pub(crate) fn slices(
    batches: u32,
    kv_heads: u32,
    limits: &GpuLimits,
    largest_binding: impl Fn(&Slice) -> (String, u64),
) -> Result<Vec<Slice>, PlanError> {
    let (mut batch_step, mut head_step) = (batches.max(1), kv_heads.max(1));
    loop {
        // The last slice is never larger than the first, and strides only make later ones start elsewhere.
        let first = Slice { batch: 0..batch_step, kv_heads: 0..head_step };
        match largest_binding(&first) {
            (_, bytes) if bytes <= limits.storage_binding_bytes => break,
            (what, needed) if batch_step == 1 && head_step == 1 => {
                return Err(PlanError::Limit {
                    what: format!("{what} of a single head"),
                    limit: "bytes of one binding (max_storage_buffer_binding_size)",
                    needed,
                    available: limits.storage_binding_bytes,
                });
            }
            _ if batch_step > 1 => batch_step = batch_step.div_ceil(2),
            _ => head_step = head_step.div_ceil(2),
        }
    }
    let count = [(batches, batch_step), (kv_heads, head_step)];
    let count = count.map(|(extent, step)| u64::from(extent.div_ceil(step)));
    check_step_count("slices whose bindings fit", count[0] * count[1])?;
    let cut = |extent: u32, step: u32| {
        (0..extent)
            .step_by(step as usize)
            .map(move |first| first..first.saturating_add(step).min(extent))
    };
    let heads = |batch: Range<u32>| {
        cut(kv_heads, head_step).map(move |kv_heads| Slice { batch: batch.clone(), kv_heads })
    };
    Ok(cut(batches, batch_step).flat_map(heads).collect())
}

/// First workgroup and number of workgroups of each dispatch, of `most` at most.
///
/// # Errors
/// [`PlanError::Limit`] where they are more than kernels count, or dispatches more than a call may have.
pub(crate) fn dispatches(
    what: &str,
    workgroups: u64,
    most: u64,
) -> Result<impl Iterator<Item = (u32, u32)>, PlanError> {
    if workgroups > u64::from(u32::MAX) {
        return Err(PlanError::Limit {
            what: what.to_owned(),
            limit: "workgroups that kernels count",
            needed: workgroups,
            available: u32::MAX.into(),
        });
    }
    check_step_count(what, workgroups.div_ceil(most))?;
    let share = move |first: u64| (first as u32, (workgroups - first).min(most) as u32);
    Ok((0..workgroups).step_by(most as usize).map(share))
}

/// Workgroups that one dispatch may have when each does `flops` operations, which are counted only where they matter.
pub(crate) fn workgroups_a_dispatch(flops: impl FnOnce() -> f64, limits: &GpuLimits) -> u64 {
    if limits.is_cpu {
        return u64::from(u32::MAX); // no watchdog looks after a processor
    }
    ((DISPATCH_FLOPS / flops()) as u64).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dispatches_follow_each_other_and_end_with_the_work() {
        let shares: Vec<(u32, u32)> = dispatches("k", 10, 4).unwrap().collect();
        assert_eq!(shares, [(0, 4), (4, 4), (8, 2)]);
        assert_eq!(dispatches("k", 0, 4).unwrap().count(), 0);
    }

    #[test]
    fn more_work_than_a_call_has_is_refused_before_it_is_planned() {
        let refused = |workgroups, most| match dispatches("k", workgroups, most) {
            Ok(_) => panic!("{workgroups} workgroups are planned"),
            Err(error) => error.to_string(),
        };
        assert_eq!(
            refused(1 << 20, 1),
            "k: needs 1048576 dispatches of one call, the device has 16384"
        );
        assert!(refused(1 << 33, 1 << 32).contains("8589934592 workgroups that kernels count"));
        let small = |slice: &Slice| ("q".to_owned(), u64::from(slice.batch.end) << 24);
        let error = slices(1 << 20, 1, &GpuLimits::floor(), small).unwrap_err().to_string();
        assert!(error.contains("slices whose bindings fit: needs 131072"), "{error}");
    }
}
