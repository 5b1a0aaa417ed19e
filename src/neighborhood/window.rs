//! Which keys a window holds, one axis at a time, as plans and the simulator count them.

use std::ops::Range;

use serde::{Deserialize, Serialize};

/// What a window does at the border; a causal axis does not tell the two apart.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum Border {
    /// It shifts inward: every query sees the whole window's number of keys.
    #[default]
    Shift,
    /// It stays where its group's middle puts it, and loses what lies outside.
    Clip,
}

/// One axis of a neighborhood, checked: `1 ≤ stride ≤ window`, `group_offset < stride`, `window · dilation ≤ extent`.
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
    /// Where the first whole group of them begins in a class, below the stride.
    pub group_offset: u32,
    /// Distance between a window's keys; number of classes.
    pub dilation: u32,
    /// No key after the query.
    pub causal: bool,
    /// At borders the window loses what lies outside, instead of shifting inward.
    pub clip: bool,
}

impl Axis {
    /// An axis that is not there: one token.
    pub const ONE: Self = Self {
        extent: 1,
        window: 1,
        stride: 1,
        group_offset: 0,
        dilation: 1,
        causal: false,
        clip: false,
    };

    /// Tokens of class `class`, of which there are `dilation`.
    pub const fn class_len(&self, class: u32) -> u32 {
        (self.extent - class).div_ceil(self.dilation)
    }

    /// Places by which the first group begins before the class.
    pub const fn group_pad(&self) -> u32 {
        (self.stride - self.group_offset) % self.stride
    }

    /// Keys that query `index` of a class of `len` tokens sees, in-class indices all. Both ends never fall as `index` rises.
    pub fn window(&self, len: u32, index: u32) -> Range<u32> {
        let pad = self.group_pad();
        let group = (index + pad) / self.stride * self.stride; // `pad` places up: it may begin before the class
        if self.causal {
            let leader = (group + self.stride - 1 - pad).min(len - 1);
            return (leader + 1).saturating_sub(self.window)..(index + 1).min(len);
        }
        let middle = group + self.stride / 2;
        if self.clip {
            // Groups at an offset keep their middle where a border cuts them, as shifted windows want it.
            let middle = if pad == 0 { middle.min(len - 1) } else { middle };
            let start = middle.saturating_sub(self.window / 2 + pad);
            return start..(middle + self.window.div_ceil(2) - pad).min(len);
        }
        let leader = middle.saturating_sub(pad).min(len - 1);
        let start = leader.saturating_sub(self.window / 2).min(len - self.window);
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

    /// The most keys that a box of `side` queries, cut as [`Axis::query_boxes`] does, may see.
    pub fn most_keys(&self, side: u32) -> u32 {
        // Groups that it touches beside the first, each moving the window by a stride. Boxes keep step with the groups.
        let divides = side.is_multiple_of(self.stride) || self.stride.is_multiple_of(side);
        let moves =
            if divides { (side - 1) / self.stride } else { (side + self.stride - 2) / self.stride };
        let hull = u64::from(self.window) + u64::from(moves) * u64::from(self.stride);
        hull.min(u64::from(self.class_len(0))) as u32
    }

    /// Boxes of `side` queries along the axis, for the longest class.
    pub const fn boxes(&self, side: u32) -> u32 {
        (self.class_len(0) + self.box_pad(side)).div_ceil(side)
    }

    /// Places by which the first box of `side` queries begins before the class: boxes keep step with the groups.
    pub const fn box_pad(&self, side: u32) -> u32 {
        self.group_pad() % side
    }

    /// The boxes of `side` queries that a class of `len` tokens is cut into.
    pub fn query_boxes(&self, len: u32, side: u32) -> impl Iterator<Item = Range<u32>> {
        let pad = self.box_pad(side);
        let from = move |place: u32| {
            place.saturating_sub(pad)..(place.saturating_add(side) - pad).min(len)
        };
        (0..len + pad).step_by(side as usize).map(from)
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

/// Axes as three, those that are not there before the others.
pub(super) fn axes3(axes: &[Axis]) -> [Axis; 3] {
    let mut three = [Axis::ONE; 3];
    three[3 - axes.len()..].copy_from_slice(axes);
    three
}

#[cfg(all(test, feature = "reference"))]
mod tests {
    use super::*;
    use crate::neighborhood::reference::visible;

    fn axis(extent: u32, window: u32, stride: u32, dilation: u32, causal: bool) -> Axis {
        Axis { extent, window, stride, dilation, causal, ..Axis::ONE }
    }

    fn windows(axis: Axis) -> Vec<(u32, u32)> {
        (0..axis.extent).map(|i| axis.window(axis.extent, i)).map(|w| (w.start, w.end)).collect()
    }

    /// Every axis with at most ten tokens.
    fn small_axes() -> impl Iterator<Item = Axis> {
        let of_extent = |extent: u32| {
            let sizes = (1..=extent).flat_map(move |window| {
                (1..=window).flat_map(move |stride| {
                    let offsets =
                        (0..stride).map(move |group_offset| (window, stride, group_offset));
                    offsets.flat_map(move |groups| {
                        (1..=extent / window).map(move |dilation| (groups, dilation))
                    })
                })
            });
            sizes.flat_map(move |((window, stride, group_offset), dilation)| {
                [(false, false), (false, true), (true, false), (true, true)].into_iter().map(
                    move |(causal, clip)| Axis {
                        extent,
                        window,
                        stride,
                        group_offset,
                        dilation,
                        causal,
                        clip,
                    },
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

    /// Swin's shifted windows, as that paper's code builds them: roll the image back by the shift, cut it into windows,
    /// and let a token see those of its window that come from the same region of the image.
    #[test]
    fn half_a_window_of_offset_is_swins_shifted_window() {
        for (extent, window, shift) in [(8, 4, 2), (14, 7, 3), (21, 7, 3), (12, 6, 1), (4, 4, 2)] {
            let axis =
                Axis { group_offset: shift, clip: true, ..axis(extent, window, window, 1, false) };
            let place = |x: u32| {
                let rolled = (x + extent - shift) % extent;
                let region =
                    u32::from(rolled >= extent - window) + u32::from(rolled >= extent - shift);
                (rolled / window, region)
            };
            for x in 0..extent {
                let seen = axis.window(extent, x);
                for key in 0..extent {
                    let swins = place(x) == place(key);
                    assert_eq!(seen.contains(&key), swins, "{x} {key} of {axis:?}");
                }
            }
        }
    }

    #[test]
    fn boxes_cover_every_query_once_and_see_no_more_keys_than_said() {
        for axis in small_axes() {
            for side in 1..=axis.extent + 1 {
                let len = axis.class_len(0);
                let boxes: Vec<_> = axis.query_boxes(len, side).collect();
                assert_eq!(boxes.len() as u32, axis.boxes(side), "{side} of {axis:?}");
                for queries in &boxes {
                    let keys = axis.hull(len, queries).len() as u32;
                    assert!(keys <= axis.most_keys(side), "{queries:?} of {axis:?}");
                }
                let queries: Vec<u32> = boxes.into_iter().flatten().collect();
                assert_eq!(queries, (0..len).collect::<Vec<_>>(), "{side} of {axis:?}");
            }
        }
    }

    #[test]
    fn hulls_have_no_holes() {
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
