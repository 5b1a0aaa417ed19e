//! A tensor in a buffer that somebody else owns.

use super::{Dtype, Layout, TensorDesc};

/// A strided view of a `wgpu::Buffer`: nothing is copied, nothing is owned.
///
/// The buffer needs `BufferUsages::STORAGE`. Tensors of a call may lie in one buffer, outputs too, where their bytes do
/// not overlap.
#[derive(Clone, Debug)]
pub struct TensorView<'a> {
    /// The buffer that holds the elements.
    pub buffer: &'a wgpu::Buffer,
    /// Element type, shape, strides, and offset from the buffer's start.
    pub desc: TensorDesc,
}

impl<'a> TensorView<'a> {
    /// The whole of a buffer, row-major without gaps.
    pub fn contiguous(buffer: &'a wgpu::Buffer, dtype: Dtype, shape: &[u64]) -> Self {
        Self { buffer, desc: TensorDesc::contiguous(dtype, shape) }
    }

    /// A view with strides and offset of the caller's, in elements.
    pub fn strided(buffer: &'a wgpu::Buffer, dtype: Dtype, layout: Layout) -> Self {
        Self { buffer, desc: TensorDesc { dtype, layout } }
    }
}
