//! Timings, on request: `cargo test --release --test moe -- --ignored --nocapture measure`.

use std::time::Instant;

use serde_json::{Value, json};
use tilewise::matmul::MatmulTiles;
use tilewise::operator::Operator;
use tilewise::tensor::Dtype;

use crate::support::{Layer, Random, Tensors, engine, f32s, i32s, problem};

/// The fastest of a few runs, in seconds.
fn seconds(spec: &Value, inputs: &Tensors, tiles: Option<MatmulTiles>) -> f64 {
    let problem = problem(spec, inputs);
    let prepared = engine().prepare(&problem, tiles).unwrap();
    let outputs = problem.outputs();
    let mut buffers = Vec::new();
    for (name, desc) in problem.tensors() {
        let zero = f32s(&[desc.layout.len()], &vec![0.0; desc.layout.len() as usize]);
        let tensor = if outputs.contains(&name) { &zero } else { &inputs[name] };
        buffers.push((name, engine().upload(name, tensor).unwrap()));
    }
    let bound: Vec<(&str, &_)> = buffers.iter().map(|(name, buffer)| (*name, buffer)).collect();
    let mut best = f64::INFINITY;
    for _ in 0..7 {
        let mut encoder = engine().device().create_command_encoder(&Default::default());
        prepared.record(&mut encoder, &bound).unwrap();
        engine().wait().unwrap();
        let start = Instant::now();
        engine().queue().submit([encoder.finish()]);
        engine().wait().unwrap();
        best = best.min(start.elapsed().as_secs_f64());
    }
    best
}

/// Ids round robin (balanced) or drawn, weights 1.
fn external(layer: Layer, top_k: u64, balanced: bool) -> Tensors {
    let mut inputs = layer.tensors(Dtype::F32, 1);
    let mut random = Random(2);
    let count = layer.tokens * top_k;
    let id = |pair: u64| {
        let drawn = ((random.number() + 1.0) / 2.0 * layer.experts as f64) as u64;
        (if balanced { pair } else { drawn } % layer.experts) as i32
    };
    let ids: Vec<i32> = (0..count).map(id).collect();
    let shape = [layer.tokens, top_k];
    inputs.insert("topk_ids".to_owned(), i32s(&shape, &ids));
    inputs.insert("topk_weights".to_owned(), f32s(&shape, &vec![1.0; count as usize]));
    inputs
}

#[test]
#[ignore = "takes minutes and measures; run it on request"]
fn measure_tile_sets_routing_and_decode() {
    let layer = Layer { tokens: 512, model_dim: 512, experts: 16, expert_dim: 1024 };
    let dense = Layer { tokens: 1024, experts: 1, ..layer };
    let question = json!({"router": "external"});
    let routed = json!({"top_k": 2});
    let inputs = [external(dense, 1, true), external(layer, 2, true), external(layer, 2, false)];
    let gflop = problem(&question, &inputs[1]).expert_flops() / 1e9;
    for tiles in problem(&question, &inputs[0]).candidates(engine().limits()).unwrap() {
        let [dense, balanced, random] =
            [0, 1, 2].map(|index| gflop / seconds(&question, &inputs[index], Some(tiles)));
        println!("{tiles}: dense {dense:.1} GFLOP/s, balanced {balanced:.1}, random {random:.1}");
    }
    let whole = seconds(&routed, &inputs[1], None);
    let only = json!({"top_k": 2, "outputs": ["counts"]});
    let routing = seconds(&only, &inputs[1], None);
    println!("layer {:.2} ms, of that routing {:.2} ms", whole * 1e3, routing * 1e3);
    let decode = Layer { tokens: 1, model_dim: 512, experts: 64, expert_dim: 1024 };
    for tiles in
        problem(&question, &external(decode, 8, true)).candidates(engine().limits()).unwrap()
    {
        let time = seconds(&question, &external(decode, 8, true), Some(tiles));
        let bytes = 8.0 * 3.0 * 512.0 * 1024.0 * 4.0;
        println!("decode {tiles}: {:.2} ms, {:.2} GB/s of weights", time * 1e3, bytes / time / 1e9);
    }
}
