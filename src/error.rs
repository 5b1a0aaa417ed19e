//! The three kinds of error, by whose turn it is: the caller's ([`SpecError`]), the device's limits
//! ([`PlanError`]), the device itself ([`GpuError`]).

use std::fmt;

/// The caller's problem is wrong.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum SpecError {
    /// A field or a tensor's extent has a value that the rest of the problem forbids.
    #[error("{field}: expected {expected}, got {got}")]
    Value {
        /// What is wrong: a field of the spec (`mask.band.left`) or a tensor (`k`).
        field: String,
        /// What would be right.
        expected: String,
        /// What was given.
        got: String,
    },
    /// A tensor that the problem needs was not given.
    #[error("tensor {name} is missing ({why})")]
    MissingTensor {
        /// The tensor's name.
        name: String,
        /// What asks for it.
        why: String,
    },
    /// A tensor was given that the problem has no use for.
    #[error("{}", unknown(.name, .nearest))]
    UnknownTensor {
        /// The tensor's name.
        name: String,
        /// The nearest name that the spec or its operator knows; the name itself where it is known, but not asked for.
        nearest: String,
    },
    /// A tensor has an element type that its place does not take.
    #[error("{tensor}: expected dtype {expected}, got {got}")]
    Dtype {
        /// The tensor's name.
        tensor: String,
        /// The accepted element types.
        expected: String,
        /// What was given.
        got: String,
    },
    /// The caller's WGSL does not compile or lacks the expected function.
    #[error("{field}: line {line}, column {column}: {message}")]
    Wgsl {
        /// The field that holds the text, such as `mask.wgsl`.
        field: String,
        /// Line in the caller's own text, from 1.
        line: u32,
        /// Column in the caller's own text, from 1.
        column: u32,
        /// What the compiler says.
        message: String,
    },
}

impl SpecError {
    /// A [`SpecError::Value`] from anything that prints.
    pub fn value(
        field: impl fmt::Display,
        expected: impl fmt::Display,
        got: impl fmt::Display,
    ) -> Self {
        Self::Value {
            field: field.to_string(),
            expected: expected.to_string(),
            got: got.to_string(),
        }
    }
}

/// This device cannot do what was asked, though the problem is right.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum PlanError {
    /// More of something is needed than the device has.
    #[error("{what}: needs {needed} {limit}, the device has {available}")]
    Limit {
        /// What needs it: a kernel, a tensor.
        what: String,
        /// The limit, in the words of WebGPU, such as `max_storage_buffer_binding_size`.
        limit: &'static str,
        /// What is needed.
        needed: u64,
        /// What the device has.
        available: u64,
    },
    /// The tile set that was asked for is not one that these kernels can run.
    #[error("tiles {tiles}: {reason}")]
    Tiles {
        /// The tile set as JSON.
        tiles: String,
        /// Why it cannot run, with the numbers.
        reason: String,
    },
    /// A combination that no kernel supports.
    #[error("{what} is not supported: {reason}")]
    Unsupported {
        /// The combination.
        what: String,
        /// Why.
        reason: String,
    },
}

/// The device failed, or could not be had.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum GpuError {
    /// No adapter fits the request.
    #[error("no adapter {wanted}; found: {}", list_or_none(.found))]
    NoAdapter {
        /// What was asked for.
        wanted: String,
        /// The adapters there are.
        found: Vec<String>,
    },
    /// The adapter gave no device.
    #[error("adapter {adapter} gave no device: {message}")]
    NoDevice {
        /// The adapter's name.
        adapter: String,
        /// What the backend says.
        message: String,
    },
    /// The device has no memory left for this.
    #[error("out of device memory for {what} ({bytes} bytes)")]
    OutOfMemory {
        /// What was to be allocated or run.
        what: String,
        /// Its size; 0 where the backend does not say.
        bytes: u64,
    },
    /// The device is gone; make a new engine.
    #[error("device lost: {message}")]
    Lost {
        /// What the backend says.
        message: String,
    },
    /// A shader of ours was refused by the compiler.
    #[error("shader {file}:{line}: {message}")]
    Shader {
        /// The fragment's file.
        file: String,
        /// Line in that fragment, from 1.
        line: u32,
        /// What the compiler says.
        message: String,
    },
    /// The backend refused a call of ours.
    #[error("{what}: {message}")]
    Validation {
        /// What was being done.
        what: String,
        /// What the backend says.
        message: String,
    },
    /// A buffer could not be read back.
    #[error("reading {what} back failed: {message}")]
    Map {
        /// The buffer.
        what: String,
        /// What the backend says.
        message: String,
    },
}

fn unknown(name: &str, nearest: &str) -> String {
    if name == nearest {
        return format!("tensor {name} is not asked for by this spec");
    }
    format!("tensor {name} is not known; the nearest name that is known is {nearest}")
}

fn list_or_none(names: &[String]) -> String {
    if names.is_empty() {
        return "none (is a Vulkan, Metal or DX12 driver installed?)".to_owned();
    }
    names.join(", ")
}

/// Any of the three kinds.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The caller's problem is wrong.
    #[error(transparent)]
    Spec(#[from] SpecError),
    /// This device cannot do it.
    #[error(transparent)]
    Plan(#[from] PlanError),
    /// The device failed.
    #[error(transparent)]
    Gpu(#[from] GpuError),
}
