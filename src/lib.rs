//! Fused attention, neighborhood attention and mixture of experts as WGSL compute shaders, on every GPU that wgpu
//! reaches: Vulkan, Metal, DX12 and the browser.
//!
//! An app that has a wgpu device records attention into its own encoder, on its own buffers. Scores are never stored:
//! masks, score modifiers and the normaliser run inside one kernel, written together for the problem at hand.
//!
//! ```no_run
//! use tilewise::attention::{AttentionSpec, Mask};
//! use tilewise::tensor::{Dtype, TensorView};
//! use tilewise::{Engine, EngineOptions, Error};
//!
//! /// 32 query heads on 8 key heads, one new token against 4096 cached ones.
//! fn decode(engine: &Engine, [q, k, v, out]: [&wgpu::Buffer; 4]) -> Result<(), Error> {
//!     let spec = AttentionSpec { mask: Mask::causal(), ..AttentionSpec::default() };
//!     let view = |buffer, heads, seq| TensorView::contiguous(buffer, Dtype::F32, &[1, heads, seq, 128]);
//!     engine.submit(&spec, &[
//!         ("q", view(q, 32, 1)),
//!         ("k", view(k, 8, 4096)),
//!         ("v", view(v, 8, 4096)),
//!         ("out", view(out, 32, 1)),
//!     ])
//! }
//!
//! let engine = Engine::open(&EngineOptions::default())?; // or Engine::from_device(device, queue)
//! # Ok::<(), tilewise::GpuError>(())
//! ```
//!
//! # The way of a call
//!
//! 1. The caller has buffers and a wish: [`tensor::TensorView`]s by name, an [`attention::AttentionSpec`].
//! 2. [`attention::AttentionProblem::new`] checks one against the other, once; [`SpecError`] says what is wrong. The
//!    f64 reference starts from here too.
//! 3. Tiles are chosen: the caller's own, or those that [`Engine::tune`] measured to be the fastest here, or the first
//!    of [`operator::Operator::candidates`]; a value, [`fused::FusedTiles`].
//! 4. [`operator::Operator::plan`] computes the launches from problem, [`gpu::limits::GpuLimits`] and tiles, without a
//!    device; [`PlanError`] says what does not fit.
//! 5. The [`gpu::recording::Plan`] is an inert list of kernels, params, bindings and grids.
//! 6. [`Engine::prepare`] compiles each kernel's text, a [`gpu::shader::Shader`], to a pipeline, once.
//! 7. [`Prepared::record`] writes the dispatches into the app's encoder: no submit, no wait, no readback.
//! 8. The answer lies in the caller's buffers; [`Engine::download`] is apart.
//!
//! Steps 1 to 5 need no GPU.
//!
//! # Where to look
//!
//! - [`attention`]: the problem: formula, masks, score modifiers, normalisers.
//! - [`neighborhood`], [`moe`], [`matmul`]: the other operators; [`Engine::record`] takes the spec of any of them.
//! - [`Engine`]: the door: a device, its kernels, recording.
//! - [`tune`]: tiles by measurement, in an app that draws frames too.
//! - [`tensor`]: element types, strides, views, safetensors files.
//! - [`fused`]: what tiles there are; [`gpu`]: limits, plans, shader text.
//! - [`error`]: whose turn it is when something fails.
//!
//! # Features
//!
//! An app that gives its own tensors needs none of them: with `default-features = false` it builds at most 15 crates
//! more than wgpu's own.
//!
//! | feature | what it brings |
//! |---|---|
//! | `disk-cache` (default) | measured tiles and compiled pipelines in files between runs: `CachePlace::User`, `Folder` |
//! | `safetensors` (default) | tensors read from files, and written to them |
//! | `reference` (default) | each operator's reference in f64, and the interpreter of the caller's WGSL |
//! | `verify` (default) | the suite of cases judged by the references, and named problems; implies `reference` |
//! | `cli` | the program; implies all |
//!
//! # In a browser
//!
//! On `wasm32-unknown-unknown` nothing may block: doors that would do not exist there, and the same doors whose names end
//! with `_async` await the browser. A call that cannot wait ([`Prepared::record`]) has its errors told by the next one
//! that does ([`Engine::wait_async`], [`Engine::download_async`]).
//!
//! The tensors of every operator, by name, with their axes, are listed in [`tensor_index`].
//!
//! `ARCHITECTURE.md` in the repository goes through the rooms one by one; `examples/` holds programs that run.

#![deny(missing_docs)]
#![deny(unsafe_code)]
#![cfg_attr(
    target_arch = "wasm32",
    allow(
        clippy::arc_with_non_send_sync,
        reason = "what a browser makes is bound to its thread; elsewhere it is not"
    )
)]

pub mod any;
pub mod attention;
mod cache;
#[cfg(feature = "cli")]
pub mod cli;
mod engine;
pub mod error;
pub mod fused;
pub mod gpu;
mod json;
mod kernel;
pub mod matmul;
pub mod moe;
mod names;
pub mod neighborhood;
pub mod operator;
mod prepared;
#[cfg(feature = "verify")]
pub mod problems;
mod recent;
mod resident;
mod snippet;
pub mod tensor;
pub mod tune;
#[cfg(feature = "verify")]
pub mod verify;

#[doc = include_str!("../docs/tensors.md")]
pub mod tensor_index {}

pub use cache::CachePlace;
pub use engine::{
    Engine, EngineMemory, EngineOptions, KEPT_PIPELINES, KEPT_SCRATCH_BYTES, Matrices, Tensors,
};
pub use error::{Error, GpuError, PlanError, SpecError};
pub use prepared::Prepared;
pub use resident::Resident;
/// The wgpu that devices, buffers and encoders are of.
pub use wgpu;

/// Compiles the code in the page about embedding.
#[cfg(doctest)]
#[doc = include_str!("../docs/embedding.md")]
struct Embedding;

/// Compiles the code in the README.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
