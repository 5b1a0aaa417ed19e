//! The inputs of the reference.

use std::collections::BTreeMap;

use crate::error::SpecError;
use crate::matmul::weights;
use crate::moe::problem::MoeProblem;
use crate::tensor::HostTensor;

/// Inputs as numbers.
pub(super) struct Numbers(BTreeMap<String, Vec<f64>>);

impl Numbers {
    /// Checks that all are there.
    pub fn new(
        problem: &MoeProblem,
        inputs: &BTreeMap<String, HostTensor>,
    ) -> Result<Self, SpecError> {
        let mut numbers = BTreeMap::new();
        for (name, desc) in &problem.tensors {
            if problem.gives(name) {
                continue;
            }
            let missing = || SpecError::MissingTensor {
                name: name.clone(),
                why: "an input of this call".to_owned(),
            };
            let input = inputs.get(name).ok_or_else(missing)?;
            if input.shape != desc.shape() || input.dtype != desc.dtype {
                let expected = format!("{} {:?}", desc.dtype, desc.shape());
                let got = format!("{} {:?}", input.dtype, input.shape);
                return Err(SpecError::value(name, expected, got));
            }
            let scales = weights::scales_name(name);
            let scales = inputs.get(&scales).filter(|_| problem.has(&scales));
            let values = weights::numbers(problem.format_of(name), input, scales)?;
            numbers.insert(name.clone(), values);
        }
        Ok(Self(numbers))
    }

    /// A tensor that the problem has.
    pub fn get(&self, name: &str) -> &[f64] {
        self.0.get(name).map_or(&[], Vec::as_slice)
    }

    /// A row of a tensor, `None` where there is no such tensor.
    pub fn row(&self, name: &str, row: usize, length: usize) -> Option<&[f64]> {
        self.0.get(name).map(|values| &values[row * length..(row + 1) * length])
    }
}
