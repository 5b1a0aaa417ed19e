//! Cutting a call so that bindings fit the device and dispatches end before a watchdog does.

use std::ops::Range;

use crate::error::PlanError;
use crate::gpu::limits::GpuLimits;
use crate::gpu::recording::check_step_count;

/// Work of one dispatch, in floating-point operations: about a second on a slow GPU, whose watchdog would end more.
const DISPATCH_FLOPS: f64 = 1e11;

/// A range along each of three axes; those that are not there come first and have one index.
pub(crate) type Ranges = [Range<u32>; 3];

/// Batches, key heads, queries and keys that are computed together. What a binding covers follows from the axes of its tensor.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Slice {
    pub batch: Range<u32>,
    pub kv_heads: Range<u32>,
    /// Query heads of each group that shares a key head; all of them where there are several groups.
    pub group: Range<u32>,
    pub queries: Ranges,
    /// Keys of a pass; their axes are the domain's own.
    pub keys: Ranges,
}

/// How many indices of each axis a call has, or a slice at most.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Cut {
    pub batches: u32,
    pub kv_heads: u32,
    /// Query heads that share a key head.
    pub group: u32,
    pub queries: [u32; 3],
    pub keys: [u32; 3],
}

/// What the largest slice of a cut binds: names and bytes, and the extents of its keys.
pub(crate) struct Bindings {
    pub bytes: Vec<(String, u64)>,
    pub keys: [u32; 3],
}

impl Bindings {
    /// Bytes of the binding of this name.
    fn bytes_of(&self, name: &str) -> u64 {
        self.bytes.iter().find(|(known, _)| known == name).map_or(0, |(_, bytes)| *bytes)
    }
}

/// What cutting an axis in halves spares of a binding at least, one over so much: a quarter, or where no axis does, little.
const LEAST_SPARED: [u64; 2] = [4, 16];

impl Slice {
    /// Its query heads, of groups of so many.
    pub fn q_heads(&self, group_size: u32) -> Range<u32> {
        let last = self.kv_heads.end.saturating_sub(1);
        self.kv_heads.start * group_size + self.group.start..last * group_size + self.group.end
    }
}

impl Cut {
    /// The largest slices whose bindings all fit. The largest binding is cut in halves along the axis that spares most of it,
    /// the first of equals; along keys, whose parts must be merged, only where no axis of rows spares enough. Keys are cut at
    /// multiples of `key_units`. `way_out` says what a caller can do where a binding cannot be cut.
    ///
    /// # Errors
    /// [`PlanError::Limit`] naming a binding that no axis makes small enough.
    pub fn fitting(
        whole: Self,
        key_units: [u32; 3],
        available: u64,
        bindings: impl Fn(&Self) -> Bindings,
        way_out: impl Fn(&str) -> String,
    ) -> Result<Self, PlanError> {
        let mut cut = whole;
        loop {
            let bound = bindings(&cut);
            check_step_count("passes over keys", cut.passes(bound.keys))?;
            let Some((name, needed)) = bound.bytes.iter().max_by_key(|(_, bytes)| *bytes) else {
                return Ok(cut);
            };
            if *needed <= available {
                return Ok(cut);
            }
            let best = |cuts: Vec<Self>| {
                let sized = cuts.into_iter().map(|cut| (bindings(&cut).bytes_of(name), cut));
                sized.min_by_key(|(bytes, _)| *bytes)
            };
            let halves = [best(cut.of_rows()), best(cut.of_keys(bound.keys, key_units))];
            let spares = |least: u64| {
                let most = needed - needed.div_ceil(least);
                halves.into_iter().flatten().find(|(bytes, _)| *bytes <= most)
            };
            let next = LEAST_SPARED.into_iter().find_map(spares);
            (_, cut) = next.ok_or_else(|| PlanError::Limit {
                what: format!("{name} of the smallest slice ({})", way_out(name)),
                limit: "bytes of one binding (max_storage_buffer_binding_size)",
                needed: *needed,
                available,
            })?;
        }
    }

    /// With half of an axis of rows, each in turn.
    fn of_rows(&self) -> Vec<Self> {
        let mut cuts = vec![
            Self { batches: self.batches.div_ceil(2), ..*self },
            Self { kv_heads: self.kv_heads.div_ceil(2), ..*self },
        ];
        if self.kv_heads == 1 {
            cuts.push(Self { group: self.group.div_ceil(2), ..*self });
        }
        for axis in 0..3 {
            let mut cut = *self;
            cut.queries[axis] = cut.queries[axis].div_ceil(2);
            cuts.push(cut);
        }
        cuts
    }

    /// With half of an axis of keys, of which a slice has so many, each in turn.
    fn of_keys(&self, keys: [u32; 3], units: [u32; 3]) -> Vec<Self> {
        let half_of = |axis: usize| {
            let (mut cut, most) = (*self, self.keys[axis].min(keys[axis]));
            let half = most.div_ceil(2).checked_next_multiple_of(units[axis].max(1));
            cut.keys[axis] = half.unwrap_or(most).min(self.keys[axis]);
            cut
        };
        (0..3).map(half_of).collect()
    }

    /// Passes over so many keys, at most.
    fn passes(&self, keys: [u32; 3]) -> u64 {
        let pieces = |axis: usize| u64::from(keys[axis].div_ceil(self.keys[axis].max(1)));
        (0..3).fold(1, |passes: u64, axis| passes.saturating_mul(pieces(axis)))
    }
}

/// The slices of a call of these extents, none larger than `cut`, each with all keys.
///
/// # Errors
/// [`PlanError::Limit`] where they are more than a call has dispatches.
pub(crate) fn slices(whole: &Cut, cut: &Cut) -> Result<impl Iterator<Item = Slice>, PlanError> {
    let axes = |it: &Cut| {
        let [x, y, z] = it.queries;
        [it.batches, it.kv_heads, it.group, x, y, z]
    };
    let counts = axes(whole).into_iter().zip(axes(cut));
    let count = counts.fold(1_u64, |count, (extent, step)| {
        count.saturating_mul(extent.div_ceil(step.max(1)).into())
    });
    check_step_count("slices whose bindings fit", count)?;
    let mut all: Vec<[Range<u32>; 6]> = vec![Default::default()];
    for (axis, (extent, step)) in axes(whole).into_iter().zip(axes(cut)).enumerate() {
        let with = |slice: &[Range<u32>; 6]| {
            let mut slice = slice.clone();
            pieces(0..extent, step).map(move |range| {
                slice[axis] = range;
                slice.clone()
            })
        };
        all = all.iter().flat_map(with).collect();
    }
    let keys = whole.keys.map(|extent| 0..extent);
    let slice = move |[batch, kv_heads, group, x, y, z]: [Range<u32>; 6]| Slice {
        batch,
        kv_heads,
        group,
        queries: [x, y, z],
        keys: keys.clone(),
    };
    Ok(all.into_iter().map(slice))
}

/// A range cut into pieces of `step` indices.
pub(crate) fn pieces(of: Range<u32>, step: u32) -> impl Iterator<Item = Range<u32>> + Clone {
    let (first, end) = (of.start, of.end);
    (first..end)
        .step_by(step.max(1) as usize)
        .map(move |first| first..first.saturating_add(step.max(1)).min(end))
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

/// Refuses so many floating-point operations before they are planned, where they are more than the dispatches of one call do.
///
/// # Errors
/// [`PlanError::Limit`] with both numbers of dispatches.
pub(crate) fn check_work(what: &str, flops: f64) -> Result<(), PlanError> {
    check_step_count(what, (flops / DISPATCH_FLOPS) as u64)
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
        let whole = Cut { batches: 1 << 20, kv_heads: 1, group: 1, queries: [1; 3], keys: [1; 3] };
        let small = |cut: &Cut| {
            let bytes = vec![("q".to_owned(), u64::from(cut.batches) << 24)];
            Bindings { bytes, keys: [1; 3] }
        };
        let floor = GpuLimits::floor().storage_binding_bytes;
        let cut = Cut::fitting(whole, [1; 3], floor, small, |_| String::new()).unwrap();
        let Err(error) = slices(&whole, &cut) else { panic!("{cut:?}") };
        let error = error.to_string();
        assert!(error.contains("slices whose bindings fit: needs 131072"), "{error}");
    }
}
