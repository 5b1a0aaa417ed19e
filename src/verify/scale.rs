//! How large what a row sums is, where the references do not tell it.

use rayon::prelude::*;

use super::inputs::Inputs;
use crate::tensor::{HostTensor, TensorDesc};

/// The largest finite size in each row of a tensor's values.
pub(super) fn of_rows(values: &[f64], desc: &TensorDesc) -> Vec<f64> {
    let length = desc.shape().last().map_or(1, |length| (*length).max(1));
    values.chunks(length as usize).map(largest).collect()
}

/// Tensors of the sizes of other tensors' elements.
pub(super) fn sizes(inputs: &Inputs) -> Inputs {
    let size = |tensor: &HostTensor| {
        let sizes: Vec<f64> = tensor.to_f64().into_iter().map(f64::abs).collect();
        HostTensor::from_f64(tensor.dtype, &tensor.shape, &sizes)
    };
    inputs.iter().map(|(name, tensor)| (name.clone(), size(tensor))).collect()
}

/// `x · wᵀ + bias`, with rows of `inner` elements.
pub(super) struct Product {
    pub x: Vec<f64>,
    pub w: Vec<f64>,
    pub bias: Option<Vec<f64>>,
    pub inner: usize,
}

impl Product {
    /// The scale of each row of the product. A sum's scale is its size, at least the root of the sum of its terms'
    /// squares, which it would be if the terms had signs by chance. A row has that of its largest sum.
    pub fn scale_of_rows(&self, exact: &[f64]) -> Vec<f64> {
        let columns = self.w.len() / self.inner.max(1);
        let squares = |values: &[f64]| values.iter().map(|x| x * x).collect::<Vec<f64>>();
        let (x, w) = (squares(&self.x), squares(&self.w));
        let bias = self.bias.as_deref().map_or(0.0, largest);
        let scale = |(x, exact): (&[f64], &[f64])| {
            let sums = w.chunks_exact(self.inner).map(|w| dot(w, x));
            largest(exact).max(bias).max(sums.fold(0.0, f64::max).sqrt())
        };
        x.par_chunks_exact(self.inner).zip(exact.par_chunks(columns.max(1))).map(scale).collect()
    }
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

fn largest(values: &[f64]) -> f64 {
    values.iter().map(|value| value.abs()).filter(|value| value.is_finite()).fold(0.0, f64::max)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tensor::Dtype;

    #[test]
    fn a_product_whose_terms_cancel_has_the_scale_of_its_terms() {
        let product =
            Product { x: vec![3.0, 3.0, 0.3, 0.1], w: vec![1.0, -1.0], bias: None, inner: 2 };
        let scale = product.scale_of_rows(&[0.0, 0.2]);
        assert!(
            (scale[0] - 18.0_f64.sqrt()).abs() < 1e-12 && (scale[1] - 0.1_f64.sqrt()).abs() < 1e-12
        );
        let biased = Product { bias: Some(vec![-7.0]), ..product };
        assert_eq!(biased.scale_of_rows(&[-7.0, -6.8]), [7.0, 7.0]);
    }

    #[test]
    fn a_row_has_its_largest_finite_element() {
        let desc = TensorDesc::contiguous(Dtype::F32, &[2, 3]);
        assert_eq!(of_rows(&[1.0, -4.0, f64::NEG_INFINITY, 0.0, 0.0, 0.0], &desc), [4.0, 0.0]);
        assert_eq!(of_rows(&[2.0], &TensorDesc::contiguous(Dtype::F32, &[])), [2.0]);
    }
}
