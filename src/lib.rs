//! tilewise: fused attention as WGSL compute shaders, on every GPU that wgpu reaches.

#![warn(missing_docs)]
#![deny(unsafe_code)]

pub mod attention;
#[cfg(feature = "cli")]
pub mod cli;
mod engine;
pub mod error;
pub mod fused;
pub mod gpu;
pub mod matmul;
pub mod moe;
pub mod operator;
mod prepared;
pub mod tensor;
pub mod verify;

pub use engine::{Engine, EngineOptions, Tensors};
pub use error::{Error, GpuError, PlanError, SpecError};
pub use prepared::Prepared;
