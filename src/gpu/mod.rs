//! The way to the device: limits, shader text, plans, pipelines, devices.

pub(crate) mod bound;
pub(crate) mod context;
pub mod device;
mod faults;
#[cfg(all(feature = "disk-cache", not(target_arch = "wasm32")))]
pub(crate) mod kept;
#[cfg(not(all(feature = "disk-cache", not(target_arch = "wasm32"))))]
#[path = "unkept.rs"]
pub(crate) mod kept;
pub mod limits;
pub(crate) mod lock;
pub(crate) mod params;
pub(crate) mod pipeline;
pub mod recording;
mod scopes;
pub(crate) mod scratch;
pub mod shader;
pub(crate) mod signal;
pub(crate) mod stamps;
mod work;
