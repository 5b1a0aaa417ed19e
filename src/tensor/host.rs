//! Tensors in host memory, and safetensors files.

#[cfg(feature = "safetensors")]
use std::collections::BTreeMap;
#[cfg(feature = "safetensors")]
use std::path::Path;

use half::{bf16, f16};
#[cfg(feature = "safetensors")]
use safetensors::tensor::{Dtype as FileDtype, SafeTensors, TensorView as FileView};

#[cfg(feature = "safetensors")]
use super::names::named_twice;
use super::{Dtype, TensorDesc};
#[cfg(feature = "safetensors")]
use crate::cache::write_output;

/// A tensor in host memory, row-major without gaps, little-endian.
#[derive(Clone, Debug, PartialEq)]
pub struct HostTensor {
    /// Element type.
    pub dtype: Dtype,
    /// Extent of each axis.
    pub shape: Vec<u64>,
    /// The elements' bytes.
    pub bytes: Vec<u8>,
}

/// A safetensors file could not be read or written.
#[cfg(feature = "safetensors")]
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TensorFileError {
    /// The file system refused.
    #[error("{path}: {source}")]
    Io {
        /// The file.
        path: String,
        /// What the system says.
        source: std::io::Error,
    },
    /// The file is not a safetensors file.
    #[error("{path}: not a safetensors file: {message}")]
    Format {
        /// The file.
        path: String,
        /// What is wrong with it.
        message: String,
    },
    /// A name stands for several tensors.
    #[error("{path}: tensor {tensor} is there several times")]
    Twice {
        /// The file.
        path: String,
        /// The name.
        tensor: String,
    },
    /// An element type that tilewise does not know.
    #[error("{path}: tensor {tensor} has dtype {dtype}; known are f32, f16, bf16, i32, bool, u8")]
    Dtype {
        /// The file.
        path: String,
        /// The tensor.
        tensor: String,
        /// Its element type.
        dtype: String,
    },
}

impl HostTensor {
    /// What a buffer for an output holds before a call: NaN, and no whole number that a kernel would write.
    pub(crate) fn unwritten(desc: &TensorDesc) -> Self {
        let bytes = vec![0xff; desc.bytes() as usize];
        Self { dtype: desc.dtype, shape: vec![desc.bytes() / desc.dtype.bytes()], bytes }
    }

    /// Rounds numbers to `dtype`; bool stores `value != 0`, i32 and u8 the nearest integer.
    pub fn from_f64(dtype: Dtype, shape: &[u64], values: &[f64]) -> Self {
        debug_assert_eq!(shape.iter().product::<u64>() as usize, values.len());
        let mut bytes = Vec::with_capacity(values.len() * dtype.bytes() as usize);
        for &value in values {
            match dtype {
                Dtype::F32 => bytes.extend((value as f32).to_le_bytes()),
                Dtype::F16 => bytes.extend(f16::from_f64(value).to_le_bytes()),
                Dtype::Bf16 => bytes.extend(bf16::from_f64(value).to_le_bytes()),
                Dtype::I32 => bytes.extend((value.round() as i32).to_le_bytes()),
                Dtype::Bool => bytes.push(u8::from(value != 0.0)),
                Dtype::U8 => bytes.push(value.round() as u8),
            }
        }
        Self { dtype, shape: shape.to_vec(), bytes }
    }

    /// The elements as numbers, exactly.
    pub fn to_f64(&self) -> Vec<f64> {
        let size = self.dtype.bytes() as usize;
        self.bytes
            .chunks_exact(size)
            .map(|b| match self.dtype {
                Dtype::F32 => f64::from(f32::from_le_bytes([b[0], b[1], b[2], b[3]])),
                Dtype::I32 => f64::from(i32::from_le_bytes([b[0], b[1], b[2], b[3]])),
                Dtype::F16 => f16::from_le_bytes([b[0], b[1]]).to_f64(),
                Dtype::Bf16 => bf16::from_le_bytes([b[0], b[1]]).to_f64(),
                Dtype::Bool => f64::from(u8::from(b[0] != 0)),
                Dtype::U8 => f64::from(b[0]),
            })
            .collect()
    }

    /// What is known of it without its elements.
    pub fn desc(&self) -> TensorDesc {
        TensorDesc::contiguous(self.dtype, &self.shape)
    }
}

/// Reads every tensor of a safetensors file, by name.
///
/// # Errors
/// [`TensorFileError`] when the file cannot be read, is not safetensors, or holds an unknown element type.
#[cfg(feature = "safetensors")]
pub fn read_safetensors(path: &Path) -> Result<BTreeMap<String, HostTensor>, TensorFileError> {
    let name = path.display().to_string();
    match std::fs::read(path) {
        Ok(raw) => parse_safetensors(&name, &raw),
        Err(source) => Err(TensorFileError::Io { path: name, source }),
    }
}

/// Reads every tensor of a safetensors file that is in memory; `path` is what errors call it.
///
/// # Errors
/// [`TensorFileError`] when it is not safetensors, or holds an unknown element type.
#[cfg(feature = "safetensors")]
pub fn parse_safetensors(
    path: &str,
    raw: &[u8],
) -> Result<BTreeMap<String, HostTensor>, TensorFileError> {
    let name = || path.to_owned();
    if let Some(tensor) = named_twice(raw) {
        return Err(TensorFileError::Twice { path: name(), tensor });
    }
    let file = SafeTensors::deserialize(raw)
        .map_err(|error| TensorFileError::Format { path: name(), message: error.to_string() })?;
    let mut tensors = BTreeMap::new();
    for (tensor, view) in file.tensors() {
        let dtype = match view.dtype() {
            FileDtype::F32 => Dtype::F32,
            FileDtype::F16 => Dtype::F16,
            FileDtype::BF16 => Dtype::Bf16,
            FileDtype::I32 => Dtype::I32,
            FileDtype::BOOL => Dtype::Bool,
            FileDtype::U8 => Dtype::U8,
            other => {
                return Err(TensorFileError::Dtype {
                    path: name(),
                    tensor,
                    dtype: format!("{other:?}").to_lowercase(),
                });
            }
        };
        let shape = view.shape().iter().map(|&extent| extent as u64).collect();
        let bytes = view.data().to_vec();
        tensors.insert(tensor, HostTensor { dtype, shape, bytes });
    }
    Ok(tensors)
}

/// Writes tensors to a safetensors file, beside its place first: where it cannot be written, what was there stays.
///
/// # Errors
/// [`TensorFileError`] when the file cannot be written.
#[cfg(feature = "safetensors")]
pub fn write_safetensors(
    path: &Path,
    tensors: &BTreeMap<String, HostTensor>,
) -> Result<(), TensorFileError> {
    let name = || path.display().to_string();
    let format = |error: safetensors::SafeTensorError| TensorFileError::Format {
        path: name(),
        message: error.to_string(),
    };
    let mut views = Vec::new();
    for (tensor, host) in tensors {
        let dtype = match host.dtype {
            Dtype::F32 => FileDtype::F32,
            Dtype::F16 => FileDtype::F16,
            Dtype::Bf16 => FileDtype::BF16,
            Dtype::I32 => FileDtype::I32,
            Dtype::Bool => FileDtype::BOOL,
            Dtype::U8 => FileDtype::U8,
        };
        let shape = host.shape.iter().map(|&extent| extent as usize).collect();
        let view = FileView::new(dtype, shape, &host.bytes).map_err(format)?;
        views.push((tensor.as_str(), view));
    }
    let raw = safetensors::serialize(views, None).map_err(format)?;
    write_output(path, &raw).map_err(|source| TensorFileError::Io { path: name(), source })
}

#[cfg(all(test, feature = "safetensors"))]
mod tests {
    use super::*;

    #[test]
    fn a_file_gives_back_what_was_written() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("tensors.safetensors");
        let values = [0.5, -2.0, 1.0, 0.0];
        let mut tensors = BTreeMap::new();
        for dtype in [Dtype::F32, Dtype::F16, Dtype::Bf16, Dtype::I32, Dtype::Bool, Dtype::U8] {
            tensors.insert(dtype.to_string(), HostTensor::from_f64(dtype, &[2, 2], &values));
        }
        write_safetensors(&path, &tensors).unwrap();
        let read = read_safetensors(&path).unwrap();
        assert_eq!(read, tensors);
        assert_eq!(read["f16"].to_f64(), values);
        assert_eq!(read["bool"].to_f64(), [1.0, 1.0, 1.0, 0.0]);
    }

    #[test]
    fn a_text_file_is_refused_by_name() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("note.txt");
        std::fs::write(&path, "hello").unwrap();
        let error = read_safetensors(&path).unwrap_err().to_string();
        assert!(error.contains("note.txt: not a safetensors file"), "{error}");
    }
}
