//! Neighborhood attention against our own dense attention over the same tokens, and against the bound that the simulator
//! sets, and against a naive kernel: interleaved runs, the median of each, by CPU time on a software adapter. The bound
//! counts visits alone, as if queries and outputs cost nothing; a kernel that only copies q to out tells what they leave
//! of it. Then the time a token of images that grow in area alone. `--tiles` compares every candidate tile set instead; `--naive-pipelines`
//! only creates the naive kernel's, each named on stderr before: for those who read what a compiler says.
//! On a software adapter the times say nothing about GPUs; the first line tells the device.

mod common;
mod naive;

use std::collections::BTreeMap;

use self::common::{median, noise, seconds};
use self::naive::{Entry, Naive, Shape};
use tilewise::attention::{AttentionLayout, AttentionProblem, AttentionSpec};
use tilewise::neighborhood::{NeighborhoodProblem, NeighborhoodSpec, TensorDescs, simulate};
use tilewise::operator::Operator;
use tilewise::problems::Resident;
use tilewise::tensor::{Dtype, HostTensor, descs};
use tilewise::{Engine, EngineOptions, Error};

const RUNS: usize = 7;
/// Calls a submission, so that what a submission costs is not counted against the shorter of the two.
const CALLS: u32 = 8;
const HEADS: u64 = 2;
const HEAD_DIM: u64 = 64;

/// Extents, window, stride.
type Problem = (&'static [u64], &'static [u32], &'static [u32]);
const PROBLEMS: [Problem; 8] = [
    (&[4096], &[64], &[64]),
    (&[4096], &[65], &[1]),
    (&[64, 64], &[8, 8], &[8, 8]),
    (&[56, 56], &[14, 14], &[14, 14]),
    (&[64, 64], &[16, 16], &[16, 16]),
    (&[16, 16, 16], &[8, 8, 8], &[8, 8, 8]),
    (&[56, 56], &[13, 13], &[1, 1]),
    (&[16, 16, 16], &[7, 7, 7], &[1, 1, 1]),
];

/// Images that grow in area alone, and how many calls of each are as much work.
const GROWING: [(Problem, u32); 3] = [
    ((&[28, 28], &[13, 13], &[1, 1]), 16),
    ((&[56, 56], &[13, 13], &[1, 1]), 4),
    ((&[112, 112], &[13, 13], &[1, 1]), 1),
];

fn main() -> Result<(), Error> {
    let asked = |flag: &str| std::env::args().any(|argument| argument == flag);
    if asked("--naive-pipelines") {
        let engine = Engine::open(&EngineOptions { floor: true, ..EngineOptions::default() })?;
        for (spatial, window, stride) in PROBLEMS.into_iter().filter(|problem| problem.0.len() < 3)
        {
            eprintln!("=== kernel naive {spatial:?} window {window:?} stride {stride:?}");
            let shape = Shape { spatial, window, stride, heads: HEADS, head_dim: HEAD_DIM };
            drop(naive::pipeline(&engine, &shape, Entry::Naive));
        }
        return Ok(());
    }
    let engine = Engine::open(&EngineOptions::default())?;
    println!(
        "{} ({}), f32, {HEADS} heads, head_dim {HEAD_DIM}",
        engine.adapter().name,
        engine.adapter().kind
    );
    let all_tiles = asked("--tiles");
    for problem in PROBLEMS {
        if all_tiles { tiles(&engine, problem)? } else { against_dense(&engine, problem)? }
    }
    if all_tiles { Ok(()) } else { growth(&engine) }
}

/// Time a token over images that grow, beside that of the smallest.
fn growth(engine: &Engine) -> Result<(), Error> {
    let mut calls = Vec::new();
    for (question, times) in GROWING {
        let own = inputs(question.0);
        let call = Resident::new(engine, &problem(question, &descs(&own))?, None, &own)?;
        call.run(1)?;
        calls.push((question, times, call, Vec::new()));
    }
    for _ in 0..RUNS {
        for (_, times, call, taken) in &mut calls {
            taken.push(milliseconds(engine, *times, || call.run(*times))?);
        }
    }
    let mut smallest = None;
    for ((spatial, window, _), _, _, taken) in &mut calls {
        let token_us = 1e3 * median(taken) / spatial.iter().product::<u64>() as f64;
        let ratio = token_us / *smallest.get_or_insert(token_us);
        println!(
            "{spatial:?} window {window:?}: {token_us:.3} us a token, {ratio:.2} x the smallest's"
        );
    }
    Ok(())
}

fn inputs(spatial: &[u64]) -> BTreeMap<String, HostTensor> {
    let shape = [&[1], spatial, &[HEADS, HEAD_DIM]].concat();
    let count = shape.iter().product::<u64>();
    let tensor = |seed: u64| {
        let values: Vec<f64> = noise(count, seed).collect();
        HostTensor::from_f64(Dtype::F32, &shape, &values)
    };
    ["q", "k", "v"]
        .into_iter()
        .zip(1..)
        .map(|(name, seed)| (name.to_owned(), tensor(seed)))
        .collect()
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

/// Milliseconds of each of `times` calls.
fn milliseconds(
    engine: &Engine,
    times: u32,
    run: impl FnOnce() -> Result<(), Error>,
) -> Result<f64, Error> {
    Ok(1e3 * seconds(engine, run)? / f64::from(times))
}

fn against_dense(engine: &Engine, question: Problem) -> Result<(), Error> {
    let (spatial, window, stride) = question;
    let tokens = spatial.iter().product::<u64>();
    let own = inputs(spatial);
    let problem = problem(question, &descs(&own))?;
    let fused = Resident::new(engine, &problem, None, &own)?;
    fused.run(1)?;
    let naive = match spatial.len() {
        1 | 2 => Some(naive(engine, question, &own, &fused)?),
        _ => None,
    };
    let copy = copy(engine, tokens, &own)?;
    let mut flat = own;
    flat.values_mut().for_each(|host| host.shape = vec![1, tokens, HEADS, HEAD_DIM]);
    let spec = AttentionSpec { layout: AttentionLayout::Bshd, ..AttentionSpec::default() };
    let dense = AttentionProblem::new(&spec, &descs(&flat))?;
    let dense = Resident::new(engine, &dense, None, &flat)?;
    let (mut fused_ms, mut dense_ms) = (Vec::new(), Vec::new());
    let (mut naive_ms, mut copy_ms) = (Vec::new(), Vec::new());
    for _ in 0..RUNS {
        fused_ms.push(milliseconds(engine, CALLS, || fused.run(CALLS))?);
        dense_ms.push(milliseconds(engine, 1, || dense.run(1))?);
        copy_ms.push(milliseconds(engine, CALLS, || copy.run(CALLS))?);
        if let Some(naive) = &naive {
            naive_ms.push(milliseconds(engine, 1, || naive.run(1))?);
        }
    }
    let simulation = simulate(&problem, &fused.prepared.tiles());
    let fused_ms = median(&mut fused_ms);
    let (dense_ms, bound) = (median(&mut dense_ms), simulation.speedup_bound);
    let speedup = dense_ms / fused_ms;
    let share = 100.0 * speedup / bound;
    let left = 100.0 / (1.0 + median(&mut copy_ms) * bound / dense_ms);
    print!(
        "{spatial:?} window {window:?} stride {stride:?}: {fused_ms:.2} ms; dense {dense_ms:.1} ms: {speedup:.2} x of at most {bound:.2} x ({share:.0} %; q and out leave {left:.0} %)"
    );
    if naive.is_some() {
        print!("; naive {:.2} x as long", median(&mut naive_ms) / fused_ms);
    }
    println!("; boxes {} by {}", simulation.query_box, simulation.key_box);
    Ok(())
}

/// The naive kernel for a problem, once it has given what the fused one gave.
fn naive(
    engine: &Engine,
    (spatial, window, stride): Problem,
    inputs: &BTreeMap<String, HostTensor>,
    fused: &Resident<NeighborhoodProblem>,
) -> Result<Naive, Error> {
    let shape = Shape { spatial, window, stride, heads: HEADS, head_dim: HEAD_DIM };
    let naive = Naive::new(engine, &shape, Entry::Naive, inputs)?;
    naive.run(1)?;
    let (got, expected) = (naive.out()?, fused.outputs()?["out"].to_f64());
    let near = |(a, b): (&f64, &f64)| (a - b).abs() < 1e-5;
    assert!(got.iter().zip(&expected).all(near), "naive and fused differ over {spatial:?}");
    Ok(naive)
}

/// The kernel that copies as many queries as a problem has, once it has done so.
fn copy(
    engine: &Engine,
    tokens: u64,
    inputs: &BTreeMap<String, HostTensor>,
) -> Result<Naive, Error> {
    let flat =
        Shape { spatial: &[tokens], window: &[1], stride: &[1], heads: HEADS, head_dim: HEAD_DIM };
    let copy = Naive::new(engine, &flat, Entry::Copy, inputs)?;
    copy.run(1)?;
    assert!(copy.out()? == inputs["q"].to_f64(), "q was not copied");
    Ok(copy)
}

fn tiles(engine: &Engine, question: Problem) -> Result<(), Error> {
    let (spatial, window, stride) = question;
    let own = inputs(spatial);
    let problem = problem(question, &descs(&own))?;
    println!("{spatial:?} window {window:?} stride {stride:?}");
    for tiles in problem.candidates(engine.limits())? {
        let call = Resident::new(engine, &problem, Some(tiles), &own)?;
        let mut times = Vec::new();
        for _ in 0..RUNS {
            times.push(milliseconds(engine, CALLS, || call.run(CALLS))?);
        }
        let time = median(&mut times);
        println!("  {time:8.2} ms, waste {:.2} x: {tiles}", simulate(&problem, &tiles).waste);
    }
    Ok(())
}
