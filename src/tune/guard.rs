//! Whether a candidate's output is the one of the heuristic's tiles.

use super::measure::Output;
use crate::tensor::Dtype;

/// How an output differs from the one of the heuristic's tiles by more than two right results can. Each row is held to
/// its own scale. A row a thousandth as large as others has a thousandth of their tolerance. Whole numbers are equal.
pub(super) fn difference(got: &Output, expected: &Output) -> Option<String> {
    let (dtype, shape) = (expected.values.dtype, &expected.values.shape);
    let row_length = shape.last().map_or(1, |length| (*length).max(1)) as usize;
    let (name, got, expected) = (&got.name, got.values.to_f64(), expected.values.to_f64());
    let rows = expected.chunks(row_length);
    let tolerances: Vec<f64> = rows.map(|row| tolerance(name, dtype, row)).collect();
    let same = |a: f64, b: f64, tolerance: f64| {
        a == b || (a.is_nan() && b.is_nan()) || (a - b).abs() <= tolerance
    };
    let differs =
        |(index, (a, b)): &(usize, (&f64, &f64))| !same(**a, **b, tolerances[index / row_length]);
    let wrong: Vec<_> = got.iter().zip(&expected).enumerate().filter(differs).collect();
    let (index, (a, b)) = wrong.first()?;
    let (count, all) = (wrong.len(), expected.len());
    let tolerance = tolerances[index / row_length];
    Some(format!(
        "{name}: {count} of {all} elements differ from the heuristic's, the first [{index}]: {a:e}, not {b:e} within {tolerance:.1e}"
    ))
}

/// How far two right results of a row may be apart. It is some units of the storage type, beside what devices' exp and
/// the order of sums make. What the row sums is not known here, so that its largest element is its scale. A logarithm's
/// scale is at least 1, because its error is a share of what the logarithm is taken of.
fn tolerance(name: &str, dtype: Dtype, row: &[f64]) -> f64 {
    if !dtype.is_float() {
        return 0.0;
    }
    let least = if name == "lse" { 1.0 } else { 0.0 };
    let sizes = row.iter().map(|value| value.abs()).filter(|size| size.is_finite());
    sizes.fold(least, f64::max) * (8.0 * dtype.epsilon() + 2e-5)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tensor::HostTensor;

    fn output(dtype: Dtype, shape: &[u64], values: &[f64]) -> Output {
        Output { name: "out".to_owned(), values: HostTensor::from_f64(dtype, shape, values) }
    }

    #[test]
    fn results_may_differ_by_rounding_alone() {
        let expected = || output(Dtype::F32, &[4], &[1.0, -4.0, f64::NEG_INFINITY, 0.0]);
        let against = |values: &[f64]| difference(&output(Dtype::F32, &[4], values), &expected());
        assert_eq!(against(&[1.0 + 5e-5, -4.0, f64::NEG_INFINITY, 1e-5]), None);
        assert!(against(&[1.001, -4.0, f64::NEG_INFINITY, 0.0]).unwrap().contains("1 of 4"));
        assert!(against(&[f64::NAN; 4]).unwrap().contains("4 of 4"));
        assert!(against(&[1.0, -4.0, 0.0, 0.0]).is_some());
        assert!(against(&[1.0, f64::INFINITY, f64::NEG_INFINITY, 0.0]).is_some());
        let whole = |values: &[f64]| output(Dtype::I32, &[2], values);
        assert_eq!(difference(&whole(&[3.0, 9.0]), &whole(&[3.0, 9.0])), None);
        assert!(difference(&whole(&[3.0, 8.0]), &whole(&[3.0, 9.0])).is_some());
    }

    #[test]
    fn a_small_head_that_is_wrong_by_half_its_size_differs() {
        let expected = [1.0, -3.0, 2.0, 0.5, 1e-3, -3e-3, 2e-3, 0.5e-3];
        for dtype in [Dtype::F32, Dtype::F16, Dtype::Bf16] {
            let of = |values: &[f64]| output(dtype, &[2, 1, 4], values);
            assert_eq!(difference(&of(&expected), &of(&expected)), None);
            let mut half = expected;
            half[4..].iter_mut().for_each(|value| *value *= 0.5);
            let message = difference(&of(&half), &of(&expected)).unwrap();
            assert!(message.contains("4 of 8") && message.contains("[4]"), "{message}");
        }
    }

    #[test]
    fn an_lse_of_zero_has_a_tolerance() {
        let lse = |values: &[f64]| Output {
            name: "lse".to_owned(),
            ..output(Dtype::F32, &[2, 1], values)
        };
        assert_eq!(difference(&lse(&[1e-6, 9.0]), &lse(&[0.0, 9.0])), None);
        assert!(difference(&lse(&[1e-3, 9.0]), &lse(&[0.0, 9.0])).is_some());
    }
}
