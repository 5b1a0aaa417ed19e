//! Three-dimensional neighborhood attention: noise taken off a small video by non-local means. A pixel becomes the mean
//! of the pixels around it, in its own frame and in those before and after, weighted by how alike their patches are.
//!
//! `cargo run --release --example denoise_video`

use std::collections::BTreeMap;

use tilewise::neighborhood::{NeighborhoodProblem, NeighborhoodSpec};
use tilewise::tensor::{Dtype, HostTensor, descs};
use tilewise::{Engine, EngineOptions, Error};

const FRAMES: usize = 12;
const HEIGHT: usize = 48;
const WIDTH: usize = 64;
/// Deviation of the noise; 0 is black, 1 white.
const NOISE: f64 = 0.1;
/// How alike patches must be, in deviations of the noise.
const STRENGTH: f64 = 0.9;

fn main() -> Result<(), Error> {
    let engine = Engine::open(&EngineOptions::default())?;
    let video: Vec<f64> = places().map(|[t, y, x]| scene(t as f64, y as f64, x as f64)).collect();
    let mut noise = noise();
    let noisy: Vec<f64> = video.iter().map(|value| value + NOISE * noise()).collect();
    println!("{FRAMES} frames of {WIDTH} by {HEIGHT} on {}", engine.adapter().name);
    println!("PSNR with noise                {:.2} dB", psnr(&noisy, &video));
    for (what, window) in
        [("frames alone, 9 by 9 ", [1, 9, 9]), ("5 frames, 9 by 9 each", [5, 9, 9])]
    {
        let denoised = denoise(&engine, &noisy, window)?;
        println!("PSNR from {what}{:9.2} dB", psnr(&denoised, &video));
    }
    Ok(())
}

/// Stripes that drift, and a disc that crosses them.
fn scene(t: f64, y: f64, x: f64) -> f64 {
    let stripes =
        0.45 + 0.2 * (0.35 * (x - t) + 0.12 * y).sin() + 0.1 * (0.5 * (y + 0.5 * t)).sin();
    let from_disc = (x - 10.0 - 3.0 * t).hypot(y - 24.0 - 6.0 * (0.5 * t).sin());
    if from_disc < 9.0 { 0.85 - 0.03 * from_disc } else { stripes }
}

/// Patches of 3 by 3 as queries and keys, pixels as values. With `-|k|² / 2` in one more dim, which meets a 1 in the
/// query, the score `2 / (9 h²) · q · k` is `-|q - k|² / (9 h²)` up to what cancels in the softmax.
fn denoise(engine: &Engine, noisy: &[f64], window: [u32; 3]) -> Result<Vec<f64>, Error> {
    let mean = noisy.iter().sum::<f64>() / noisy.len() as f64;
    let pixel = |t: usize, y: usize, x: usize| noisy[(t * HEIGHT + y) * WIDTH + x] - mean;
    let near =
        |at: usize, step: usize, extent: usize| (at + step).saturating_sub(1).min(extent - 1);
    let (mut q, mut k) = (Vec::new(), Vec::new());
    for [t, y, x] in places() {
        let patch: Vec<f64> =
            (0..9).map(|i| pixel(t, near(y, i / 3, HEIGHT), near(x, i % 3, WIDTH))).collect();
        let length: f64 = patch.iter().map(|value| value * value).sum();
        q.extend(patch.iter().copied().chain([1.0]));
        k.extend(patch.iter().copied().chain([-length / 2.0]));
    }
    let tensor = |dim: usize, values: &[f64]| {
        let shape = [1, FRAMES, HEIGHT, WIDTH, 1, dim].map(|extent| extent as u64);
        HostTensor::from_f64(Dtype::F32, &shape, values)
    };
    let inputs: BTreeMap<String, HostTensor> =
        [("q", tensor(10, &q)), ("k", tensor(10, &k)), ("v", tensor(1, noisy))]
            .map(|(name, host)| (name.to_owned(), host))
            .into();
    let spec = NeighborhoodSpec {
        window: window.to_vec(),
        softmax_scale: Some(((2.0 / (9.0 * (STRENGTH * NOISE).powi(2))) as f32).into()),
        ..NeighborhoodSpec::default()
    };
    let descs = descs(&inputs);
    let problem = NeighborhoodProblem::new(&spec, &descs)?;
    Ok(engine.run(&problem, None, &inputs)?["out"].to_f64())
}

fn places() -> impl Iterator<Item = [usize; 3]> {
    (0..FRAMES * HEIGHT * WIDTH).map(|at| [at / (HEIGHT * WIDTH), at / WIDTH % HEIGHT, at % WIDTH])
}

/// Normally distributed numbers, the same every time.
fn noise() -> impl FnMut() -> f64 {
    let mut state = 1_u64;
    let mut unit = move || {
        state =
            state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        ((state >> 11) as f64 + 0.5) / (1_u64 << 53) as f64
    };
    move || (-2.0 * unit().ln()).sqrt() * (std::f64::consts::TAU * unit()).cos()
}

/// Peak signal-to-noise ratio.
fn psnr(got: &[f64], original: &[f64]) -> f64 {
    let sum: f64 = got.iter().zip(original).map(|(a, b)| (a - b).powi(2)).sum();
    -10.0 * (sum / got.len() as f64).log10()
}
