//! Activations in blocks of 32 signed bytes that share a power of two: MXINT8 of the OCP microscaling formats.
//!
//! Of a block whose largest magnitude is `m`, with `e = ⌊log₂ m⌋` and at least −120, element `j` becomes
//! `clamp(round(x[j] · 2^(6 − e)), −127, 127) · 2^(e − 6)`, halves rounded to even: every step is exact but the one
//! rounding, so that all devices agree to the bit. A block that holds an infinity or NaN becomes NaN. (OCP Microscaling
//! Formats 1.0, sections 5 and 6.3.)

use std::fmt;

use serde::{Deserialize, Serialize};

use super::BLOCK;

/// What activations are rounded to before they are multiplied with weights in blocks. As JSON: `"mxint8"`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum ActivationFormat {
    /// Blocks of 32 signed bytes with a power of two.
    Mxint8,
}

impl fmt::Display for ActivationFormat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Mxint8 => "mxint8",
        })
    }
}

impl ActivationFormat {
    /// Numbers as they are multiplied; those of a last block that is not whole are rounded by themselves.
    pub fn round(self, values: &[f32]) -> Vec<f32> {
        match self {
            Self::Mxint8 => values.chunks(BLOCK).flat_map(mxint8).collect(),
        }
    }

    /// The same of numbers that f32 holds.
    #[cfg(feature = "reference")]
    pub(crate) fn round_f64(self, values: &[f64]) -> Vec<f64> {
        let values: Vec<f32> = values.iter().map(|value| *value as f32).collect();
        self.round(&values).into_iter().map(f64::from).collect()
    }
}

/// The smallest and the largest exponent of a block, biased as floats have it.
const EXPONENTS: (u32, u32) = (7, 254);

fn mxint8(block: &[f32]) -> Vec<f32> {
    let largest = block.iter().map(|value| value.to_bits() & 0x7fff_ffff).max().unwrap_or(0);
    let exponent = (largest >> 23).clamp(EXPONENTS.0, EXPONENTS.1);
    let power = |biased: u32| f32::from_bits(biased << 23);
    let scale = if largest < 0x7f80_0000 { power(exponent - 6) } else { f32::NAN };
    let up = power(260 - exponent);
    let round = |value: &f32| (value * up).round_ties_even().clamp(-127.0, 127.0) * scale;
    block.iter().map(round).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn round(values: &[f32]) -> Vec<f32> {
        ActivationFormat::Mxint8.round(values)
    }

    #[test]
    fn numbers_of_seven_bits_beside_the_largest_stay() {
        let values: Vec<f32> = (0..32_u8).map(|i| f32::from(i) * 4.0 - 60.0).collect();
        assert_eq!(round(&values), values);
        let tiny: Vec<f32> = values.iter().map(|value| value * 2.0_f32.powi(-100)).collect();
        assert_eq!(round(&tiny), tiny);
        assert_eq!(round(&[0.0; 32]), [0.0; 32]);
    }

    #[test]
    fn others_go_to_the_nearest_halves_to_even_and_the_largest_is_cut() {
        // The largest is 64 steps of 1/64.
        let step = 1.0 / 64.0;
        assert_eq!(
            round(&[1.0, 0.4 * step, 0.5 * step, 1.5 * step, -2.6 * step]),
            [1.0, 0.0, 0.0, 2.0 * step, -3.0 * step]
        );
        assert_eq!(round(&[1.999, -1.999]), [127.0 * step, -127.0 * step]);
    }

    #[test]
    fn blocks_are_rounded_apart_and_what_is_not_finite_takes_its_block() {
        let mut values = vec![1e-3; 64];
        values[0] = 100.0;
        let rounded = round(&values);
        assert!(rounded[1] == 0.0 && (rounded[40] - 1e-3).abs() < 1e-5);
        values[3] = f32::INFINITY;
        let rounded = round(&values);
        assert!(rounded[..32].iter().all(|value| value.is_nan()) && rounded[40].is_finite());
    }

    #[test]
    fn the_ends_of_floats_neither_overflow_nor_vanish_beside_others() {
        assert_eq!(round(&[f32::MAX])[0], 127.0 / 64.0 * 2.0_f32.powi(127));
        assert_eq!(round(&[f32::MIN_POSITIVE])[0], f32::MIN_POSITIVE);
    }
}
