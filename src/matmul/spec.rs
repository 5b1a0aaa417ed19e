//! The spec of a matmul as a caller writes it, in Rust or as JSON.

use serde::{Deserialize, Serialize};

use super::weights;
use crate::error::SpecError;
use crate::tensor::{ActivationFormat, Dtype, TensorDesc, TensorDescs, WeightFormat, check};

/// What a matmul computes: `out = x · wᵀ + bias`. What is `None` is taken from the tensors, or is the default said there.
///
/// ```
/// use tilewise::matmul::MatmulSpec;
/// use tilewise::tensor::{Dtype, WeightFormat};
/// let spec = MatmulSpec { dtype: Dtype::F16, weights: Some(WeightFormat::Q4_0), ..MatmulSpec::default() };
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct MatmulSpec {
    /// Element type of x; f32, f16 or bf16.
    pub dtype: Dtype,
    /// Element type of out: `dtype`, or f32. `None` is `dtype`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub out_dtype: Option<Dtype>,
    /// How w is stored. `None` is as numbers of `dtype`. In blocks, w is u8 `[columns, inner / 32 · bytes of a block]`;
    /// mxfp4 may also be u8 `[columns, inner / 32, 16]` beside `w_scales` `[columns, inner / 32]`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub weights: Option<WeightFormat>,
    /// What x is rounded to, an approximation for speed: weights in blocks are multiplied with it in integers. `None`
    /// rounds nothing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub quantise_activations: Option<ActivationFormat>,
    /// Rows of x and out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rows: Option<u32>,
    /// Rows of w, columns of out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub columns: Option<u32>,
    /// Elements of a row of x and of w.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub inner: Option<u32>,
}

impl Default for MatmulSpec {
    fn default() -> Self {
        Self {
            dtype: Dtype::F32,
            out_dtype: None,
            weights: None,
            quantise_activations: None,
            rows: None,
            columns: None,
            inner: None,
        }
    }
}

impl MatmulSpec {
    /// How w is stored.
    pub fn weight_format(&self) -> WeightFormat {
        self.weights.unwrap_or(WeightFormat::plain(self.dtype))
    }

    /// Tensors without gaps of a spec that tells every extent, without bias.
    ///
    /// # Errors
    /// [`SpecError::Value`] for an extent that is missing.
    pub fn assumed_tensors(&self) -> Result<TensorDescs, SpecError> {
        let inner = check::stated("inner", self.inner)?;
        let [rows, columns] =
            [check::stated("rows", self.rows)?, check::stated("columns", self.columns)?];
        let x = TensorDesc::contiguous(self.dtype, &[rows, inner]);
        let format = self.weight_format();
        let stored = weights::stored(format, "w", &[columns, inner], false);
        let w = |(name, shape): (String, Vec<u64>)| {
            (name, TensorDesc::contiguous(format.dtype(), &shape))
        };
        Ok(std::iter::once(("x".to_owned(), x)).chain(stored.into_iter().map(w)).collect())
    }
}
