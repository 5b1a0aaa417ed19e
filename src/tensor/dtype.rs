//! Element types of tensors in memory.

use std::fmt;

use serde::{Deserialize, Serialize};

/// An element type, as stored.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize,
)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum Dtype {
    /// IEEE single precision.
    #[default]
    F32,
    /// IEEE half precision.
    F16,
    /// bfloat16: the upper half of an f32.
    Bf16,
    /// Signed 32-bit integer.
    I32,
    /// One byte an element, 0 is false.
    Bool,
    /// A byte: of blocks of weights ([`WeightFormat`](super::WeightFormat)).
    U8,
}

impl Dtype {
    /// Size of an element in bytes.
    pub const fn bytes(self) -> u64 {
        match self {
            Self::F32 | Self::I32 => 4,
            Self::F16 | Self::Bf16 => 2,
            Self::Bool | Self::U8 => 1,
        }
    }

    /// Whether it is a floating-point type.
    pub const fn is_float(self) -> bool {
        matches!(self, Self::F32 | Self::F16 | Self::Bf16)
    }

    /// Unit roundoff: half the distance from 1 to the next number, 0 for the exact types.
    pub const fn epsilon(self) -> f64 {
        match self {
            Self::F32 => 1.0 / 16_777_216.0,
            Self::F16 => 1.0 / 2_048.0,
            Self::Bf16 => 1.0 / 256.0,
            Self::I32 | Self::Bool | Self::U8 => 0.0,
        }
    }
}

impl fmt::Display for Dtype {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::F32 => "f32",
            Self::F16 => "f16",
            Self::Bf16 => "bf16",
            Self::I32 => "i32",
            Self::Bool => "bool",
            Self::U8 => "u8",
        })
    }
}
