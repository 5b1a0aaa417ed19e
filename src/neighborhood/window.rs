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
    /// It stays where its group's middle puts it, be that outside, and loses what lies outside.
    Clip,
}

/// One axis of a neighborhood, checked: `1 ≤ stride ≤ window`, `group_offset < stride`, `dilation ≤ extent`; where neither
/// causal nor clipped, `window · dilation ≤ extent`.
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
        self.extent.saturating_sub(class).div_ceil(self.dilation)
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
            // A group that a border cuts keeps its middle, be that outside: blocks stay aligned.
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

    /// Tokens that hold all keys that queries of tokens `queries` see, of whatever class; at their ends some may be unseen.
    pub fn tokens_seen(&self, queries: &Range<u32>) -> Range<u32> {
        let Some(last) = queries.end.checked_sub(1) else { return 0..0 };
        let (mut first, mut end) = (u32::MAX, 0);
        for len in [self.class_len(0), self.class_len(self.dilation - 1)] {
            if len > 0 {
                let window = |token: u32| self.window(len, (token / self.dilation).min(len - 1));
                first = first.min(window(queries.start).start);
                end = end.max(window(last).end);
            }
        }
        first.saturating_mul(self.dilation)..end.saturating_mul(self.dilation).min(self.extent)
    }

    /// The most tokens that [`Axis::tokens_seen`] gives for `queries` tokens.
    pub fn most_tokens_seen(&self, queries: u32) -> u32 {
        let [window, stride, dilation] = [self.window, self.stride, self.dilation].map(u64::from);
        // Queries of a class among them, and groups that they touch beside the first.
        let of_class = (u64::from(queries) + 2 * (dilation - 1)) / dilation;
        let moves = (of_class + stride).saturating_sub(2) / stride;
        // Windows that shift end with their class, of which some are a token shorter.
        let keys = window + moves * stride + u64::from(dilation > 1);
        keys.saturating_mul(dilation).min(self.extent.into()) as u32
    }

    /// Keys that every query of `queries` sees; may be empty.
    pub fn common(&self, len: u32, queries: &Range<u32>) -> Range<u32> {
        self.window(len, queries.end - 1).start..self.window(len, queries.start).end
    }

    /// The most keys that a box of `side` queries, cut as `query_boxes` does, may see.
    pub fn most_keys(&self, side: u32) -> u32 {
        // Groups that it touches beside the first, each moving the window by a stride. Boxes keep step with the groups.
        let divides = side.is_multiple_of(self.stride) || self.stride.is_multiple_of(side);
        let moves =
            if divides { (side - 1) / self.stride } else { (side + self.stride - 2) / self.stride };
        let hull = u64::from(self.window) + u64::from(moves) * u64::from(self.stride);
        hull.min(u64::from(self.class_len(0)).max(1)) as u32
    }

    /// Boxes of `side` queries along the axis, for the longest class.
    pub const fn boxes(&self, side: u32) -> u32 {
        (self.class_len(0) + self.box_pad(side)).div_ceil(side)
    }

    /// Places by which the first box of `side` queries begins before the class: boxes keep step with the groups.
    pub const fn box_pad(&self, side: u32) -> u32 {
        self.group_pad() % side
    }

    /// Box `number` of those of `side` queries that a class of `len` tokens is cut into.
    pub fn query_box(&self, len: u32, side: u32, number: u32) -> Range<u32> {
        let (place, pad) = (u64::from(number) * u64::from(side), u64::from(self.box_pad(side)));
        let end = (place + u64::from(side) - pad).min(len.into());
        place.saturating_sub(pad) as u32..end as u32
    }

    /// Scores that the axis asks for: the sum of all windows' keys.
    pub fn needed(&self) -> u64 {
        self.by_class(|class| self.keys_of_class(self.class_len(class)))
    }

    /// The sum of the windows' keys of a class of `len` tokens.
    fn keys_of_class(&self, len: u32) -> u64 {
        if len == 0 {
            return 0;
        }
        if !self.causal && !self.clip {
            return u64::from(len) * u64::from(self.window);
        }
        // The first and the last group may be cut; those between have `stride` queries each.
        let [last, len, pad, stride] =
            [(len - 1 + self.group_pad()) / self.stride, len, self.group_pad(), self.stride]
                .map(i64::from);
        let size =
            |group: i64| ((group + 1) * stride - pad).min(len) - (group * stride - pad).max(0);
        let keys = if last == 0 {
            len * self.ends_less_starts(len, 0, 1)
        } else {
            size(0) * self.ends_less_starts(len, 0, 1)
                + stride * self.ends_less_starts(len, 1, last - 1)
                + size(last) * self.ends_less_starts(len, last, 1)
        };
        // A causal window ends behind its own query, not its group's last.
        let own_ends = if self.causal { len * (len + 1) / 2 } else { 0 };
        (keys + own_ends) as u64
    }

    /// The sum over `count` groups from `first` on of where their windows end less where they start; of a causal axis, whose
    /// windows end with the query, less where they start.
    fn ends_less_starts(&self, len: i64, first: i64, count: i64) -> i64 {
        let [window, stride, pad] = [self.window, self.stride, self.group_pad()].map(i64::from);
        let begin = first * stride - pad;
        if self.causal {
            let ends = Clamped { first: begin + stride, step: stride, count, most: len };
            return -ends.sum_above(window);
        }
        let start = begin + stride / 2 - window / 2;
        let starts = Clamped { first: start, step: stride, count, most: UNBOUNDED };
        let ends = Clamped { first: start + window, step: stride, count, most: len };
        ends.sum_above(0) - starts.sum_above(0)
    }

    /// How many classes have a token more than the others, and how many others there are: they come in that order.
    pub const fn classes(&self) -> [u32; 2] {
        let long = self.extent.saturating_sub(1) % self.dilation + 1;
        [long, self.dilation - long]
    }

    /// The sum over classes of what depends on a class's length alone: there are at most two lengths.
    pub fn by_class(&self, of_class: impl Fn(u32) -> u64) -> u64 {
        let [long, short] = self.classes();
        let mut sum = u64::from(long) * of_class(0);
        if short > 0 {
            sum += u64::from(short) * of_class(long);
        }
        sum
    }
}

/// Beyond any sum of extents and windows.
const UNBOUNDED: i64 = 1 << 40;

/// `count` numbers from `first` on, `step` apart, none larger than `most`.
struct Clamped {
    first: i64,
    step: i64,
    count: i64,
    most: i64,
}

impl Clamped {
    /// The sum of what each is above `least`.
    fn sum_above(&self, least: i64) -> i64 {
        let Self { first, step, count, most } = *self;
        // How many of them are below a bound.
        let below = |bound: i64| (bound - first + step - 1).div_euclid(step).clamp(0, count);
        let (low, top) = (below(least).min(below(most)), below(most));
        let rising = (top - low) * (first - least) + step * (low + top - 1) * (top - low) / 2;
        rising + (count - top) * (most - least).max(0)
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

    /// Every axis with at most ten tokens; causal and clipped windows reach beyond them.
    fn small_axes() -> impl Iterator<Item = Axis> {
        let of_extent = |extent: u32| {
            let sizes = (1..=extent + 3).flat_map(move |window| {
                (1..=window).flat_map(move |stride| {
                    let offsets =
                        (0..stride).map(move |group_offset| (window, stride, group_offset));
                    offsets.flat_map(move |groups| {
                        (1..=extent).map(move |dilation| (groups, dilation))
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
        let has_a_meaning =
            |axis: &Axis| axis.causal || axis.clip || axis.window * axis.dilation <= axis.extent;
        (1..=10).flat_map(of_extent).filter(has_a_meaning)
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
                let box_of = |number| axis.query_box(len, side, number);
                let boxes: Vec<_> = (0..axis.boxes(side)).map(box_of).collect();
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
    fn tokens_seen_hold_every_key_and_are_no_more_than_said() {
        for axis in small_axes() {
            for first in 0..axis.extent {
                for end in first + 1..=axis.extent {
                    let queries = first..end;
                    let seen = axis.tokens_seen(&queries);
                    let keys = queries.clone().flat_map(|x| visible(&axis, x as usize));
                    let (low, high) = (seen.start as usize, seen.end as usize);
                    assert!(keys.into_iter().all(|key| (low..high).contains(&key)), "{axis:?}");
                    let most = axis.most_tokens_seen(end - first);
                    assert!(seen.len() as u32 <= most, "{queries:?} of {axis:?}");
                }
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
