//! A photograph: read from PNG, cut, made noisy, compared.

use std::f64::consts::TAU;
use std::path::Path;

use png::{ColorType, Decoder, Transformations};

use super::canvas::Colour;
use crate::cli::common::CliError;
use crate::tensor::Random;

/// See `assets/README.md`.
const CHELSEA: &[u8] = include_bytes!("../../../assets/chelsea.png");

/// An image of one (grey) or three channels, row by row; 0 is black, 1 white.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Photo {
    pub height: usize,
    pub width: usize,
    pub channels: usize,
    pub values: Vec<f64>,
}

impl Photo {
    /// The caller's PNG, or the one that the program carries.
    pub fn read(path: Option<&Path>) -> Result<Self, CliError> {
        let Some(path) = path else { return Self::decode(CHELSEA, "chelsea.png") };
        let name = path.display().to_string();
        let bytes = std::fs::read(path)
            .map_err(|error| CliError::Request(format!("--image {name}: {error}")))?;
        Self::decode(&bytes, &name)
    }

    fn decode(bytes: &[u8], name: &str) -> Result<Self, CliError> {
        let refused = |what: String| CliError::Request(format!("--image {name}: {what}"));
        let unread =
            |error: png::DecodingError| refused(format!("not a PNG that can be read: {error}"));
        let mut decoder = Decoder::new(std::io::Cursor::new(bytes));
        decoder.set_transformations(Transformations::normalize_to_color8());
        let mut reader = decoder.read_info().map_err(unread)?;
        let too_large = || refused("larger than memory".to_owned());
        let mut pixels = vec![0; reader.output_buffer_size().ok_or_else(too_large)?];
        let info = reader.next_frame(&mut pixels).map_err(unread)?;
        let channels = match info.color_type {
            ColorType::Grayscale => 1,
            ColorType::Rgb => 3,
            ColorType::GrayscaleAlpha | ColorType::Rgba | ColorType::Indexed => {
                let expected = "expected grey or colour without transparency";
                return Err(refused(format!("{expected}, got {:?}", info.color_type)));
            }
        };
        pixels.truncate(info.buffer_size());
        let values = pixels.into_iter().map(|value| f64::from(value) / 255.0).collect();
        let (height, width) = (info.height as usize, info.width as usize);
        Ok(Self { height, width, channels, values })
    }

    /// A part, from its middle where there is more than `height` by `width`.
    pub fn middle(&self, height: usize, width: usize) -> Self {
        let (height, width) = (height.min(self.height), width.min(self.width));
        let (top, left) = ((self.height - height) / 2, (self.width - width) / 2);
        let row = |y: usize| {
            let first = ((top + y) * self.width + left) * self.channels;
            &self.values[first..first + width * self.channels]
        };
        let values = (0..height).flat_map(row).copied().collect();
        Self { height, width, channels: self.channels, values }
    }

    /// With normally distributed noise of this deviation on every value, as a file would keep it: 8 bits, nothing
    /// below black or above white.
    pub fn with_noise(&self, deviation: f64, seed: u64) -> Self {
        let mut random = Random::of(seed, "noise");
        let mut normal = || {
            // Box and Muller (1958)
            let (radius, turn) = (-2.0 * (1.0 - random.unit()).ln(), TAU * random.unit());
            radius.sqrt() * turn.cos()
        };
        let kept = |value: f64| (value.clamp(0.0, 1.0) * 255.0).round() / 255.0;
        let values = self.values.iter().map(|value| kept(value + deviation * normal())).collect();
        Self { values, ..*self }
    }

    /// The value at a place that may lie up to an image beyond the border, where the image is reflected.
    pub fn reflected(&self, y: i64, x: i64, channel: usize) -> f64 {
        let fold = |at: i64, extent: usize| {
            let last = extent as i64 - 1;
            let at = at.abs();
            (if at > last { 2 * last - at } else { at }).clamp(0, last) as usize
        };
        let (y, x) = (fold(y, self.height), fold(x, self.width));
        self.values[(y * self.width + x) * self.channels + channel]
    }

    /// Peak signal-to-noise ratio against the original, in dB.
    pub fn psnr(&self, original: &Self) -> f64 {
        let square = |(a, b): (&f64, &f64)| (a.clamp(0.0, 1.0) - b).powi(2);
        let sum: f64 = self.values.iter().zip(&original.values).map(square).sum();
        -10.0 * (sum / self.values.len() as f64).log10()
    }

    pub fn colour(&self, y: usize, x: usize) -> Colour {
        let first = (y * self.width + x) * self.channels;
        let shade = |value: f64| (value.clamp(0.0, 1.0) * 255.0).round() as u8;
        std::array::from_fn(|c| shade(self.values[first + c.min(self.channels - 1)]))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_carried_photo_is_read_and_noise_has_its_deviation() {
        let photo = Photo::read(None).unwrap();
        assert_eq!((photo.height, photo.width, photo.channels), (300, 451, 3));
        let grey = Photo { values: vec![0.5; photo.values.len()], ..photo };
        let noisy = grey.with_noise(0.1, 1);
        assert!((noisy.psnr(&grey) - 20.0).abs() < 0.05, "{}", noisy.psnr(&grey));
        assert_eq!(noisy, grey.with_noise(0.1, 1));
    }

    #[test]
    fn what_is_no_png_is_refused_by_name() {
        let error = Photo::decode(b"GIF89a", "cat.gif").unwrap_err().to_string();
        assert!(error.starts_with("--image cat.gif: not a PNG"), "{error}");
    }

    #[test]
    fn beyond_the_border_lies_the_reflection() {
        let values = vec![0.0, 0.1, 0.2, 0.3];
        let photo = Photo { height: 1, width: 4, channels: 1, values };
        let seen: Vec<f64> = (-2..6).map(|x| photo.reflected(0, x, 0)).collect();
        assert_eq!(seen, [0.2, 0.1, 0.0, 0.1, 0.2, 0.3, 0.2, 0.1]);
    }
}
