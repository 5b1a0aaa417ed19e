//! Tensors: element types, layouts, views of device buffers, tensors in host memory, weights in blocks.

mod blocks;
pub(crate) mod check;
mod dtype;
mod host;
mod layout;
mod mxint8;
#[cfg(feature = "safetensors")]
mod names;
mod random;
mod view;

pub use blocks::{BLOCK, BlockFormat, WeightFormat, dequantise_mxfp4_pair};
pub use dtype::Dtype;
pub use host::HostTensor;
#[cfg(feature = "safetensors")]
pub use host::{TensorFileError, parse_safetensors, read_safetensors, write_safetensors};
pub use layout::Layout;
pub use mxint8::ActivationFormat;
pub(crate) use random::Random;
pub use view::TensorView;

use std::collections::BTreeMap;

/// Tensors by name: inputs, extra inputs and, where the caller has them, outputs.
pub type TensorDescs = BTreeMap<String, TensorDesc>;

/// What is known of tensors in host memory without their elements.
pub fn descs(tensors: &BTreeMap<String, HostTensor>) -> TensorDescs {
    tensors.iter().map(|(name, host)| (name.clone(), host.desc())).collect()
}

/// What is known of a tensor without its elements.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct TensorDesc {
    /// Element type.
    pub dtype: Dtype,
    /// Shape, strides, offset.
    pub layout: Layout,
}

impl TensorDesc {
    /// A tensor without gaps.
    pub fn contiguous(dtype: Dtype, shape: &[u64]) -> Self {
        Self { dtype, layout: Layout::contiguous(shape) }
    }

    /// Bytes from the start of its buffer to the end of its last element.
    pub fn bytes(&self) -> u64 {
        self.layout.end().unwrap_or(u64::MAX).saturating_mul(self.dtype.bytes())
    }

    /// Bytes of its elements, gaps left out.
    pub fn element_bytes(&self) -> u64 {
        self.layout.len().saturating_mul(self.dtype.bytes())
    }

    /// Extent of each axis.
    pub fn shape(&self) -> &[u64] {
        self.layout.shape()
    }
}
