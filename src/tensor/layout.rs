//! Where the elements of a tensor lie: shape, strides and offset, all in elements.

use std::ops::Range;

use crate::error::SpecError;

/// Most elements of a tensor, and of what lies before their end in the buffer, beyond any device's memory: bytes of them,
/// and small multiples, stay within u64.
const MOST_ELEMENTS: u64 = 1 << 48;

/// Shape, strides and offset of a tensor, in elements; as many strides as axes.
///
/// Kernels run without bounds checks, so that only checked numbers make one:
///
/// ```compile_fail,E0451
/// use tilewise::tensor::Layout;
/// let layout = Layout { shape: vec![2, 3], strides: vec![3], offset: 0 };
/// ```
/// ```compile_fail,E0616
/// use tilewise::tensor::Layout;
/// let mut layout = Layout::contiguous(&[2, 3]);
/// layout.offset = 1 << 40;
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Layout {
    shape: Vec<u64>,
    strides: Vec<u64>,
    offset: u64,
}

impl Layout {
    /// Extents and strides of the caller's, one of each an axis, and the first element's place in the buffer. A stride
    /// of 0 broadcasts.
    ///
    /// # Errors
    /// [`SpecError::Value`] where strides are more or fewer than axes, or elements are too many or end too far from the
    /// buffer's start for their bytes to be counted in u64.
    pub fn new(shape: &[u64], strides: &[u64], offset: u64) -> Result<Self, SpecError> {
        if strides.len() != shape.len() {
            let expected = format!("{} strides, one an axis of {shape:?}", shape.len());
            return Err(SpecError::value("layout", expected, format!("strides {strides:?}")));
        }
        let layout = Self { shape: shape.to_vec(), strides: strides.to_vec(), offset };
        match layout.reach() {
            Some(_) => Ok(layout),
            None => {
                let got = format!("shape {shape:?}, strides {strides:?}, offset {offset}");
                Err(SpecError::value("layout", format!("at most {MOST_ELEMENTS} elements"), got))
            }
        }
    }

    /// Row-major and without gaps: the last axis has stride 1. A shape of more elements than memory holds is refused
    /// where a problem is made of it; see [`Layout::end`].
    pub fn contiguous(shape: &[u64]) -> Self {
        let mut strides = vec![1_u64; shape.len()];
        for axis in (1..shape.len()).rev() {
            strides[axis - 1] = strides[axis].saturating_mul(shape[axis].max(1));
        }
        Self { shape: shape.to_vec(), strides, offset: 0 }
    }

    /// Extent of each axis.
    pub fn shape(&self) -> &[u64] {
        &self.shape
    }

    /// Distance between neighbours along each axis; 0 broadcasts.
    pub fn strides(&self) -> &[u64] {
        &self.strides
    }

    /// The first element's place in the buffer.
    pub const fn offset(&self) -> u64 {
        self.offset
    }

    /// The same elements with axes in another order: axis `i` of the result is axis `order[i]` of this one.
    ///
    /// # Errors
    /// [`SpecError::Value`] where `order` does not name every axis once.
    pub fn permuted(&self, order: &[usize]) -> Result<Self, SpecError> {
        let mut named = order.to_vec();
        named.sort_unstable();
        if named.into_iter().eq(0..self.shape.len()) {
            return Ok(self.with_axes(order));
        }
        let expected = format!("each of the axes 0 to {} once", self.shape.len());
        Err(SpecError::value("order", expected, format!("{order:?}")))
    }

    /// The same elements from another place of the buffer on, which is no further from its start.
    pub(crate) fn with_offset(&self, offset: u64) -> Self {
        debug_assert!(offset <= self.offset);
        Self { offset, ..self.clone() }
    }

    /// The axes that `order` names, in that order; those left out have one index.
    pub(crate) fn with_axes(&self, order: &[usize]) -> Self {
        Self {
            shape: order.iter().map(|&axis| self.shape[axis]).collect(),
            strides: order.iter().map(|&axis| self.strides[axis]).collect(),
            offset: self.offset,
        }
    }

    /// The same elements with an axis of one index before the others.
    pub(crate) fn with_unit_axis(&self) -> Self {
        Self {
            shape: [&[1], &self.shape[..]].concat(),
            strides: [&[0], &self.strides[..]].concat(),
            offset: self.offset,
        }
    }

    /// Number of elements.
    pub fn len(&self) -> u64 {
        if self.shape.contains(&0) {
            return 0;
        }
        self.shape.iter().fold(1, |len, extent| len.saturating_mul(*extent))
    }

    /// Whether there is no element.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// One past the highest element that is touched, counted from the buffer's start; `None` where there are more than
    /// can be.
    pub fn end(&self) -> Option<u64> {
        let reach = self.reach()?;
        Some(if self.is_empty() { self.offset } else { reach })
    }

    /// The end if every axis had an index, where that and the number of elements are within [`MOST_ELEMENTS`].
    fn reach(&self) -> Option<u64> {
        let (mut len, mut last) = (1_u64, self.offset);
        for (&extent, &stride) in self.shape.iter().zip(&self.strides) {
            let extent = extent.max(1);
            len = len.checked_mul(extent)?;
            last = last.checked_add((extent - 1).checked_mul(stride)?)?;
        }
        (len <= MOST_ELEMENTS && last < MOST_ELEMENTS).then(|| last + 1)
    }

    /// First element and end of what lies at some indices of each axis; `None` is all of an axis, and so is any part of one
    /// that broadcasts. Without elements both are the offset.
    pub(crate) fn range_within(&self, of_axis: impl Fn(usize) -> Option<Range<u32>>) -> (u64, u64) {
        let (mut first, mut last) = (self.offset, self.offset);
        for (axis, (&extent, &stride)) in self.shape.iter().zip(&self.strides).enumerate() {
            match of_axis(axis) {
                _ if extent == 0 => return (self.offset, self.offset),
                Some(range) if extent > 1 => {
                    first += u64::from(range.start) * stride;
                    last += u64::from(range.end.saturating_sub(1)) * stride;
                }
                _ => last += (extent - 1) * stride,
            }
        }
        (first, last + 1)
    }

    /// First element and end of what lies at some indices of the first axis.
    pub(crate) fn range_of(&self, indices: Range<u32>) -> Range<u64> {
        let mut part = self.clone();
        if let (Some(extent), Some(stride)) = (part.shape.first_mut(), self.strides.first()) {
            *extent = u64::from(indices.end - indices.start);
            part.offset =
                self.offset.saturating_add(u64::from(indices.start).saturating_mul(*stride));
        }
        part.offset..part.end().unwrap_or(u64::MAX).max(part.offset)
    }

    /// Where each element lies, in row-major order.
    pub fn places(&self) -> impl Iterator<Item = u64> + use<> {
        let Self { shape, strides, offset } = self.clone();
        (0..self.len()).map(move |mut index| {
            let mut place = offset;
            for (&extent, &stride) in shape.iter().zip(&strides).rev() {
                place += index % extent * stride;
                index /= extent;
            }
            place
        })
    }

    /// Whether the elements lie without gaps in row-major order.
    pub fn is_contiguous(&self) -> bool {
        let dense = Self::contiguous(&self.shape);
        let same = |axis: usize| self.shape[axis] <= 1 || self.strides[axis] == dense.strides[axis];
        (0..self.shape.len()).all(same)
    }

    /// Whether two different indices share an element; only broadcasts and overlaps do.
    pub fn overlaps_itself(&self) -> bool {
        let mut axes: Vec<(u64, u64)> = self
            .strides
            .iter()
            .zip(&self.shape)
            .filter(|(_, extent)| **extent > 1)
            .map(|(&stride, &extent)| (stride, extent))
            .collect();
        axes.sort_unstable();
        let mut reach = 0;
        for (stride, extent) in axes {
            if stride <= reach {
                return true;
            }
            reach = stride.saturating_mul(extent - 1).saturating_add(reach);
        }
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn permuting_keeps_the_elements() {
        let heads_last = Layout::contiguous(&[2, 5, 3, 4]).permuted(&[0, 2, 1, 3]).unwrap();
        assert_eq!(heads_last.shape, [2, 3, 5, 4]);
        assert_eq!(heads_last.strides, [60, 4, 12, 1]);
        assert_eq!(heads_last.end(), Some(120));
        assert!(!heads_last.is_contiguous() && !heads_last.overlaps_itself());
    }

    #[test]
    fn an_order_that_does_not_name_every_axis_once_is_refused() {
        for order in [&[0, 1][..], &[0, 1, 1], &[0, 1, 3], &[0, 1, 2, 3]] {
            let error = Layout::contiguous(&[2, 3, 4]).permuted(order).unwrap_err().to_string();
            assert!(error.contains("each of the axes 0 to 3 once"), "{order:?}: {error}");
        }
    }

    #[test]
    fn a_broadcast_axis_overlaps() {
        let broadcast = Layout::new(&[3, 4], &[0, 1], 0).unwrap();
        assert!(broadcast.overlaps_itself());
        assert_eq!(broadcast.end(), Some(4));
    }

    #[test]
    fn strides_of_another_number_than_axes_are_refused() {
        for strides in [&[][..], &[1], &[4, 1, 1]] {
            let error = Layout::new(&[3, 4], strides, 0).unwrap_err().to_string();
            assert!(
                error.contains("expected 2 strides") && error.contains("got strides"),
                "{error}"
            );
        }
    }

    #[test]
    fn elements_that_u64_does_not_count_are_refused() {
        for (shape, strides, offset) in [
            (&[2, 2][..], &[u64::MAX, 1][..], 1),
            (&[2, 2], &[u64::MAX, 1], 0),
            (&[1, 1], &[1, 1], u64::MAX),
            (&[1 << 32, 1 << 32], &[0, 0], 0),
            (&[0, 1 << 40, 1 << 40], &[0, 0, 0], 0),
            (&[0, 3], &[0, u64::MAX / 2], 0),
            (&[1 << 48], &[1], 1),
        ] {
            let error = Layout::new(shape, strides, offset).unwrap_err().to_string();
            assert!(error.contains(&MOST_ELEMENTS.to_string()), "{shape:?}: {error}");
        }
        let most = Layout::new(&[1 << 48], &[1], 0).unwrap();
        assert_eq!(most.end(), Some(MOST_ELEMENTS));
    }

    #[test]
    fn a_shape_too_large_to_count_has_no_end() {
        for shape in [&[u64::MAX, u64::MAX, 2][..], &[1 << 40, 1 << 40], &[0, 1 << 40, 1 << 40]] {
            let layout = Layout::contiguous(shape);
            assert_eq!((layout.end(), layout.is_empty()), (None, shape[0] == 0), "{shape:?}");
        }
    }
}
