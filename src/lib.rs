//! tilewise: fused attention as WGSL compute shaders, on every GPU that wgpu reaches.

#![warn(missing_docs)]
#![deny(unsafe_code)]

pub mod attention;
pub mod error;
pub mod tensor;
pub mod verify;

pub use error::{Error, GpuError, PlanError, SpecError};
