//! Where a kernel finds a tensor's elements: how its rows are aligned, and which range of its buffer is bound.

use crate::gpu::recording::{Bound, Slot};
use crate::tensor::{Dtype, TensorDesc};

/// How a row of a tensor is read: by aligned vectors of four or element by element.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Access {
    Vec4,
    Scalar,
}

impl Access {
    /// Vectors where every row starts and ends at a multiple of four elements.
    pub fn of(desc: &TensorDesc) -> Self {
        let (dim, outer) =
            desc.layout.strides().split_last().map_or((1, &[][..]), |(d, o)| (*d, o));
        let rows_aligned = outer
            .iter()
            .zip(desc.layout.shape())
            .all(|(&stride, &extent)| extent <= 1 || stride.is_multiple_of(4));
        let extent = desc.layout.shape().last().copied().unwrap_or(0);
        let aligned = extent.is_multiple_of(4) && desc.layout.offset().is_multiple_of(4);
        if dim == 1 && rows_aligned && aligned { Self::Vec4 } else { Self::Scalar }
    }
}

/// The bound range of elements `first..end` of a tensor, widened to the device's alignment, and where element 0 of
/// the tensor's buffer lies in it, in elements, modulo 2^32 (kernels add offsets modulo 2^32 too).
pub(crate) fn bound_range(
    name: &str,
    dtype: Dtype,
    first: u64,
    end: u64,
    alignment: u32,
) -> (Bound, u32) {
    let slot = Slot::Tensor(name.to_owned());
    if end <= first {
        return (Bound { slot, offset: 0, size: 0 }, 0);
    }
    // Whole vectors of four elements are read, so that a range starts at one of them too.
    let alignment = u64::from(alignment).max(16);
    let offset = first * dtype.bytes() / alignment * alignment;
    let size = (end * dtype.bytes() - offset).next_multiple_of(4);
    let origin = (offset / dtype.bytes()) as u32;
    (Bound { slot, offset, size }, origin.wrapping_neg())
}
