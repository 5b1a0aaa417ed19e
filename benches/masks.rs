//! What masks cost that keep little, against full attention over the same tokens: interleaved runs, the median of each, by
//! CPU time on a software adapter. A map of blocks keeps one block of keys for each block of queries, wherever it lies; the
//! same map for each head shows what maps of their own cost; documents have 16 tokens each. Then the cost of making a map
//! alone, by the device's clock, where it has one. Names, or parts of them, choose contestants; the first is the measure.
//! On a software adapter the times say nothing about GPUs; the first line tells the device.

mod common;

use std::collections::BTreeMap;

use self::common::{median, noise, seconds};
use tilewise::attention::{AttentionProblem, AttentionSpec, Mask};
use tilewise::problems::Resident;
use tilewise::tensor::{Dtype, HostTensor, descs};
use tilewise::{Engine, EngineOptions, Error};

const RUNS: usize = 5;
/// Seconds that a run of the shorter ones lasts, which are repeated within one submission.
const RUN: f64 = 0.5;
const TOKENS: u64 = 16_384;
const HEADS: u64 = 2;
const HEAD_DIM: u64 = 64;
const DOCUMENT: u64 = 16;

type Inputs = BTreeMap<String, HostTensor>;

/// A name, the mask, and the tensor that it names.
type Contestant = (&'static str, Mask, Option<(&'static str, HostTensor)>);

fn main() -> Result<(), Error> {
    let engine = Engine::open(&EngineOptions::default())?;
    let adapter = engine.adapter();
    println!(
        "{} ({}), f32, {TOKENS} tokens, {HEADS} heads, head_dim {HEAD_DIM}",
        adapter.name, adapter.kind
    );
    let chosen: Vec<String> = std::env::args().skip(1).filter(|it| !it.starts_with('-')).collect();
    let is_chosen = |name: &str| chosen.is_empty() || chosen.iter().any(|it| name.contains(it));
    let mut calls = Vec::new();
    for contestant in contestants().into_iter().filter(|(name, ..)| is_chosen(name)) {
        let name = contestant.0;
        let call = call(&engine, contestant)?;
        call.run(1)?;
        let once = seconds(&engine, || call.run(1))?;
        let times = (RUN / once).ceil().clamp(1.0, 100.0) as u32;
        calls.push((name, call, times, Vec::new()));
    }
    for _ in 0..RUNS {
        for (_, call, times, taken) in &mut calls {
            taken.push(1e3 * seconds(&engine, || call.run(*times))? / f64::from(*times));
        }
    }
    let mut full = None;
    for (name, call, _, taken) in &mut calls {
        let ms = median(taken);
        let ratio = ms / *full.get_or_insert(ms);
        let map = call.run_steps()?.map_or(String::new(), |steps| {
            let of_steps = call.prepared.plan().steps().iter().zip(steps);
            let maps = of_steps.filter(|(step, _)| step.shader().entry() == "fused_classify");
            format!(", {:.3} ms of them for its map", maps.map(|(_, ms)| ms).sum::<f64>())
        });
        println!("{name:<24} {ms:>10.3} ms, {ratio:.4} x the first{map}");
    }
    Ok(())
}

fn contestants() -> [Contestant; 8] {
    let blocks = |size| Mask::BlockSparse { block: [size; 2], keep: "keep".to_owned() };
    let keep = |heads, size| Some(("keep", block_map(heads, TOKENS / size)));
    let documents = || Mask::Documents { q: "ids".to_owned(), kv: "ids".to_owned() };
    let ids: Vec<f64> = (0..TOKENS).map(|token| (token / DOCUMENT) as f64).collect();
    let ids = || Some(("ids", HostTensor::from_f64(Dtype::I32, &[1, TOKENS], &ids)));
    let causal_documents = Mask::And(vec![Mask::causal(), documents()]);
    let causal_blocks = Mask::And(vec![Mask::causal(), blocks(64)]);
    [
        ("full", Mask::Full, None),
        ("causal", Mask::causal(), None),
        ("map of 64", blocks(64), keep(1, 64)),
        ("the same for each head", blocks(64), keep(HEADS, 64)),
        ("map of 128", blocks(128), keep(1, 128)),
        ("causal and map of 64", causal_blocks, keep(1, 64)),
        ("documents", documents(), ids()),
        ("causal and documents", causal_documents, ids()),
    ]
}

/// A block of keys for each block of queries, the same for every head.
fn block_map(heads: u64, blocks: u64) -> HostTensor {
    let kept = |row: u64| row * 2_654_435_761 % blocks;
    let head = (0..blocks * blocks).map(|at| f64::from(u8::from(at % blocks == kept(at / blocks))));
    let head: Vec<f64> = head.collect();
    let values = head.repeat(heads as usize);
    HostTensor::from_f64(Dtype::Bool, &[1, heads, blocks, blocks], &values)
}

fn call(
    engine: &Engine,
    (_, mask, tensor): Contestant,
) -> Result<Resident<AttentionProblem>, Error> {
    let mut inputs = rows();
    inputs.extend(tensor.map(|(name, tensor)| (name.to_owned(), tensor)));
    let spec = AttentionSpec { mask, ..AttentionSpec::default() };
    let problem = AttentionProblem::new(&spec, &descs(&inputs))?;
    Resident::new(engine, &problem, None, &inputs)
}

fn rows() -> Inputs {
    let shape = [1, HEADS, TOKENS, HEAD_DIM];
    let tensor = |seed: u64| {
        let values: Vec<f64> = noise(shape.iter().product(), seed).collect();
        HostTensor::from_f64(Dtype::F32, &shape, &values)
    };
    ["q", "k", "v"]
        .into_iter()
        .zip(1..)
        .map(|(name, seed)| (name.to_owned(), tensor(seed)))
        .collect()
}
