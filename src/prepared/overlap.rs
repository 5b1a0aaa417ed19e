//! Whether two tensors of one buffer have bytes in common.

use crate::tensor::TensorDesc;

/// A tensor in bytes: where it begins, and extent and stride of each axis that has several indices.
struct Bytes {
    first: u64,
    element: u64,
    axes: Vec<(u64, u64)>,
}

impl Bytes {
    fn of(desc: &TensorDesc, shift: u64) -> Self {
        let element = desc.dtype.bytes();
        let axes = desc.shape().iter().zip(desc.layout.strides());
        let axes = axes.filter(|(extent, stride)| **extent > 1 && **stride > 0);
        Self {
            first: desc.layout.offset() * element + shift,
            element,
            axes: axes.map(|(extent, stride)| (*extent, stride * element)).collect(),
        }
    }

    /// Bytes from the first to the last, of the axes whose stride is below `period`.
    fn width(&self, period: u64) -> u64 {
        let inner = self.axes.iter().filter(|(_, stride)| *stride < period);
        inner.map(|(extent, stride)| (extent - 1) * stride).sum::<u64>() + self.element
    }

    /// Where its bytes lie in every stretch of `period` bytes: the first of them, and how many. `None` where that is
    /// another place in each.
    fn within(&self, period: u64) -> Option<(u64, u64)> {
        let mut outer = self.axes.iter().filter(|(_, stride)| *stride >= period);
        let repeats = outer.all(|(_, stride)| stride.is_multiple_of(period));
        let width = self.width(period);
        (repeats && width <= period).then_some((self.first % period, width))
    }
}

/// Whether bytes of the one may be bytes of the other, each behind its place by so many. Tensors are known to be apart
/// where one ends before the other begins, and where they are columns of the same rows.
pub(super) fn overlap(left: (&TensorDesc, u64), right: (&TensorDesc, u64)) -> bool {
    if left.0.layout.is_empty() || right.0.layout.is_empty() {
        return false;
    }
    let [left, right] = [left, right].map(|(desc, shift)| Bytes::of(desc, shift));
    let end = |bytes: &Bytes| bytes.first + bytes.width(u64::MAX);
    if end(&left) <= right.first || end(&right) <= left.first {
        return false;
    }
    !left.axes.iter().any(|(_, period)| are_columns(&left, &right, *period))
}

/// Whether two tensors lie beside each other in every stretch of so many bytes.
fn are_columns(left: &Bytes, right: &Bytes, period: u64) -> bool {
    let (Some((a, a_width)), Some((b, b_width))) = (left.within(period), right.within(period))
    else {
        return false;
    };
    let behind = |from: u64, to: u64| (to + period - from) % period;
    behind(a, b) >= a_width && behind(b, a) >= b_width
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tensor::{Dtype, Layout};

    fn view(shape: &[u64], strides: &[u64], offset: u64) -> TensorDesc {
        TensorDesc { dtype: Dtype::F16, layout: Layout::new(shape, strides, offset).unwrap() }
    }

    /// Whether elements are in common, counted.
    fn counted(left: &TensorDesc, right: &TensorDesc) -> bool {
        let places: Vec<u64> = left.layout.places().collect();
        right.layout.places().any(|place| places.contains(&place))
    }

    #[test]
    fn columns_of_the_same_rows_are_apart_and_what_lies_across_them_is_not() {
        let q = view(&[2, 3, 2, 4], &[90, 30, 4, 1], 0);
        let k = view(&[2, 3, 1, 4], &[90, 30, 4, 1], 8);
        let out = view(&[2, 3, 2, 5], &[90, 30, 5, 1], 12);
        for (left, right) in [(&q, &k), (&k, &out), (&q, &out)] {
            assert!(!overlap((left, 0), (right, 0)) && !counted(left, right));
        }
        let wide = view(&[2, 3, 2, 5], &[90, 30, 5, 1], 7);
        assert!(overlap((&q, 0), (&wide, 0)) && counted(&q, &wide));
        assert!(overlap((&k, 0), (&wide, 0)) && counted(&k, &wide));
        // Behind the end, round the corner: its rows reach into the next ones.
        let last = view(&[3, 10], &[30, 1], 25);
        assert!(overlap((&q, 0), (&last, 0)) && counted(&q, &last));
    }

    #[test]
    fn what_ends_before_another_begins_is_apart() {
        let (left, right) = (view(&[3, 7], &[7, 1], 5), view(&[1], &[1], 26));
        assert!(!overlap((&left, 0), (&right, 0)) && !overlap((&right, 0), (&left, 0)));
        assert!(overlap((&left, 2), (&right, 0)), "a byte behind its place");
        let none = view(&[0, 7], &[7, 1], 6);
        assert!(!overlap((&left, 0), (&none, 0)));
    }

    #[test]
    fn tensors_that_are_not_said_to_overlap_do_not() {
        let shapes: [(&[u64], &[u64]); 4] =
            [(&[3, 4], &[6, 1]), (&[2, 3, 2], &[12, 6, 1]), (&[2, 2], &[5, 2]), (&[4], &[1])];
        for (left, right) in shapes.iter().flat_map(|l| shapes.iter().map(move |r| (l, r))) {
            for (a, b) in (0..14).flat_map(|a| (0..14).map(move |b| (a, b))) {
                let [left, right] = [(left, a), (right, b)].map(|(it, at)| view(it.0, it.1, at));
                assert!(overlap((&left, 0), (&right, 0)) || !counted(&left, &right));
            }
        }
    }
}
