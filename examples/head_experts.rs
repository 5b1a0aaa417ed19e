//! Attention heads as experts (Jin et al. 2024, "MoH: Multi-Head Attention as Mixture-of-Head Attention"): a router
//! chooses the heads of each token, and attention weighs what they give.
//!
//! The router's dense gates `[tokens, heads]` are attention's `head_gate [batch, heads, seq]` by their strides alone:
//! both calls go into one encoder, and nothing is copied or read back between. The result is held against attention
//! without gates, times gates that plain Rust computes.
//!
//! `scripts/with-gpu cargo run --release --example head_experts`

use std::error::Error;
use std::process::ExitCode;

use tilewise::attention::{AttentionSpec, Mask};
use tilewise::moe::{MoeOutput, MoeProblem, MoeSpec, Router};
use tilewise::tensor::{Dtype, HostTensor, Layout, TensorView};
use tilewise::{Engine, EngineOptions};

const BATCH: u64 = 2;
const SEQ_LEN: u64 = 100;
const HEADS: u64 = 8;
const HEAD_DIM: u64 = 32;
const MODEL_DIM: u64 = HEADS * HEAD_DIM;
const TOP_K: usize = 3;

const CORE: [u64; 4] = [BATCH, HEADS, SEQ_LEN, HEAD_DIM];
const GATES: [u64; 2] = [BATCH * SEQ_LEN, HEADS];

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
    let engine = Engine::open(&EngineOptions::default())?;
    println!("device: {}", engine.adapter().name);
    let x = noise(&[BATCH * SEQ_LEN, MODEL_DIM], 1);
    let router_w = noise(&[HEADS, MODEL_DIM], 2);
    let [q, k, v] = [3, 4, 5].map(|seed| noise(&CORE, seed));

    // The router alone: without `out` it needs no experts' weights.
    let spec = MoeSpec {
        top_k: Some(TOP_K as u32),
        router: Router::mixtral(),
        outputs: vec![MoeOutput::Gates],
        ..MoeSpec::default()
    };
    let descs = [("x", x.desc()), ("router_w", router_w.desc())];
    let descs = descs.map(|(name, desc)| (name.to_owned(), desc)).into();
    let router = engine.prepare(&MoeProblem::new(&spec, &descs)?, None)?;

    let upload = |name: &str, tensor: &HostTensor| engine.upload(name, tensor);
    let buffers = [upload("x", &x)?, upload("router_w", &router_w)?];
    let [q, k, v] = [upload("q", &q)?, upload("k", &k)?, upload("v", &v)?];
    let gates = upload("gates", &nan(&GATES))?;
    let (plain, gated) = (upload("plain", &nan(&CORE))?, upload("gated", &nan(&CORE))?);

    // A token's gates lie side by side: the head is the axis of stride 1.
    let by_head = Layout::new(&[BATCH, HEADS, SEQ_LEN], &[SEQ_LEN * HEADS, 1, HEADS], 0)?;
    let view = |buffer| TensorView::contiguous(buffer, Dtype::F32, &CORE);
    let attention = AttentionSpec { mask: Mask::causal(), ..AttentionSpec::default() };
    let core = [("q", view(&q)), ("k", view(&k)), ("v", view(&v))];

    let mut encoder =
        engine.device().create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
    router.record(
        &mut encoder,
        &[("x", &buffers[0]), ("router_w", &buffers[1]), ("gates", &gates)],
    )?;
    let gate = TensorView::strided(&gates, Dtype::F32, by_head);
    let call = [&core[..], &[("head_gate", gate), ("out", view(&gated))]].concat();
    engine.record(&mut encoder, &attention, &call)?;
    let call = [&core[..], &[("out", view(&plain))]].concat();
    engine.record(&mut encoder, &attention, &call)?;
    engine.queue().submit([encoder.finish()]);

    let read = |buffer: &wgpu::Buffer| -> Result<Vec<f32>, Box<dyn Error>> {
        Ok(bytemuck::pod_collect_to_vec(&engine.download(buffer, ..)?))
    };
    check(&read(&gated)?, &read(&plain)?, &router_gates(&x.to_f64(), &router_w.to_f64()))
}

/// Holds `out` against the ungated one times the gates.
fn check(gated: &[f32], plain: &[f32], gates: &[f64]) -> Result<(), Box<dyn Error>> {
    let (heads, seq, dim) = (HEADS as usize, SEQ_LEN as usize, HEAD_DIM as usize);
    let (mut worst, mut closed) = (0.0, 0);
    for (index, (got, plain)) in gated.iter().zip(plain).enumerate() {
        let row = index / dim;
        let (batch, head, token) = (row / seq / heads, row / seq % heads, row % seq);
        let gate = gates[(batch * seq + token) * heads + head];
        let difference = (f64::from(*got) - gate * f64::from(*plain)).abs();
        // NaN is not at most anything: `max` would lose it.
        worst = if difference <= worst { worst } else { difference };
        closed += usize::from(gate == 0.0 && *got == 0.0);
    }
    println!(
        "{TOP_K} of {heads} heads for each of {} tokens: {} values, {closed} of heads that were not chosen, all 0; \
         largest difference from gates times attention {worst:.1e}",
        GATES[0],
        gated.len()
    );
    let expected = gated.len() / heads * (heads - TOP_K);
    if worst <= 1e-5 && closed == expected { Ok(()) } else { Err("the gates are wrong".into()) }
}

/// The router in plain Rust: softmax over the chosen heads' logits, which is the softmax over all of them renormalized.
fn router_gates(x: &[f64], router_w: &[f64]) -> Vec<f64> {
    let dim = MODEL_DIM as usize;
    let of_token = |x: &[f64]| {
        let logit = |w: &[f64]| x.iter().zip(w).map(|(x, w)| x * w).sum::<f64>();
        let logits: Vec<f64> = router_w.chunks_exact(dim).map(logit).collect();
        let mut order: Vec<usize> = (0..logits.len()).collect();
        order.sort_by(|a, b| logits[*b].total_cmp(&logits[*a]));
        let mut gates = vec![0.0; logits.len()];
        let sum: f64 = order[..TOP_K].iter().map(|head| logits[*head].exp()).sum();
        order[..TOP_K].iter().for_each(|head| gates[*head] = logits[*head].exp() / sum);
        gates
    };
    x.chunks_exact(dim).flat_map(of_token).collect()
}

/// Numbers within ±1 that look random.
fn noise(shape: &[u64], seed: u64) -> HostTensor {
    let mut state = seed;
    let mut next = || {
        state =
            state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as f64 / f64::from(1_u32 << 30) - 1.0
    };
    let values: Vec<f64> = (0..shape.iter().product::<u64>()).map(|_| next()).collect();
    HostTensor::from_f64(Dtype::F32, shape, &values)
}

fn nan(shape: &[u64]) -> HostTensor {
    let count = shape.iter().product::<u64>() as usize;
    HostTensor::from_f64(Dtype::F32, shape, &vec![f64::NAN; count])
}
