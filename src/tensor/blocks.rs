//! Weights in blocks of 32 numbers that share a scale, bit for bit as GGML and the OCP microscaling formats store them.
//!
//! A row of `inner` numbers is `inner / 32` blocks; element `j` of a block is
//!
//! | format | bytes | value |
//! |---|---|---|
//! | `q8_0` | f16 `d`, 32 × i8 `q` | `d · q[j]` |
//! | `q4_0` | f16 `d`, 16 bytes: nibble `j` is the low half of byte `j`, nibble `j + 16` its high half | `d · (nibble − 8)` |
//! | `mxfp4` | e8m0 `e`, 16 bytes, nibbles as in `q4_0` | `2^(e − 127) · e2m1(nibble)`, NaN where `e` is 255 |
//!
//! Checkpoints of gpt-oss hold mxfp4 as two tensors, blocks of 16 bytes and scales of one; there byte `j` holds
//! elements `2j` (low) and `2j + 1` (high). (OCP Microscaling Formats 1.0, sections 5 and 6.)

use half::f16;
use serde::{Deserialize, Serialize};

use super::Dtype;
use crate::error::SpecError;

/// Numbers in a block.
pub const BLOCK: usize = 32;

/// How weights are stored: as numbers, or in blocks. As JSON: `"f16"`, `"q4_0"`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum WeightFormat {
    /// IEEE single precision.
    F32,
    /// IEEE half precision.
    F16,
    /// bfloat16.
    Bf16,
    /// Blocks of 8-bit integers.
    #[serde(rename = "q8_0")]
    Q8_0,
    /// Blocks of 4-bit integers.
    #[serde(rename = "q4_0")]
    Q4_0,
    /// Blocks of 4-bit floats.
    Mxfp4,
}

/// How a block is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum BlockFormat {
    /// An f16 scale and 32 signed bytes.
    Q8_0,
    /// An f16 scale and 32 nibbles.
    Q4_0,
    /// A power of two and 32 nibbles, each a float of two exponent bits and one of mantissa.
    Mxfp4,
}

impl WeightFormat {
    /// The element type that tensors of such weights have: bytes where they are in blocks.
    pub const fn dtype(self) -> Dtype {
        match self {
            Self::F32 => Dtype::F32,
            Self::F16 => Dtype::F16,
            Self::Bf16 => Dtype::Bf16,
            Self::Q8_0 | Self::Q4_0 | Self::Mxfp4 => Dtype::U8,
        }
    }

    /// The format of its blocks, if it has any.
    pub const fn blocks(self) -> Option<BlockFormat> {
        match self {
            Self::F32 | Self::F16 | Self::Bf16 => None,
            Self::Q8_0 => Some(BlockFormat::Q8_0),
            Self::Q4_0 => Some(BlockFormat::Q4_0),
            Self::Mxfp4 => Some(BlockFormat::Mxfp4),
        }
    }

    /// Plain numbers of a floating-point type.
    pub(crate) const fn plain(dtype: Dtype) -> Self {
        match dtype {
            Dtype::F16 => Self::F16,
            Dtype::Bf16 => Self::Bf16,
            _ => Self::F32,
        }
    }
}

impl std::fmt::Display for WeightFormat {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::F32 => "f32",
            Self::F16 => "f16",
            Self::Bf16 => "bf16",
            Self::Q8_0 => "q8_0",
            Self::Q4_0 => "q4_0",
            Self::Mxfp4 => "mxfp4",
        })
    }
}

/// The magnitudes of e2m1, by their three bits.
const E2M1: [f32; 8] = [0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0];

impl BlockFormat {
    /// Bytes of a block.
    pub const fn bytes(self) -> usize {
        match self {
            Self::Q8_0 => 34,
            Self::Q4_0 => 18,
            Self::Mxfp4 => 17,
        }
    }

    /// Rounds numbers to blocks, as GGML's reference does.
    ///
    /// # Errors
    /// [`SpecError::Value`] unless the numbers fill whole blocks of 32.
    pub fn quantise(self, values: &[f32]) -> Result<Vec<u8>, SpecError> {
        if !values.len().is_multiple_of(BLOCK) {
            return Err(SpecError::value("values", "a multiple of 32 of them", values.len()));
        }
        let mut bytes = Vec::with_capacity(values.len() / BLOCK * self.bytes());
        for block in values.chunks_exact(BLOCK) {
            match self {
                Self::Q8_0 => quantise_q8_0(block, &mut bytes),
                Self::Q4_0 => quantise_q4_0(block, &mut bytes),
                Self::Mxfp4 => quantise_mxfp4(block, &mut bytes),
            }
        }
        Ok(bytes)
    }

    /// The numbers of whole blocks, exactly.
    ///
    /// # Errors
    /// [`SpecError::Value`] unless the bytes are whole blocks.
    pub fn dequantise(self, bytes: &[u8]) -> Result<Vec<f32>, SpecError> {
        if !bytes.len().is_multiple_of(self.bytes()) {
            let expected = format!("a multiple of {} (blocks)", self.bytes());
            return Err(SpecError::value("bytes", expected, bytes.len()));
        }
        let half = |block: &[u8]| f16::from_le_bytes([block[0], block[1]]).to_f32();
        let number = |block: &[u8], j: usize| match self {
            Self::Q8_0 => half(block) * f32::from(block[2 + j] as i8),
            Self::Q4_0 => half(block) * (f32::from(nibble(&block[2..], j)) - 8.0),
            Self::Mxfp4 => e8m0(block[0]) * e2m1(nibble(&block[1..], j)),
        };
        let blocks = bytes.chunks_exact(self.bytes());
        Ok(blocks.flat_map(|block| (0..BLOCK).map(move |j| number(block, j))).collect())
    }
}

/// The numbers of mxfp4 as checkpoints hold it: blocks of 16 bytes, and a scale for each.
///
/// # Errors
/// [`SpecError::Value`] unless there are 16 bytes for each scale.
pub fn dequantise_mxfp4_pair(blocks: &[u8], scales: &[u8]) -> Result<Vec<f32>, SpecError> {
    if blocks.len() != 16 * scales.len() {
        let expected = format!("{} bytes (16 for each scale)", 16 * scales.len());
        return Err(SpecError::value("blocks", expected, blocks.len()));
    }
    let pair = |(byte, scale): (&u8, f32)| [scale * e2m1(byte & 15), scale * e2m1(byte >> 4)];
    let scales = scales.iter().flat_map(|scale| std::iter::repeat_n(e8m0(*scale), 16));
    Ok(blocks.iter().zip(scales).flat_map(pair).collect())
}

/// Nibble `j` of 16 bytes.
fn nibble(bytes: &[u8], j: usize) -> u8 {
    if j < 16 { bytes[j] & 15 } else { bytes[j - 16] >> 4 }
}

fn e2m1(nibble: u8) -> f32 {
    let magnitude = E2M1[usize::from(nibble & 7)];
    if nibble & 8 == 0 { magnitude } else { -magnitude }
}

/// 2^(exponent − 127).
fn e8m0(exponent: u8) -> f32 {
    match exponent {
        0 => f32::from_bits(0x0040_0000),
        255 => f32::NAN,
        _ => f32::from_bits(u32::from(exponent) << 23),
    }
}

fn inverse(scale: f32) -> f32 {
    if scale == 0.0 { 0.0 } else { 1.0 / scale }
}

fn quantise_q8_0(block: &[f32], bytes: &mut Vec<u8>) {
    let most = block.iter().fold(0.0_f32, |most, value| most.max(value.abs()));
    let scale = most / 127.0;
    bytes.extend(f16::from_f32(scale).to_le_bytes());
    let inverse = inverse(scale);
    bytes.extend(block.iter().map(|value| (value * inverse).round() as i8 as u8));
}

fn quantise_q4_0(block: &[f32], bytes: &mut Vec<u8>) {
    let larger = |most: f32, &value: &f32| if value.abs() > most.abs() { value } else { most };
    let scale = block.iter().fold(0.0_f32, larger) / -8.0;
    bytes.extend(f16::from_f32(scale).to_le_bytes());
    let inverse = inverse(scale);
    let nibble = |value: f32| ((value * inverse + 8.5) as i8).min(15) as u8 & 15;
    bytes.extend((0..16).map(|j| nibble(block[j]) | nibble(block[j + 16]) << 4));
}

fn quantise_mxfp4(block: &[f32], bytes: &mut Vec<u8>) {
    let most = block.iter().fold(0.0_f32, |most, value| most.max(value.abs()));
    let exponent = if most > 0.0 { (most.log2().floor() - 2.0 + 127.0) as u8 } else { 0 };
    bytes.push(exponent);
    let scale = e8m0(exponent);
    // The nearest; of two as near the first.
    let nearest = |value: f32| {
        let mut best = (0, value.abs());
        for candidate in 1..16 {
            let error = (e2m1(candidate) * scale - value).abs();
            if error < best.1 {
                best = (candidate, error);
            }
        }
        best.0
    };
    bytes.extend((0..16).map(|j| nearest(block[j]) | nearest(block[j + 16]) << 4));
}

#[cfg(test)]
mod tests {
    use super::*;

    const FORMATS: [BlockFormat; 3] = [BlockFormat::Q8_0, BlockFormat::Q4_0, BlockFormat::Mxfp4];

    /// Noise in ±`size`.
    fn noise(count: usize, size: f32) -> Vec<f32> {
        let value = |i: usize| ((i * 2_654_435_761 + 12_345) % 100_003) as f32 / 50_001.5 - 1.0;
        (0..count).map(|i| value(i) * size).collect()
    }

    #[test]
    fn blocks_written_by_hand_have_their_values() {
        let mut q8 = vec![0x00, 0x38]; // 0.5
        q8.extend((0..32).map(|j| (j as i8 - 16) as u8));
        let values = BlockFormat::Q8_0.dequantise(&q8).unwrap();
        assert!((0..32).all(|j| values[j] == 0.5 * (j as f32 - 16.0)), "{values:?}");
        let mut q4 = vec![0x00, 0xc0]; // -2
        q4.extend((0..16).map(|j| j | (15 - j) << 4));
        let values = BlockFormat::Q4_0.dequantise(&q4).unwrap();
        assert!((0..16).all(|j| values[j] == -2.0 * (j as f32 - 8.0)), "{values:?}");
        assert!((0..16).all(|j| values[j + 16] == -2.0 * (7.0 - j as f32)), "{values:?}");
        let nibbles: Vec<u8> = (0..16).map(|j| j | (15 - j) << 4).collect();
        let numbers = [0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0];
        let e2m1 = |nibble: usize| match nibble {
            0..8 => numbers[nibble],
            _ => -numbers[nibble - 8],
        };
        let values = BlockFormat::Mxfp4.dequantise(&[&[130], &nibbles[..]].concat()).unwrap();
        assert!((0..16).all(|j| values[j] == 8.0 * e2m1(j)), "{values:?}");
        assert!((0..16).all(|j| values[j + 16] == 8.0 * e2m1(15 - j)), "{values:?}");
        let values = dequantise_mxfp4_pair(&nibbles, &[126]).unwrap();
        assert!((0..16).all(|j| values[2 * j] == 0.5 * e2m1(j)), "{values:?}");
        assert!((0..16).all(|j| values[2 * j + 1] == 0.5 * e2m1(15 - j)), "{values:?}");
    }

    #[test]
    fn numbers_become_the_bytes_that_the_formats_define() {
        let mut values = vec![0.0; 32];
        (values[0], values[1], values[16], values[31]) = (-8.0, 4.0, 7.0, 0.49);
        let q8 = BlockFormat::Q8_0.quantise(&values).unwrap();
        let scale = f16::from_f32(8.0 / 127.0).to_le_bytes();
        assert_eq!(q8[..4], [scale[0], scale[1], 129, 64]); // 4 / (8 / 127) = 63.5, away from zero
        assert_eq!([q8[18], q8[33]], [111, 8]);
        let q4 = BlockFormat::Q4_0.quantise(&values).unwrap();
        assert_eq!(q4[..4], [0x00, 0x3c, 0xf0, 0x8c]); // scale 1: -8 is nibble 0, 7 is 15, 4 is 12
        assert_eq!(q4[17], 0x88);
        let mxfp4 = BlockFormat::Mxfp4.quantise(&values).unwrap();
        assert_eq!(mxfp4[..3], [128, 0x5e, 0x04]); // scale 2: -4, 2, and 3.5 lies as near 3 as 4
        assert_eq!(mxfp4[16], 0x00);
    }

    #[test]
    fn zeros_stay_zeros_and_rounding_is_small() {
        for format in FORMATS {
            let zeros = format.quantise(&[0.0; 64]).unwrap();
            assert_eq!(zeros.len(), 2 * format.bytes());
            assert!(format.dequantise(&zeros).unwrap().iter().all(|value| *value == 0.0));
            for size in [1e-3, 1.0, 300.0] {
                let values = noise(320, size);
                let once = format.dequantise(&format.quantise(&values).unwrap()).unwrap();
                let share = match format {
                    BlockFormat::Q8_0 => 0.01,
                    BlockFormat::Q4_0 => 0.2,
                    BlockFormat::Mxfp4 => 0.25, // the largest of a block, up to 8 scales, becomes 6
                };
                for (value, once) in values.iter().zip(&once) {
                    assert!((value - once).abs() <= share * size, "{format:?} {value} {once}");
                }
            }
        }
    }

    #[test]
    fn scales_at_the_ends_are_what_the_formats_say() {
        let block = |scale: u8| [&[scale], &[0x22; 16][..]].concat();
        let one = |scale| BlockFormat::Mxfp4.dequantise(&block(scale)).unwrap()[0];
        assert_eq!(one(0), 2f32.powi(-127));
        assert_eq!(one(254), 2f32.powi(127));
        assert!(one(255).is_nan());
    }

    #[test]
    fn odd_numbers_of_bytes_and_values_are_refused_with_both_numbers() {
        let error = BlockFormat::Q4_0.quantise(&[0.0; 33]).unwrap_err().to_string();
        assert_eq!(error, "values: expected a multiple of 32 of them, got 33");
        let error = BlockFormat::Q4_0.dequantise(&[0; 19]).unwrap_err().to_string();
        assert_eq!(error, "bytes: expected a multiple of 18 (blocks), got 19");
        let error = dequantise_mxfp4_pair(&[0; 31], &[0; 2]).unwrap_err().to_string();
        assert_eq!(error, "blocks: expected 32 bytes (16 for each scale), got 31");
    }
}
