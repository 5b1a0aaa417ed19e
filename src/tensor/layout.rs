//! Where the elements of a tensor lie: shape, strides and offset, all in elements.

/// Shape, strides and offset of a tensor, in elements.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Layout {
    /// Extent of each axis.
    pub shape: Vec<u64>,
    /// Distance between neighbours along each axis; 0 broadcasts.
    pub strides: Vec<u64>,
    /// The first element's place in the buffer.
    pub offset: u64,
}

impl Layout {
    /// Row-major and without gaps: the last axis has stride 1.
    pub fn contiguous(shape: &[u64]) -> Self {
        let mut strides = vec![1; shape.len()];
        for axis in (1..shape.len()).rev() {
            strides[axis - 1] = strides[axis] * shape[axis].max(1);
        }
        Self { shape: shape.to_vec(), strides, offset: 0 }
    }

    /// The same elements with axes in another order: axis `i` of the result is axis `order[i]` of this one.
    pub fn permuted(&self, order: &[usize]) -> Self {
        Self {
            shape: order.iter().map(|&axis| self.shape[axis]).collect(),
            strides: order.iter().map(|&axis| self.strides[axis]).collect(),
            offset: self.offset,
        }
    }

    /// Number of elements.
    pub fn len(&self) -> u64 {
        self.shape.iter().product()
    }

    /// Whether there is no element.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// One past the highest element that is touched, counted from the buffer's start; `None` past u64.
    pub fn end(&self) -> Option<u64> {
        if self.is_empty() {
            return Some(self.offset);
        }
        let mut last = self.offset;
        for (&extent, &stride) in self.shape.iter().zip(&self.strides) {
            last = last.checked_add((extent - 1).checked_mul(stride)?)?;
        }
        last.checked_add(1)
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
            reach += stride * (extent - 1);
        }
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn permuting_keeps_the_elements() {
        let heads_last = Layout::contiguous(&[2, 5, 3, 4]).permuted(&[0, 2, 1, 3]);
        assert_eq!(heads_last.shape, [2, 3, 5, 4]);
        assert_eq!(heads_last.strides, [60, 4, 12, 1]);
        assert_eq!(heads_last.end(), Some(120));
        assert!(!heads_last.is_contiguous() && !heads_last.overlaps_itself());
    }

    #[test]
    fn a_broadcast_axis_overlaps() {
        let broadcast = Layout { shape: vec![3, 4], strides: vec![0, 1], offset: 0 };
        assert!(broadcast.overlaps_itself());
        assert_eq!(broadcast.end(), Some(4));
    }

    #[test]
    fn the_end_past_u64_is_none() {
        let far = Layout { shape: vec![2, 2], strides: vec![u64::MAX, 1], offset: 1 };
        assert_eq!(far.end(), None);
    }
}
