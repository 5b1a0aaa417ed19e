//! Non-local means as neighborhood attention: a pixel becomes the mean of the pixels around it, weighted by how alike
//! the patches are that they lie in (Buades, Coll and Morel, 2005 and 2011).
//!
//! The weight of pixel y for pixel x is `exp(-|q[x] - k[y]|² / (n h²))`, q and k being the n values of the patches. What
//! depends on x alone cancels in the softmax, so with `|k|²` in one more dim the score is a dot product:
//! `2 / (n h²) · (q[x], 1) · (k[y], -|k[y]|² / 2)`. Values are taken from the image's mean, which keeps them small.

use std::collections::BTreeMap;

use super::photo::Photo;
use crate::attention::{AttentionLayout, AttentionProblem, AttentionSpec};
use crate::cli::common::CliError;
use crate::neighborhood::{NeighborhoodProblem, NeighborhoodSpec};
use crate::tensor::{Dtype, HostTensor, descs};

/// Side of a patch, and of the window that a pixel looks at: those of the 2011 paper for noise like the default.
pub(super) const PATCH: usize = 3;
pub(super) const WINDOW: u32 = 21;

/// h over the deviation of the noise. Found on the carried photo: 0.8 to 1.0 differ by 0.3 dB at most.
const STRENGTH: f64 = 0.9;

/// The attention's tensors, heads last with one head, and the scale of its scores.
pub(super) struct Tokens {
    height: usize,
    width: usize,
    pub inputs: BTreeMap<String, HostTensor>,
    softmax_scale: f32,
}

impl Tokens {
    /// Patches and pixels of a photo with noise of this deviation.
    pub fn of(noisy: &Photo, deviation: f64) -> Self {
        let Photo { height, width, channels, ref values } = *noisy;
        let mean = values.iter().sum::<f64>() / values.len() as f64;
        let patch = (PATCH * PATCH * channels) as f64;
        let (mut q, mut k) = (Vec::new(), Vec::new());
        for (y, x) in places(height, width) {
            let first = k.len();
            let reach = PATCH as i64 / 2;
            for (dy, dx) in (-reach..=reach).flat_map(|dy| (-reach..=reach).map(move |dx| (dy, dx)))
            {
                let (y, x) = (y as i64 + dy, x as i64 + dx);
                k.extend((0..channels).map(|channel| noisy.reflected(y, x, channel) - mean));
            }
            let length: f64 = k[first..].iter().map(|value| value * value).sum();
            q.extend_from_slice(&k[first..]);
            q.push(1.0);
            k.push(-length / 2.0);
        }
        let tensor = |dim: usize, values: &[f64]| {
            let shape = [1, height, width, 1, dim].map(|extent| extent as u64);
            HostTensor::from_f64(Dtype::F32, &shape, values)
        };
        let dim = PATCH * PATCH * channels + 1;
        let inputs =
            [("q", tensor(dim, &q)), ("k", tensor(dim, &k)), ("v", tensor(channels, values))];
        let softmax_scale = (2.0 / (patch * (STRENGTH * deviation).powi(2))) as f32;
        let inputs = inputs.into_iter().map(|(name, host)| (name.to_owned(), host)).collect();
        Self { height, width, inputs, softmax_scale }
    }

    /// Each pixel looks at the window around it.
    pub fn problem(&self) -> Result<NeighborhoodProblem, CliError> {
        let side = |extent: usize| WINDOW.min(extent as u32);
        let spec = NeighborhoodSpec {
            window: vec![side(self.height), side(self.width)],
            softmax_scale: Some(self.softmax_scale.into()),
            ..NeighborhoodSpec::default()
        };
        let descs = descs(&self.inputs);
        Ok(NeighborhoodProblem::new(&spec, &descs)?)
    }

    /// The same where each pixel looks at all others, and its tensors.
    pub fn dense(&self) -> Result<(AttentionProblem, BTreeMap<String, HostTensor>), CliError> {
        let mut inputs = self.inputs.clone();
        for host in inputs.values_mut() {
            let dim = host.shape.last().copied().unwrap_or(0);
            host.shape = vec![1, (self.height * self.width) as u64, 1, dim];
        }
        let spec = AttentionSpec {
            layout: AttentionLayout::Bshd,
            softmax_scale: Some(self.softmax_scale.into()),
            ..AttentionSpec::default()
        };
        let descs = descs(&inputs);
        Ok((AttentionProblem::new(&spec, &descs)?, inputs))
    }
}

fn places(height: usize, width: usize) -> impl Iterator<Item = (usize, usize)> {
    (0..height).flat_map(move |y| (0..width).map(move |x| (y, x)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::neighborhood::reference;

    #[test]
    fn attention_over_patches_is_non_local_means() {
        let photo = Photo::read(None).unwrap().middle(23, 24);
        let deviation = 0.1;
        let tokens = Tokens::of(&photo, deviation);
        let got = reference(&tokens.problem().unwrap(), &tokens.inputs).unwrap().out;
        // The pixel at 11, 12 sees rows 1 to 21 and columns 2 to 22.
        let (y, x) = (11_i64, 12_i64);
        let (mut sum, mut weights) = (0.0, 0.0);
        for (ky, kx) in (1..=21_i64).flat_map(|ky| (2..=22_i64).map(move |kx| (ky, kx))) {
            let mut distance = 0.0;
            for (d, c) in (0..9_i64).flat_map(|d| (0..3).map(move |c| (d, c))) {
                let (dy, dx) = (d / 3 - 1, d % 3 - 1);
                let of = |y: i64, x: i64| photo.reflected(y + dy, x + dx, c);
                distance += (of(y, x) - of(ky, kx)).powi(2) / 27.0;
            }
            let weight = (-distance / (STRENGTH * deviation).powi(2)).exp();
            sum += weight * photo.reflected(ky, kx, 0);
            weights += weight;
        }
        let at = (y as usize * photo.width + x as usize) * 3;
        assert!((got[at] - sum / weights).abs() < 1e-5, "{} {}", got[at], sum / weights);
    }
}
