//! Where results are rounded: nowhere (the truth), or as in a plain implementation.

use half::{bf16, f16};

use crate::snippet::interpret::Precision;
use crate::tensor::Dtype;

/// How results are rounded.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Arithmetic {
    /// The type of scores and probabilities, and of `out`; `None` rounds nothing.
    stored: Option<(Dtype, Dtype)>,
}

impl Arithmetic {
    /// f64 throughout.
    pub(crate) const fn exact() -> Self {
        Self { stored: None }
    }

    /// f32, and `dtype` for what an unfused implementation stores between its steps.
    pub(crate) const fn plain(dtype: Dtype, out_dtype: Dtype) -> Self {
        Self { stored: Some((dtype, out_dtype)) }
    }

    /// For the caller's WGSL.
    pub(crate) const fn precision(self) -> Precision {
        if self.stored.is_some() { Precision::F32 } else { Precision::F64 }
    }

    /// A result in a register.
    pub(crate) fn register(self, value: f64) -> f64 {
        if self.stored.is_some() { f64::from(value as f32) } else { value }
    }

    /// A score or probability in memory.
    pub(crate) fn store(self, value: f64) -> f64 {
        self.stored.map_or(value, |(dtype, _)| round_to(value, dtype))
    }

    /// An element of `out` in memory.
    pub(crate) fn store_out(self, value: f64) -> f64 {
        self.stored.map_or(value, |(_, out_dtype)| round_to(value, out_dtype))
    }

    /// `Σ a·b`, in order.
    pub(crate) fn dot(self, a: &[f64], b: &[f64]) -> f64 {
        let terms = a.iter().zip(b);
        if self.stored.is_none() {
            return terms.map(|(a, b)| a * b).sum();
        }
        f64::from(terms.fold(0.0_f32, |sum, (a, b)| sum + *a as f32 * *b as f32))
    }
}

/// A score with its bias: minus infinity drops the key, whatever its score is.
pub(crate) fn biased(score: f64, bias: f64) -> f64 {
    if bias == f64::NEG_INFINITY { bias } else { score + bias }
}

fn round_to(value: f64, dtype: Dtype) -> f64 {
    match dtype {
        Dtype::F16 => f16::from_f64(value).to_f64(),
        Dtype::Bf16 => bf16::from_f64(value).to_f64(),
        Dtype::F32 => f64::from(value as f32),
        Dtype::I32 | Dtype::Bool | Dtype::U8 => value,
    }
}
