//! Whether a call's outputs are right.

use std::collections::BTreeMap;

use crate::attention::{AttentionLayout, AttentionProblem, AttentionReference, plain, reference};
use crate::error::SpecError;
use crate::tensor::{Dtype, HostTensor};
use crate::verify::judge::{Budget, JudgeReport, Mismatch, judge, lse_scale};

/// The truth of a call, and a plain implementation's errors, by which its outputs are judged.
#[derive(Clone, Debug)]
pub struct Expected {
    exact: AttentionReference,
    plain: AttentionReference,
}

impl Expected {
    /// Computes both on the CPU: for named problems a matter of seconds.
    ///
    /// # Errors
    /// As [`reference()`].
    pub fn new(
        problem: &AttentionProblem,
        inputs: &BTreeMap<String, HostTensor>,
    ) -> Result<Self, SpecError> {
        Ok(Self { exact: reference(problem, inputs)?, plain: plain(problem, inputs)? })
    }

    /// Holds every element of every output against the truth.
    ///
    /// # Errors
    /// [`Mismatch`] of the first output that is wrong; one that is missing has no elements.
    pub fn check(
        &self,
        problem: &AttentionProblem,
        outputs: &BTreeMap<String, HostTensor>,
    ) -> Result<JudgeReport, Mismatch> {
        let mut worst =
            JudgeReport { count: 0, max_error: 0.0, plain_error: 0.0, worst_share: 0.0 };
        let wanted = crate::operator::Operator::outputs(problem);
        for name in wanted {
            let report = self.judged(problem, name, outputs.get(name))?;
            worst.count += report.count;
            worst.max_error = worst.max_error.max(report.max_error);
            worst.plain_error = worst.plain_error.max(report.plain_error);
            worst.worst_share = worst.worst_share.max(report.worst_share);
        }
        Ok(worst)
    }

    fn judged(
        &self,
        problem: &AttentionProblem,
        name: &str,
        got: Option<&HostTensor>,
    ) -> Result<JudgeReport, Mismatch> {
        let got = got.map(|host| heads_first(problem, name, host)).unwrap_or_default();
        let (exact, plain, dtype, scale) = if name == "lse" {
            (&self.exact.lse, &self.plain.lse, Dtype::F32, lse_scale(&self.exact.lse))
        } else {
            let dtype = problem.spec.out_dtype.unwrap_or(problem.spec.dtype);
            (&self.exact.out, &self.plain.out, dtype, self.exact.value_max.clone())
        };
        judge(name, &got, exact, Budget { dtype, plain, row_scale: &scale })
    }
}

/// An output's numbers in the order of the reference, batch, head, seq, dim.
fn heads_first(problem: &AttentionProblem, name: &str, host: &HostTensor) -> Vec<f64> {
    let values = host.to_f64();
    let e = &problem.extents;
    if name == "lse" || problem.spec.layout == AttentionLayout::Bhsd {
        return values;
    }
    let [heads, seq, dim] = [e.q_heads, e.seq_len_q, e.value_dim].map(|extent| extent as usize);
    if values.len() != e.batch as usize * heads * seq * dim {
        return values;
    }
    let row =
        |batch: usize, head: usize, query: usize| ((batch * seq + query) * heads + head) * dim;
    (0..e.batch as usize * heads * seq)
        .map(|index| row(index / seq / heads, index / seq % heads, index % seq))
        .flat_map(|first| values[first..first + dim].iter().copied())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::attention::AttentionSpec;
    use crate::problems::inputs;

    fn small(layout: AttentionLayout) -> AttentionProblem {
        let spec = AttentionSpec {
            layout,
            batch: Some(2),
            q_heads: Some(3),
            seq_len_q: Some(4),
            head_dim: Some(5),
            ..AttentionSpec::default()
        };
        AttentionProblem::new(&spec, &spec.assumed_tensors().unwrap()).unwrap()
    }

    #[test]
    fn a_right_output_passes_in_either_layout_and_a_wrong_or_missing_one_fails() {
        let first = small(AttentionLayout::Bhsd);
        let expected = Expected::new(&first, &inputs(&first, 1)).unwrap();
        let mut right = expected.exact.out.clone();
        let output = |values: &[f64], shape: &[u64]| {
            BTreeMap::from([("out".to_owned(), HostTensor::from_f64(Dtype::F32, shape, values))])
        };
        assert!(expected.check(&first, &output(&right, &[2, 3, 4, 5])).is_ok());
        let last = small(AttentionLayout::Bshd);
        let mut moved = vec![0.0; right.len()];
        for (index, &value) in right.iter().enumerate() {
            let [b, h, s, d] = [index / 60, index / 20 % 3, index / 5 % 4, index % 5];
            moved[((b * 4 + s) * 3 + h) * 5 + d] = value;
        }
        assert!(expected.check(&last, &output(&moved, &[2, 4, 3, 5])).is_ok());
        right.swap(0, 60);
        assert!(expected.check(&first, &output(&right, &[2, 3, 4, 5])).is_err());
        right[0] = f64::NAN;
        assert!(expected.check(&first, &output(&right, &[2, 3, 4, 5])).is_err());
        assert!(expected.check(&first, &BTreeMap::new()).is_err());
    }
}
