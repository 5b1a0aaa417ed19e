//! The way to the device: limits, shader text, plans, pipelines, devices.

pub(crate) mod context;
pub mod device;
pub(crate) mod kept;
pub mod limits;
pub(crate) mod lock;
pub(crate) mod pipeline;
pub mod recording;
pub mod shader;
pub(crate) mod stamps;
