//! What benches have in common that compare by medians of interleaved runs.

use std::time::Instant;

use cpu_time::ProcessTime;
use tilewise::{Engine, Error};

/// Seconds of a run: of the process's CPU on a software adapter, whose cores are shared, else by the clock.
pub fn seconds(engine: &Engine, run: impl FnOnce() -> Result<(), Error>) -> Result<f64, Error> {
    let (clock, cpu) = (Instant::now(), ProcessTime::now());
    run()?;
    let elapsed = if engine.adapter().is_software() { cpu.elapsed() } else { clock.elapsed() };
    Ok(elapsed.as_secs_f64())
}

/// The one in the middle; NaN of none.
pub fn median(times: &mut [f64]) -> f64 {
    times.sort_by(f64::total_cmp);
    times.get(times.len() / 2).copied().unwrap_or(f64::NAN)
}

/// Numbers that look random, within ±1.
pub fn noise(count: u64, seed: u64) -> impl Iterator<Item = f64> {
    (0..count).map(move |i| ((i * 2_654_435_761 + seed * 97) % 1009) as f64 / 504.5 - 1.0)
}
