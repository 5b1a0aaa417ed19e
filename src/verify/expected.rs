//! Whether a call's outputs are right.

use std::collections::BTreeMap;

use super::judge::{JudgeReport, Mismatch};
use super::output::{ExpectedOutput, expected};
use crate::any::AnyProblem;
use crate::error::SpecError;
use crate::tensor::HostTensor;

/// The truth of a call, and a plain implementation's errors, by which its outputs are judged.
#[derive(Clone, Debug)]
pub struct Expected {
    outputs: Vec<ExpectedOutput>,
}

impl Expected {
    /// Computes both on the CPU. Named problems take seconds.
    ///
    /// # Errors
    /// As the operators' references.
    pub fn new(
        problem: &AnyProblem,
        inputs: &BTreeMap<String, HostTensor>,
    ) -> Result<Self, SpecError> {
        Ok(Self { outputs: expected(problem, inputs)? })
    }

    /// Holds every element of every output against the truth. Outputs are as the device wrote them.
    ///
    /// # Errors
    /// [`Mismatch`] of the first output that is wrong. One that is missing has no elements.
    pub fn check(&self, outputs: &BTreeMap<String, HostTensor>) -> Result<JudgeReport, Mismatch> {
        let mut worst =
            JudgeReport { count: 0, max_error: 0.0, plain_error: 0.0, worst_share: 0.0 };
        for expected in &self.outputs {
            let bytes = outputs.get(expected.name).map_or(&[][..], |host| &host.bytes);
            let report = expected.judged(bytes)?.0;
            worst.count += report.count;
            worst.max_error = worst.max_error.max(report.max_error);
            worst.plain_error = worst.plain_error.max(report.plain_error);
            worst.worst_share = worst.worst_share.max(report.worst_share);
        }
        Ok(worst)
    }

    /// The same for one output by name.
    ///
    /// # Errors
    /// [`Mismatch`] where the output is wrong, or the call has none of this name.
    pub fn check_output(&self, name: &str, output: &HostTensor) -> Result<JudgeReport, Mismatch> {
        let expected = self.outputs.iter().find(|expected| expected.name == name);
        let missing = || Mismatch::Length {
            name: name.to_owned(),
            what: "the output that was not asked for",
            got: output.shape.iter().product::<u64>() as usize,
            expected: 0,
        };
        Ok(expected.ok_or_else(missing)?.judged(&output.bytes)?.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::any::AnySpec;
    use crate::attention::{AttentionLayout, AttentionSpec};
    use crate::tensor::Dtype;

    fn small(layout: AttentionLayout) -> AnyProblem {
        let spec = AnySpec::from(AttentionSpec {
            layout,
            batch: Some(2),
            q_heads: Some(3),
            seq_len_q: Some(4),
            head_dim: Some(5),
            ..AttentionSpec::default()
        });
        spec.ask(&spec.assumed_tensors().unwrap()).unwrap()
    }

    fn output(values: &[f64], shape: &[u64]) -> BTreeMap<String, HostTensor> {
        BTreeMap::from([("out".to_owned(), HostTensor::from_f64(Dtype::F32, shape, values))])
    }

    #[test]
    fn a_right_output_passes_in_either_layout_and_a_wrong_or_missing_one_fails() {
        let expected = |layout| {
            let problem = small(layout);
            Expected::new(&problem, &problem.sample(1)).unwrap()
        };
        let first = expected(AttentionLayout::Bhsd);
        let mut right = first.outputs[0].exact.clone();
        assert!(first.check(&output(&right, &[2, 3, 4, 5])).is_ok());
        let mut last = expected(AttentionLayout::Bshd);
        last.outputs[0].exact = right.clone();
        last.outputs[0].plain = first.outputs[0].plain.clone();
        last.outputs[0].row_scale = first.outputs[0].row_scale.clone();
        let mut moved = vec![0.0; right.len()];
        for (index, &value) in right.iter().enumerate() {
            let [b, h, s, d] = [index / 60, index / 20 % 3, index / 5 % 4, index % 5];
            moved[((b * 4 + s) * 3 + h) * 5 + d] = value;
        }
        assert!(last.check(&output(&moved, &[2, 4, 3, 5])).is_ok());
        right.swap(0, 60);
        assert!(first.check(&output(&right, &[2, 3, 4, 5])).is_err());
        right[0] = f64::NAN;
        assert!(first.check(&output(&right, &[2, 3, 4, 5])).is_err());
        assert!(first.check(&BTreeMap::new()).is_err());
    }
}
