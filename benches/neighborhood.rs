//! Neighborhood attention against our own dense attention over the same tokens, and against the bound that the simulator
//! sets: interleaved runs, the fastest of each. `--tiles` compares every candidate tile set instead.
//! On a software adapter the times say nothing about GPUs; the first line tells the device.

use std::collections::BTreeMap;
use std::time::Instant;

use tilewise::attention::{AttentionLayout, AttentionProblem, AttentionSpec};
use tilewise::neighborhood::{NeighborhoodProblem, NeighborhoodSpec, TensorDescs, simulate};
use tilewise::operator::Operator;
use tilewise::problems::Resident;
use tilewise::tensor::{Dtype, HostTensor};
use tilewise::{Engine, EngineOptions, Error};

const RUNS: usize = 7;
/// Calls a submission, so that what a submission costs is not counted against the shorter of the two.
const CALLS: u32 = 8;
const HEADS: u64 = 2;
const HEAD_DIM: u64 = 64;

/// Extents, window, stride. The last three grow in area alone.
type Problem = (&'static [u64], &'static [u32], &'static [u32]);
const PROBLEMS: [Problem; 8] = [
    (&[4096], &[64], &[64]),
    (&[4096], &[65], &[1]),
    (&[64, 64], &[8, 8], &[8, 8]),
    (&[64, 64], &[16, 16], &[16, 16]),
    (&[16, 16, 16], &[7, 7, 7], &[1, 1, 1]),
    (&[28, 28], &[13, 13], &[1, 1]),
    (&[56, 56], &[13, 13], &[1, 1]),
    (&[112, 112], &[13, 13], &[1, 1]),
];

/// Dense attention is timed up to here; beyond, it is left out.
const DENSE_TOKENS: u64 = 4096;

fn main() -> Result<(), Error> {
    let engine = Engine::open(&EngineOptions::default())?;
    println!(
        "{} ({}), f32, {HEADS} heads, head_dim {HEAD_DIM}",
        engine.adapter().name,
        engine.adapter().kind
    );
    let all_tiles = std::env::args().any(|argument| argument == "--tiles");
    for problem in PROBLEMS {
        if all_tiles { tiles(&engine, problem)? } else { against_dense(&engine, problem)? }
    }
    Ok(())
}

fn inputs(spatial: &[u64]) -> BTreeMap<String, HostTensor> {
    let shape = [&[1], spatial, &[HEADS, HEAD_DIM]].concat();
    let count = shape.iter().product::<u64>();
    let tensor = |seed: u64| {
        let value = |i: u64| ((i * 2_654_435_761 + seed * 97) % 1009) as f64 / 504.5 - 1.0;
        let values: Vec<f64> = (0..count).map(value).collect();
        HostTensor::from_f64(Dtype::F32, &shape, &values)
    };
    ["q", "k", "v"]
        .into_iter()
        .zip(1..)
        .map(|(name, seed)| (name.to_owned(), tensor(seed)))
        .collect()
}

fn descs(inputs: &BTreeMap<String, HostTensor>) -> TensorDescs {
    inputs.iter().map(|(name, host)| (name.clone(), host.desc())).collect()
}

fn problem(
    (_, window, stride): Problem,
    tensors: &TensorDescs,
) -> Result<NeighborhoodProblem, Error> {
    let spec = NeighborhoodSpec {
        window: window.to_vec(),
        stride: stride.to_vec(),
        ..NeighborhoodSpec::default()
    };
    Ok(NeighborhoodProblem::new(&spec, tensors)?)
}

fn milliseconds<O: Operator>(call: &Resident<O>, times: u32) -> Result<f64, Error> {
    let start = Instant::now();
    call.run(times)?;
    Ok(start.elapsed().as_secs_f64() * 1e3 / f64::from(times))
}

fn against_dense(engine: &Engine, question: Problem) -> Result<(), Error> {
    let (spatial, window, stride) = question;
    let tokens = spatial.iter().product::<u64>();
    let own = inputs(spatial);
    let problem = problem(question, &descs(&own))?;
    let fused = Resident::new(engine, &problem, None, &own)?;
    let mut flat = own;
    flat.values_mut().for_each(|host| host.shape = vec![1, tokens, HEADS, HEAD_DIM]);
    let spec = AttentionSpec { layout: AttentionLayout::Bshd, ..AttentionSpec::default() };
    let dense = AttentionProblem::new(&spec, &descs(&flat))?;
    let dense = match tokens <= DENSE_TOKENS {
        true => Some(Resident::new(engine, &dense, None, &flat)?),
        false => None,
    };
    let (mut fused_ms, mut dense_ms) = (f64::MAX, f64::MAX);
    for _ in 0..RUNS {
        fused_ms = fused_ms.min(milliseconds(&fused, CALLS)?);
        if let Some(dense) = &dense {
            dense_ms = dense_ms.min(milliseconds(dense, 1)?);
        }
    }
    let simulation = simulate(&problem, &fused.prepared.tiles);
    let bound = simulation.speedup_bound;
    print!(
        "{spatial:?} window {window:?} stride {stride:?}: {fused_ms:.2} ms, {:.3} us a token",
        1e3 * fused_ms / tokens as f64
    );
    if dense.is_some() {
        let speedup = dense_ms / fused_ms;
        let share = 100.0 * speedup / bound;
        print!("; dense {dense_ms:.1} ms: {speedup:.2} x of at most {bound:.2} x ({share:.0} %)");
    }
    println!("; boxes {} by {}", simulation.query_box, simulation.key_box);
    Ok(())
}

fn tiles(engine: &Engine, question: Problem) -> Result<(), Error> {
    let (spatial, window, stride) = question;
    let own = inputs(spatial);
    let problem = problem(question, &descs(&own))?;
    println!("{spatial:?} window {window:?} stride {stride:?}");
    for tiles in problem.candidates(engine.limits())? {
        let call = Resident::new(engine, &problem, Some(tiles), &own)?;
        let mut fastest = f64::MAX;
        for _ in 0..RUNS {
            fastest = fastest.min(milliseconds(&call, CALLS)?);
        }
        println!("  {fastest:8.2} ms, waste {:.2} x: {tiles}", simulate(&problem, &tiles).waste);
    }
    Ok(())
}
