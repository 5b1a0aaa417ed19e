//! Mixture of experts: routers, placing, experts, laws, on the first adapter, against the f64 reference.

mod bindings;
mod capacity;
#[cfg(feature = "cli")]
mod cli;
mod errors;
mod golden;
mod laws;
mod not_chosen;
mod null_experts;
mod parallel;
mod quantised;
mod routers;
mod scale;
mod support;
