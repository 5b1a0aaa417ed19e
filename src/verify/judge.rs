//! Whether a tensor is right: every element within its budget.
//!
//! The budget of an element is `2 × the plain implementation's own error (the largest over the tensor) + 2 ulp of the
//! row's scale + floor`. The floor is `1e-6 · max + 1e-5 · min(1, max)`, max being the largest finite |expected|: what
//! devices' exp and tanh may be off. A row of scale 0 (one that keeps no key) has no budget at all: it is exact.

use std::fmt;

use crate::tensor::Dtype;

/// How far each element may be off.
#[derive(Clone, Copy, Debug)]
pub struct Budget<'a> {
    /// Element type of the result: its ulp counts.
    pub dtype: Dtype,
    /// The same result by a plain implementation, whose error is the measure. Non-finite elements count nothing.
    pub plain: &'a [f64],
    /// What each row's ulp is taken of: the largest |v| that it sums, [`lse_scale`] for an lse; 0 asks for the exact
    /// number. Rows are equal parts of the tensor.
    pub row_scale: &'a [f64],
}

/// What a tensor that is right had.
#[derive(Clone, Debug, PartialEq)]
pub struct JudgeReport {
    /// Number of elements.
    pub count: usize,
    /// The largest error.
    pub max_error: f64,
    /// The largest error of the plain implementation.
    pub plain_error: f64,
    /// The largest share of its budget that an element took.
    pub worst_share: f64,
}

/// An element that is wrong.
#[derive(Clone, Debug, PartialEq)]
pub struct Wrong {
    /// Its place in the flat tensor.
    pub index: usize,
    /// What came.
    pub got: f64,
    /// What is right.
    pub expected: f64,
    /// How far it may be off.
    pub budget: f64,
}

/// A tensor that is wrong.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum Mismatch {
    /// A tensor has another number of elements than expected.
    #[error("{name}: {what} has {got} elements, expected {expected}")]
    Length {
        /// The tensor's name.
        name: String,
        /// Which of the tensors: the result, the plain one, the rows' scales.
        what: &'static str,
        /// Its elements.
        got: usize,
        /// What they should be.
        expected: usize,
    },
    /// Elements are wrong.
    #[error("{name}: {wrong} of {count} elements are wrong; the worst:{}", Lines(.worst))]
    Values {
        /// The tensor's name.
        name: String,
        /// How many are wrong.
        wrong: usize,
        /// How many there are.
        count: usize,
        /// The five that are furthest beyond their budget.
        worst: Vec<Wrong>,
    },
}

/// The rows' scale of an lse: its magnitude, at least 1; 0 where it is not finite.
pub fn lse_scale(expected: &[f64]) -> Vec<f64> {
    let scale = |lse: &f64| if lse.is_finite() { lse.abs().max(1.0) } else { 0.0 };
    expected.iter().map(scale).collect()
}

struct Lines<'a>(&'a [Wrong]);

impl fmt::Display for Lines<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for Wrong { index, got, expected, budget } in self.0 {
            write!(f, "\n  [{index}] got {got:e}, expected {expected:e}, budget {budget:.3e}")?;
        }
        Ok(())
    }
}

/// Holds `got` against `expected`. Infinities and NaN must stand where they are expected, and nowhere else.
///
/// # Errors
/// [`Mismatch`] with the count and the worst five.
pub fn judge(
    name: &str,
    got: &[f64],
    expected: &[f64],
    budget: Budget<'_>,
) -> Result<JudgeReport, Mismatch> {
    check_lengths(name, got, expected, &budget)?;
    let plain_error = max_of(budget.plain.iter().zip(expected).map(|(p, e)| (p - e).abs()));
    let expected_max = max_of(expected.iter().map(|e| e.abs()));
    let floor = 1e-6 * expected_max + 1e-5 * expected_max.min(1.0);
    let row_length = expected.len() / budget.row_scale.len().max(1);
    let mut report =
        JudgeReport { count: expected.len(), max_error: 0.0, plain_error, worst_share: 0.0 };
    let mut wrong: Vec<(f64, Wrong)> = Vec::new();
    for (index, (&got, &expected)) in got.iter().zip(expected).enumerate() {
        let scale = budget.row_scale[index / row_length];
        let allowed = match scale == 0.0 {
            true => 0.0,
            false => 2.0 * plain_error + 2.0 * ulp(scale, budget.dtype) + floor,
        };
        let (error, share) = compare(got, expected, allowed);
        report.max_error = report.max_error.max(error);
        report.worst_share = report.worst_share.max(share);
        if share > 1.0 {
            wrong.push((share, Wrong { index, got, expected, budget: allowed }));
        }
    }
    if wrong.is_empty() {
        return Ok(report);
    }
    let count = wrong.len();
    wrong.sort_by(|a, b| b.0.total_cmp(&a.0));
    let worst = wrong.into_iter().take(5).map(|(_, wrong)| wrong).collect();
    Err(Mismatch::Values { name: name.to_owned(), wrong: count, count: expected.len(), worst })
}

/// Error, and its share of the budget: above 1 is wrong.
fn compare(got: f64, expected: f64, allowed: f64) -> (f64, f64) {
    if got == expected || (got.is_nan() && expected.is_nan()) {
        return (0.0, 0.0);
    }
    let error = (got - expected).abs();
    if !got.is_finite() || !expected.is_finite() || allowed.is_nan() || allowed == 0.0 {
        return (error.max(0.0), f64::INFINITY);
    }
    (error, error / allowed)
}

/// At least the distance between neighbours at `value`; non-finite scales have none.
fn ulp(value: f64, dtype: Dtype) -> f64 {
    if value.is_finite() { 2.0 * dtype.epsilon() * value.abs() } else { 0.0 }
}

fn max_of(values: impl Iterator<Item = f64>) -> f64 {
    values.filter(|value| value.is_finite()).fold(0.0, f64::max)
}

fn check_lengths(
    name: &str,
    got: &[f64],
    expected: &[f64],
    budget: &Budget<'_>,
) -> Result<(), Mismatch> {
    let wrong =
        |what, got, expected| Err(Mismatch::Length { name: name.to_owned(), what, got, expected });
    if got.len() != expected.len() {
        return wrong("the result", got.len(), expected.len());
    }
    if budget.plain.len() != expected.len() {
        return wrong("the plain result", budget.plain.len(), expected.len());
    }
    let rows = budget.row_scale.len();
    if !expected.is_empty() && (rows == 0 || !expected.len().is_multiple_of(rows)) {
        return wrong("the rows' scale", rows, expected.len());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const EXPECTED: [f64; 6] = [0.5, -0.25, 1.0, 2.0, -1.5, 0.125];
    const PLAIN: [f64; 6] = [0.5 + 1e-4, -0.25, 1.0, 2.0, -1.5, f64::NAN];

    fn judged(got: &[f64]) -> Result<JudgeReport, Mismatch> {
        let budget = Budget { dtype: Dtype::F32, plain: &PLAIN, row_scale: &[1.0, 2.0] };
        judge("out", got, &EXPECTED, budget)
    }

    fn changed(index: usize, value: f64) -> Vec<f64> {
        let mut got = EXPECTED.to_vec();
        got[index] = value;
        got
    }

    #[test]
    fn within_the_budget_is_right() {
        let report = judged(&changed(1, -0.25 + 2e-4)).unwrap();
        assert!(report.max_error > 1.9e-4 && report.worst_share < 1.0, "{report:?}");
        assert!((report.plain_error - 1e-4).abs() < 1e-9, "{report:?}");
    }

    #[test]
    fn beyond_the_budget_is_wrong_and_listed() {
        let got: Vec<f64> = EXPECTED.iter().enumerate().map(|(i, e)| e + i as f64).collect();
        let Err(Mismatch::Values { wrong, count, worst, .. }) = judged(&got) else { panic!() };
        assert_eq!((wrong, count, worst.len()), (5, 6, 5));
        assert_eq!((worst[0].index, worst[0].got, worst[0].expected), (5, 5.125, 0.125));
        let text = judged(&got).unwrap_err().to_string();
        assert!(
            text.contains("out: 5 of 6 elements") && text.contains("[5] got 5.125e0"),
            "{text}"
        );
    }

    #[test]
    fn non_finite_numbers_stand_where_they_are_expected() {
        for value in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
            assert!(judged(&changed(2, value)).is_err(), "{value}");
            let expected = [value, 1.0];
            let budget = Budget { dtype: Dtype::F16, plain: &[0.0, 1.0], row_scale: &[1.0] };
            assert!(judge("lse", &[value, 1.0], &expected, budget).is_ok(), "{value}");
            for got in [1.0, -value.abs(), f64::INFINITY] {
                let same = got == value;
                assert_eq!(
                    judge("lse", &[got, 1.0], &expected, budget).is_ok(),
                    same || got.is_nan() && value.is_nan()
                );
            }
        }
    }

    #[test]
    fn swapped_unwritten_and_short_results_are_wrong() {
        let mut swapped = EXPECTED.to_vec();
        swapped.rotate_left(3);
        assert!(judged(&swapped).is_err());
        assert!(judged(&[f64::NAN; 6]).is_err());
        assert!(judged(&[0.0; 6]).is_err());
        assert!(matches!(judged(&EXPECTED[..5]), Err(Mismatch::Length { got: 5, .. })));
        let budget = Budget { dtype: Dtype::F32, plain: &PLAIN, row_scale: &[1.0; 4] };
        assert!(matches!(judge("out", &EXPECTED, &EXPECTED, budget), Err(Mismatch::Length { .. })));
    }

    #[test]
    fn a_row_without_keys_is_exact() {
        let budget = Budget { dtype: Dtype::F32, plain: &[0.0, 1.0], row_scale: &[0.0, 1.0] };
        assert!(judge("out", &[0.0, 1.0], &[0.0, 1.0], budget).is_ok());
        assert!(judge("out", &[1e-30, 1.0], &[0.0, 1.0], budget).is_err());
    }

    #[test]
    fn an_lse_of_zero_has_a_budget() {
        let expected = [0.0, f64::NEG_INFINITY];
        let scale = lse_scale(&expected);
        assert_eq!(scale, [1.0, 0.0]);
        let budget = Budget { dtype: Dtype::F32, plain: &expected, row_scale: &scale };
        assert!(judge("lse", &[1e-8, f64::NEG_INFINITY], &expected, budget).is_ok());
        assert!(judge("lse", &[0.0, -1e30], &expected, budget).is_err());
        assert!(judge("lse", &[1e-3, f64::NEG_INFINITY], &expected, budget).is_err());
    }

    #[test]
    fn nothing_is_right() {
        let budget = Budget { dtype: Dtype::F32, plain: &[], row_scale: &[] };
        assert_eq!(judge("out", &[], &[], budget).unwrap().count, 0);
    }
}
