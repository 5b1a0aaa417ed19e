//! Which keys a window holds, one axis at a time, as plans and the simulator count them.

use std::ops::Range;

use serde::Serialize;

/// One axis of a neighborhood, checked: `1 ≤ stride ≤ window`, `window · dilation ≤ extent`.
///
/// Tokens of one dilation class (equal `x mod dilation`) see only each other. Within a class everything is in in-class
/// indices `x div dilation`, where dilated neighbours lie side by side.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
pub struct Axis {
    /// Tokens along it.
    pub extent: u32,
    /// Keys a query sees.
    pub window: u32,
    /// Queries that share a window.
    pub stride: u32,
    /// Distance between a window's keys; number of classes.
    pub dilation: u32,
    /// No key after the query.
    pub causal: bool,
    /// At borders the window loses what lies outside, instead of shifting inward.
    pub clip: bool,
}

impl Axis {
    /// An axis that is not there: one token.
    pub const ONE: Self =
        Self { extent: 1, window: 1, stride: 1, dilation: 1, causal: false, clip: false };

    /// Tokens of class `class`, of which there are `dilation`.
    pub const fn class_len(&self, class: u32) -> u32 {
        (self.extent - class).div_ceil(self.dilation)
    }

    /// Keys that query `index` of a class of `len` tokens sees, in-class indices all. Both ends never fall as `index` rises.
    pub fn window(&self, len: u32, index: u32) -> Range<u32> {
        let group = index / self.stride * self.stride;
        if self.causal {
            let leader = (group + self.stride - 1).min(len - 1);
            return (leader + 1).saturating_sub(self.window)..(index + 1).min(len);
        }
        let leader = (group + self.stride / 2).min(len - 1);
        let start = leader.saturating_sub(self.window / 2);
        if self.clip {
            return start..(leader + self.window.div_ceil(2)).min(len);
        }
        let start = start.min(len - self.window);
        start..start + self.window
    }

    /// Keys that some query of `queries` sees.
    pub fn hull(&self, len: u32, queries: &Range<u32>) -> Range<u32> {
        self.window(len, queries.start).start..self.window(len, queries.end - 1).end
    }

    /// Keys that every query of `queries` sees; may be empty.
    pub fn common(&self, len: u32, queries: &Range<u32>) -> Range<u32> {
        self.window(len, queries.end - 1).start..self.window(len, queries.start).end
    }

    /// The most keys that `queries` neighbouring queries may see together.
    pub fn most_keys(&self, queries: u32) -> u32 {
        // Groups that they touch beside the first, each moving the window by a stride.
        let moves = (queries + self.stride - 2) / self.stride;
        let hull = u64::from(self.window) + u64::from(moves) * u64::from(self.stride);
        hull.min(u64::from(self.class_len(0))) as u32
    }

    /// Boxes of `side` queries along the axis, for the longest class.
    pub const fn boxes(&self, side: u32) -> u32 {
        self.class_len(0).div_ceil(side)
    }

    /// Scores that the axis asks for: the sum of all windows' keys.
    pub fn needed(&self) -> u64 {
        let of_class = |class| {
            let len = self.class_len(class);
            (0..len).map(|index| self.window(len, index).len() as u64).sum::<u64>()
        };
        self.by_class(of_class)
    }

    /// The sum over classes of what depends on a class's length alone: there are at most two lengths.
    pub fn by_class(&self, of_class: impl Fn(u32) -> u64) -> u64 {
        let long = (self.extent - 1) % self.dilation + 1;
        let short = self.dilation - long;
        let mut sum = u64::from(long) * of_class(0);
        if short > 0 {
            sum += u64::from(short) * of_class(long);
        }
        sum
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::neighborhood::reference::visible;

    fn axis(extent: u32, window: u32, stride: u32, dilation: u32, causal: bool) -> Axis {
        Axis { extent, window, stride, dilation, causal, clip: false }
    }

    fn windows(axis: Axis) -> Vec<(u32, u32)> {
        (0..axis.extent).map(|i| axis.window(axis.extent, i)).map(|w| (w.start, w.end)).collect()
    }

    /// Every axis with at most ten tokens.
    fn small_axes() -> impl Iterator<Item = Axis> {
        let of_extent = |extent: u32| {
            let sizes = (1..=extent).flat_map(move |window| {
                (1..=window).flat_map(move |stride| {
                    (1..=extent / window).map(move |dilation| (window, stride, dilation))
                })
            });
            sizes.flat_map(move |(window, stride, dilation)| {
                [(false, false), (false, true), (true, false), (true, true)].into_iter().map(
                    move |(causal, clip)| Axis { extent, window, stride, dilation, causal, clip },
                )
            })
        };
        (1..=10).flat_map(of_extent)
    }

    #[test]
    fn the_contracts_worked_examples_hold() {
        let expected = [(0, 4), (0, 4), (0, 4), (1, 5), (2, 6), (3, 7), (4, 8), (4, 8)];
        assert_eq!(windows(axis(8, 4, 1, 1, false)), expected);
        let expected = [(0, 4), (0, 4), (1, 5), (1, 5), (3, 7), (3, 7), (4, 8), (4, 8)];
        assert_eq!(windows(axis(8, 4, 2, 1, false)), expected);
        let expected = [(0, 5), (0, 5), (0, 5), (2, 7), (2, 7), (2, 7), (3, 8), (3, 8)];
        assert_eq!(windows(axis(8, 5, 3, 1, false)), expected);
        let expected = [(0, 1), (0, 2), (0, 3), (0, 4), (2, 5), (2, 6), (4, 7), (4, 8)];
        assert_eq!(windows(axis(8, 4, 2, 1, true)), expected);
        let dilated = axis(10, 3, 1, 3, false);
        for (x, keys) in
            [(0, [0, 3, 6]), (3, [0, 3, 6]), (6, [3, 6, 9]), (9, [3, 6, 9]), (4, [1, 4, 7])]
        {
            let seen = visible(&dilated, x);
            assert_eq!(seen, keys.map(|key| key as usize), "token {x}");
        }
    }

    #[test]
    fn every_small_window_is_the_references() {
        for axis in small_axes() {
            for x in 0..axis.extent {
                let (class, len) = (x % axis.dilation, axis.class_len(x % axis.dilation));
                let window = axis.window(len, x / axis.dilation);
                let tokens: Vec<usize> =
                    window.map(|j| (class + axis.dilation * j) as usize).collect();
                assert_eq!(tokens, visible(&axis, x as usize), "token {x} of {axis:?}");
            }
        }
    }

    #[test]
    fn every_small_window_is_sound() {
        for axis in small_axes() {
            for x in 0..axis.extent as usize {
                let keys = visible(&axis, x);
                let window = axis.window as usize;
                assert!(
                    !keys.is_empty() && keys.len() <= window,
                    "token {x} of {axis:?}: {keys:?}"
                );
                assert!(
                    keys.iter()
                        .all(|key| key % axis.dilation as usize == x % axis.dilation as usize)
                );
                if axis.causal {
                    assert!(
                        keys.contains(&x) && keys.iter().all(|key| *key <= x),
                        "{x} of {axis:?}"
                    );
                } else if !axis.clip {
                    assert_eq!(keys.len(), window, "token {x} of {axis:?}");
                }
                if axis.stride == 1 {
                    assert!(keys.contains(&x), "token {x} of {axis:?} does not see itself");
                }
            }
        }
    }

    #[test]
    fn hulls_have_no_holes_and_their_bound_holds() {
        for axis in small_axes() {
            let len = axis.class_len(0);
            for first in 0..len {
                for end in first + 1..=len {
                    let queries = first..end;
                    let hull = axis.hull(len, &queries);
                    let seen =
                        |key: &u32| queries.clone().any(|i| axis.window(len, i).contains(key));
                    assert!(hull.clone().all(|key| seen(&key)), "{queries:?} of {axis:?}");
                    assert!(!(0..len).any(|key| seen(&key) && !hull.contains(&key)));
                    assert!(
                        hull.len() as u32 <= axis.most_keys(end - first),
                        "{queries:?} of {axis:?}"
                    );
                    let common = axis.common(len, &queries);
                    let by_all =
                        |key: u32| queries.clone().all(|i| axis.window(len, i).contains(&key));
                    assert!((0..len).all(|key| by_all(key) == common.contains(&key)));
                }
            }
            assert_eq!(
                axis.needed(),
                (0..axis.extent as usize).map(|x| visible(&axis, x).len() as u64).sum::<u64>()
            );
        }
    }
}
