//! A mask and a score function of one's own, in WGSL, fused into the attention kernel.
//!
//! The mask is a dilated causal window: a query sees itself and every fourth token before it, sixteen in all. The score
//! function adds a relative bias that it reads from a tensor. Both are checked against a loop in plain Rust.
//!
//! `scripts/with-gpu cargo run --release --example custom_mask`

use std::collections::BTreeMap;
use std::error::Error;
use std::process::ExitCode;

use tilewise::attention::{AttentionProblem, AttentionSpec, Mask, ScoreModifier, Snippet};
use tilewise::tensor::{Dtype, HostTensor, descs};
use tilewise::{Engine, EngineOptions};

const MASK: &str = "fn mask_mod(b: u32, h: u32, q: u32, kv: u32) -> bool {
    let distance = pos_q(b, q) - i32(kv);
    return distance >= 0 && distance < 64 && distance % 4 == 0;
}";

/// Called for masked keys too, so that the distance is clamped.
const SCORE: &str = "fn score_mod(score: f32, b: u32, h: u32, q: u32, kv: u32) -> f32 {
    return score + bias_by_distance[h * 64u + u32(clamp(pos_q(b, q) - i32(kv), 0, 63))];
}";

const HEADS: usize = 3;
const SEQ_LEN: usize = 200;
const HEAD_DIM: usize = 32;
const WINDOW: usize = 64;
const DILATION: usize = 4;

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<(), Box<dyn Error>> {
    let spec = AttentionSpec {
        mask: Mask::Wgsl(Snippet { wgsl: MASK.to_owned(), aux: vec![] }),
        score: vec![ScoreModifier::Wgsl(Snippet {
            wgsl: SCORE.to_owned(),
            aux: vec!["bias_by_distance".to_owned()],
        })],
        ..AttentionSpec::default()
    };
    let mut random = Random(1);
    let mut tensor = |shape: &[u64]| {
        let count = shape.iter().product::<u64>() as usize;
        let values: Vec<f64> = (0..count).map(|_| random.next()).collect();
        HostTensor::from_f64(Dtype::F32, shape, &values)
    };
    let shape = [1, HEADS as u64, SEQ_LEN as u64, HEAD_DIM as u64];
    let inputs = BTreeMap::from([
        ("q".to_owned(), tensor(&shape)),
        ("k".to_owned(), tensor(&shape)),
        ("v".to_owned(), tensor(&shape)),
        ("bias_by_distance".to_owned(), tensor(&[HEADS as u64, WINDOW as u64])),
    ]);

    let descs = descs(&inputs);
    let problem = AttentionProblem::new(&spec, &descs)?;
    let engine = Engine::open(&EngineOptions::default())?;
    let outputs = engine.run(&problem, None, &inputs)?;

    println!("device: {}", engine.adapter().name);
    println!("the mask: queries 0, 8, 16, … down, keys 0, 2, 4, … across, # seen, . masked");
    for query in (0..SEQ_LEN).step_by(8) {
        let seen = |key: usize| if keeps(query, key) { '#' } else { '.' };
        println!("  {}", (0..SEQ_LEN).step_by(2).map(seen).collect::<String>());
    }
    let seen = (0..SEQ_LEN).flat_map(|query| (0..SEQ_LEN).filter(move |&key| keeps(query, key)));
    let share = 100.0 * seen.count() as f64 / (SEQ_LEN * SEQ_LEN) as f64;
    let got = outputs["out"].to_f64();
    let expected = attention(&inputs);
    // NaN is not at most anything: `max` would lose it.
    let differences = got.iter().zip(&expected).map(|(got, expected)| (got - expected).abs());
    let worst = differences.fold(0.0, |worst: f64, it| if it <= worst { worst } else { it });
    println!("{share:.0} % of the scores count; largest difference from plain Rust {worst:.1e}");
    if got.len() == expected.len() && worst <= 1e-5 {
        Ok(())
    } else {
        Err("the device's answer is not that of plain Rust".into())
    }
}

fn keeps(query: usize, key: usize) -> bool {
    key <= query && query - key < WINDOW && (query - key).is_multiple_of(DILATION)
}

/// The same in plain Rust, without the WGSL.
fn attention(inputs: &BTreeMap<String, HostTensor>) -> Vec<f64> {
    let [q, k, v, bias] = ["q", "k", "v", "bias_by_distance"].map(|name| inputs[name].to_f64());
    let at = |head: usize, token: usize, dim: usize| (head * SEQ_LEN + token) * HEAD_DIM + dim;
    let mut out = Vec::new();
    for (head, query) in (0..HEADS).flat_map(|h| (0..SEQ_LEN).map(move |query| (h, query))) {
        let keys: Vec<usize> = (0..SEQ_LEN).filter(|&key| keeps(query, key)).collect();
        let score = |&key: &usize| {
            let dot: f64 =
                (0..HEAD_DIM).map(|dim| q[at(head, query, dim)] * k[at(head, key, dim)]).sum();
            dot / (HEAD_DIM as f64).sqrt() + bias[head * WINDOW + query - key]
        };
        let weights: Vec<f64> = keys.iter().map(|key| score(key).exp()).collect();
        let sum: f64 = weights.iter().sum();
        out.extend((0..HEAD_DIM).map(|dim| {
            let weighted = keys.iter().zip(&weights).map(|(&key, w)| w * v[at(head, key, dim)]);
            weighted.sum::<f64>() / sum
        }));
    }
    out
}

/// Numbers from -1 to 1 that are the same every time.
struct Random(u64);

impl Random {
    fn next(&mut self) -> f64 {
        self.0 =
            self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as f64 / f64::from(1u32 << 30) - 1.0
    }
}
