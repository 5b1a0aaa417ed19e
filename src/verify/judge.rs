//! Whether a tensor is right. Every row has a tolerance of its own.
//!
//! The tolerance of a row is `scale · (2 · plain + FLOOR) + 2 ulp of the scale`. A row's scale is how large what it sums
//! is. A row a thousandth as large as others is held to a thousandth of their tolerance. `plain` is the error of a plain
//! implementation as a share of its row's scale. It is the largest of all rows, because one row's own may be 0 by luck. A
//! row of scale 0 (one that keeps no key) is exact.

use std::fmt;

use crate::tensor::Dtype;

/// What devices' exp and tanh may be off, as a share of a row's scale.
const FLOOR: f64 = 2e-6;

/// How far each row may be off.
#[derive(Clone, Copy, Debug)]
pub struct Tolerance<'a> {
    /// Element type of the result. Its ulp counts.
    pub dtype: Dtype,
    /// The same result by a plain implementation, whose error is the measure. Non-finite elements count nothing.
    pub plain: &'a [f64],
    /// How large what each row sums is. It is the largest |v| for attention, and [`lse_scale`] for an lse. 0 asks for the
    /// exact number. Rows are equal parts of the tensor.
    pub row_scale: &'a [f64],
}

impl Tolerance<'_> {
    /// The tolerance of each row. A row whose scale is not finite has none.
    fn of_rows(&self, expected: &[f64]) -> Vec<f64> {
        let length = self.row_length(expected);
        let rows = self.plain.chunks(length).zip(expected.chunks(length)).zip(self.row_scale);
        let share = |((plain, expected), scale)| max_error(plain, expected) / scale;
        let plain = max_of(rows.map(share));
        let of_row = |&scale: &f64| match scale.is_finite() && scale != 0.0 {
            true => scale * (2.0 * plain + FLOOR) + 2.0 * ulp(scale, self.dtype),
            false => 0.0,
        };
        self.row_scale.iter().map(of_row).collect()
    }

    fn row_length(&self, expected: &[f64]) -> usize {
        (expected.len() / self.row_scale.len().max(1)).max(1)
    }
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
    /// The largest share of its tolerance that an element took.
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
    pub tolerance: f64,
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
        /// Which of the tensors it is.
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
        /// The five that are furthest beyond their tolerance.
        worst: Vec<Wrong>,
    },
}

/// The rows' scale of an lse. It is the magnitude, at least 1, and 0 where that is not finite.
pub fn lse_scale(expected: &[f64]) -> Vec<f64> {
    let scale = |lse: &f64| if lse.is_finite() { lse.abs().max(1.0) } else { 0.0 };
    expected.iter().map(scale).collect()
}

struct Lines<'a>(&'a [Wrong]);

impl fmt::Display for Lines<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for Wrong { index, got, expected, tolerance } in self.0 {
            write!(f, "\n  [{index}] got {got:e}, expected {expected:e}")?;
            write!(f, ", tolerance {tolerance:.3e}")?;
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
    tolerance: Tolerance<'_>,
) -> Result<JudgeReport, Mismatch> {
    check_lengths(name, got, expected, &tolerance)?;
    let (of_rows, row_length) = (tolerance.of_rows(expected), tolerance.row_length(expected));
    let plain_error = max_error(tolerance.plain, expected);
    let mut report =
        JudgeReport { count: expected.len(), max_error: 0.0, plain_error, worst_share: 0.0 };
    let mut wrong: Vec<(f64, Wrong)> = Vec::new();
    for (index, (&got, &expected)) in got.iter().zip(expected).enumerate() {
        let tolerance = of_rows[index / row_length];
        let (error, share) = compare(got, expected, tolerance);
        report.max_error = report.max_error.max(error);
        report.worst_share = report.worst_share.max(share);
        if share > 1.0 {
            wrong.push((share, Wrong { index, got, expected, tolerance }));
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

/// The error, and its share of the tolerance. A share above 1 is wrong.
fn compare(got: f64, expected: f64, tolerance: f64) -> (f64, f64) {
    if got == expected || (got.is_nan() && expected.is_nan()) {
        return (0.0, 0.0);
    }
    let error = (got - expected).abs();
    if !got.is_finite() || !expected.is_finite() || tolerance == 0.0 {
        return (error.max(0.0), f64::INFINITY);
    }
    (error, error / tolerance)
}

/// At least the distance between neighbours at `value`. Where f32 and bf16 have subnormal numbers, devices may have 0.
fn ulp(value: f64, dtype: Dtype) -> f64 {
    let least = match dtype {
        Dtype::F32 | Dtype::Bf16 => f64::from(f32::MIN_POSITIVE),
        Dtype::F16 => half::f16::MIN_POSITIVE_SUBNORMAL.to_f64(),
        Dtype::I32 | Dtype::Bool | Dtype::U8 => 0.0,
    };
    (2.0 * dtype.epsilon() * value.abs()).max(least)
}

fn max_error(values: &[f64], expected: &[f64]) -> f64 {
    max_of(values.iter().zip(expected).map(|(value, expected)| (value - expected).abs()))
}

fn max_of(values: impl Iterator<Item = f64>) -> f64 {
    values.filter(|value| value.is_finite()).fold(0.0, f64::max)
}

fn check_lengths(
    name: &str,
    got: &[f64],
    expected: &[f64],
    tolerance: &Tolerance<'_>,
) -> Result<(), Mismatch> {
    let wrong =
        |what, got, expected| Err(Mismatch::Length { name: name.to_owned(), what, got, expected });
    if got.len() != expected.len() {
        return wrong("the result", got.len(), expected.len());
    }
    if tolerance.plain.len() != expected.len() {
        return wrong("the plain result", tolerance.plain.len(), expected.len());
    }
    let rows = tolerance.row_scale.len();
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
        let tolerance = Tolerance { dtype: Dtype::F32, plain: &PLAIN, row_scale: &[1.0, 2.0] };
        judge("out", got, &EXPECTED, tolerance)
    }

    fn changed(index: usize, value: f64) -> Vec<f64> {
        let mut got = EXPECTED.to_vec();
        got[index] = value;
        got
    }

    #[test]
    fn within_the_tolerance_is_right() {
        let report = judged(&changed(1, -0.25 + 2e-4)).unwrap();
        assert!(report.max_error > 1.9e-4 && report.worst_share < 1.0, "{report:?}");
        assert!((report.plain_error - 1e-4).abs() < 1e-9, "{report:?}");
    }

    #[test]
    fn beyond_the_tolerance_is_wrong_and_listed() {
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

    /// Two rows of a head, and two of one whose values are a thousandth as large.
    fn small_head() -> (Vec<f64>, Vec<f64>, [f64; 4]) {
        let expected: Vec<f64> = EXPECTED.iter().chain(&EXPECTED).copied().collect();
        let size = |index: usize| if index < 6 { 1.0 } else { 1e-3 };
        let sized = |(index, value): (usize, f64)| size(index) * value;
        let plain: Vec<f64> =
            PLAIN.iter().chain(&EXPECTED).copied().enumerate().map(sized).collect();
        (expected.into_iter().enumerate().map(sized).collect(), plain, [2.0, 2.0, 2e-3, 2e-3])
    }

    #[test]
    fn a_small_head_that_is_wrong_by_half_its_size_is_wrong() {
        let (expected, plain, row_scale) = small_head();
        for dtype in [Dtype::F32, Dtype::F16, Dtype::Bf16] {
            let tolerance = Tolerance { dtype, plain: &plain, row_scale: &row_scale };
            assert!(judge("out", &expected, &expected, tolerance).is_ok());
            for rows in [6..12, 6..9, 9..12] {
                let mut got = expected.clone();
                got[rows.clone()].iter_mut().for_each(|value| *value *= 0.5);
                let Err(Mismatch::Values { wrong, worst, .. }) =
                    judge("out", &got, &expected, tolerance)
                else {
                    panic!("{dtype} {rows:?}")
                };
                assert!(wrong >= 2 && worst.iter().all(|wrong| rows.contains(&wrong.index)));
            }
        }
    }

    #[test]
    fn a_row_a_thousandth_as_large_has_a_thousandth_of_the_tolerance() {
        let (expected, plain, row_scale) = small_head();
        let tolerance = Tolerance { dtype: Dtype::F32, plain: &plain, row_scale: &row_scale };
        let of_rows = tolerance.of_rows(&expected);
        // Rows without an error of the plain implementation are held to the share of the row that has the largest.
        assert!(of_rows.iter().zip(row_scale).all(|(of_row, scale)| *of_row > 1e-4 * scale));
        assert!(of_rows.iter().zip(row_scale).all(|(of_row, scale)| *of_row < 1.2e-4 * scale));
        assert_eq!(of_rows[0], of_rows[1]);
        assert!((of_rows[2] / of_rows[0] - 1e-3).abs() < 1e-12);
    }

    #[test]
    fn non_finite_numbers_stand_where_they_are_expected() {
        for value in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
            assert!(judged(&changed(2, value)).is_err(), "{value}");
            let expected = [value, 1.0];
            let tolerance = Tolerance { dtype: Dtype::F16, plain: &[0.0, 1.0], row_scale: &[1.0] };
            assert!(judge("lse", &[value, 1.0], &expected, tolerance).is_ok(), "{value}");
            for got in [1.0, -value.abs(), f64::INFINITY] {
                let same = got == value;
                assert_eq!(
                    judge("lse", &[got, 1.0], &expected, tolerance).is_ok(),
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
        let tolerance = Tolerance { dtype: Dtype::F32, plain: &PLAIN, row_scale: &[1.0; 4] };
        assert!(matches!(
            judge("out", &EXPECTED, &EXPECTED, tolerance),
            Err(Mismatch::Length { .. })
        ));
    }

    #[test]
    fn a_row_without_keys_is_exact() {
        let tolerance = Tolerance { dtype: Dtype::F32, plain: &[0.0, 1.0], row_scale: &[0.0, 1.0] };
        assert!(judge("out", &[0.0, 1.0], &[0.0, 1.0], tolerance).is_ok());
        assert!(judge("out", &[1e-30, 1.0], &[0.0, 1.0], tolerance).is_err());
    }

    #[test]
    fn an_lse_of_zero_has_a_tolerance() {
        let expected = [0.0, f64::NEG_INFINITY];
        let scale = lse_scale(&expected);
        assert_eq!(scale, [1.0, 0.0]);
        let tolerance = Tolerance { dtype: Dtype::F32, plain: &expected, row_scale: &scale };
        assert!(judge("lse", &[1e-8, f64::NEG_INFINITY], &expected, tolerance).is_ok());
        assert!(judge("lse", &[0.0, -1e30], &expected, tolerance).is_err());
        assert!(judge("lse", &[1e-3, f64::NEG_INFINITY], &expected, tolerance).is_err());
    }

    #[test]
    fn nothing_is_right() {
        let tolerance = Tolerance { dtype: Dtype::F32, plain: &[], row_scale: &[] };
        assert_eq!(judge("out", &[], &[], tolerance).unwrap().count, 0);
    }
}
