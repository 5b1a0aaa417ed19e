//! What recording a known call costs, in microseconds of this thread's CPU time: attention, a whole mixture of experts,
//! and a decode of 1,000 steps of 32 layers over one buffer, of which also the largest step is told. wgpu looks into what is
//! recorded when an encoder is finished, which is counted too. Nothing is run.

use std::collections::BTreeMap;

use cpu_time::ThreadTime;

use tilewise::attention::{AttentionSpec, Mask};
use tilewise::moe::{MoeSpec, Router};
use tilewise::operator::{Operator, Spec};
use tilewise::tensor::{Dtype, HostTensor, Layout, TensorView, descs};
use tilewise::{Engine, EngineOptions, Error};

const RUNS: usize = 200;
/// Calls of a run, into one encoder.
const CALLS: usize = 20;

fn main() -> Result<(), Error> {
    let engine = Engine::open(&EngineOptions::default())?;
    println!("{} ({})", engine.adapter().name, engine.adapter().kind);
    attention(&engine)?;
    mixture(&engine)?;
    decode(&engine, 1)?;
    decode(&engine, 1000)
}

/// The one in the middle; NaN of none.
fn median(times: &mut [f64]) -> f64 {
    times.sort_by(f64::total_cmp);
    times.get(times.len() / 2).copied().unwrap_or(f64::NAN)
}

fn encoder(engine: &Engine) -> wgpu::CommandEncoder {
    engine.device().create_command_encoder(&wgpu::CommandEncoderDescriptor::default())
}

/// Times a spec's calls on buffers of their own, by the encoder and in an open pass.
fn time<S: Spec>(
    engine: &Engine,
    what: &str,
    spec: &S,
    inputs: &BTreeMap<String, HostTensor>,
) -> Result<(), Error> {
    let problem = spec.ask(&descs(inputs))?;
    let tensors = problem.tensors().into_iter();
    let tensors: Vec<_> = tensors.map(|(name, desc)| (name.to_owned(), desc)).collect();
    let buffer = |bytes: u64| {
        engine.device().create_buffer(&wgpu::BufferDescriptor {
            label: None,
            size: bytes.next_multiple_of(4).max(16),
            usage: wgpu::BufferUsages::STORAGE,
            mapped_at_creation: false,
        })
    };
    let buffers: Vec<_> = tensors.iter().map(|(_, desc)| buffer(desc.bytes())).collect();
    let views: Vec<(&str, TensorView<'_>)> = tensors
        .iter()
        .zip(&buffers)
        .map(|((name, desc), buffer)| (name.as_str(), TensorView { buffer, desc: desc.clone() }))
        .collect();
    let steps = engine.prepare(&problem, None)?.plan().steps().len();
    let mut times = [Vec::new(), Vec::new()];
    for _ in 0..RUNS {
        let mut whole = encoder(engine);
        let begun = ThreadTime::now();
        for _ in 0..CALLS {
            engine.record(&mut whole, spec, &views)?;
        }
        let _commands = whole.finish();
        times[0].push(begun.elapsed().as_secs_f64() * 1e6 / CALLS as f64);
        let mut parts = encoder(engine);
        let mut pass = parts.begin_compute_pass(&wgpu::ComputePassDescriptor::default());
        let begun = ThreadTime::now();
        for _ in 0..CALLS {
            engine.record_in(&mut pass, spec, &views)?;
        }
        drop(pass);
        let _commands = parts.finish();
        times[1].push(begun.elapsed().as_secs_f64() * 1e6 / CALLS as f64);
    }
    let [whole, parts] = times.map(|mut times| median(&mut times));
    println!(
        "{what}, {steps} dispatches: {whole:.1} us with a pass of its own, {parts:.1} us in an open one"
    );
    Ok(())
}

/// Zeros: nothing is run.
fn tensor(shape: &[u64]) -> HostTensor {
    let count = shape.iter().product::<u64>() as usize;
    HostTensor::from_f64(Dtype::F32, shape, &vec![0.0; count])
}

fn attention(engine: &Engine) -> Result<(), Error> {
    let inputs = [("q", [1, 32, 1, 128]), ("k", [1, 8, 256, 128]), ("v", [1, 8, 256, 128])];
    let inputs = inputs.map(|(name, shape)| (name.to_owned(), tensor(&shape)));
    let spec = AttentionSpec { mask: Mask::causal(), ..AttentionSpec::default() };
    time(engine, "attention", &spec, &inputs.into())
}

fn mixture(engine: &Engine) -> Result<(), Error> {
    let inputs = [
        ("x", vec![16, 64]),
        ("router_w", vec![8, 64]),
        ("w_gate", vec![8, 128, 64]),
        ("w_up", vec![8, 128, 64]),
        ("w_down", vec![8, 64, 128]),
    ];
    let inputs = inputs.map(|(name, shape)| (name.to_owned(), tensor(&shape)));
    let spec = MoeSpec { top_k: Some(2), router: Router::mixtral(), ..MoeSpec::default() };
    time(engine, "a mixture of experts", &spec, &inputs.into())
}

/// Queries, keys with room for all steps, and outputs of every layer lie in one buffer. A step's token lies at one of so
/// many places.
fn decode(engine: &Engine, places: u64) -> Result<(), Error> {
    let (layers, room, dim) = (32, 1024, 64_u64);
    let cache = 2 * room * dim;
    let words = layers * 2 * cache + 2 * room * 4 * dim;
    let arena = engine.device().create_buffer(&wgpu::BufferDescriptor {
        label: Some("arena"),
        size: words * 4,
        usage: wgpu::BufferUsages::STORAGE,
        mapped_at_creation: false,
    });
    let lens = engine.device().create_buffer(&wgpu::BufferDescriptor {
        label: Some("lens"),
        size: 16,
        usage: wgpu::BufferUsages::STORAGE,
        mapped_at_creation: false,
    });
    let view = |heads: u64, seq: u64, offset: u64| {
        let layout =
            Layout::new(&[1, heads, seq, dim], &[heads * seq * dim, seq * dim, dim, 1], offset)?;
        Ok::<_, Error>(TensorView::strided(&arena, Dtype::F32, layout))
    };
    let spec = AttentionSpec { mask: Mask::causal(), ..AttentionSpec::default() };
    let mut times = Vec::new();
    for step in 0..1000 {
        let mut encoder = encoder(engine);
        let token = layers * 2 * cache + step % places * 4 * dim;
        let begun = ThreadTime::now();
        for layer in 0..layers {
            let tensors = [
                ("q", view(4, 1, token)?),
                ("k", view(2, room, 2 * layer * cache)?),
                ("v", view(2, room, (2 * layer + 1) * cache)?),
                ("kv_lens", TensorView::contiguous(&lens, Dtype::I32, &[1])),
                ("out", view(4, 1, token + room * 4 * dim)?),
            ];
            engine.record(&mut encoder, &spec, &tensors)?;
        }
        let _commands = encoder.finish();
        times.push(begun.elapsed().as_secs_f64() * 1e6);
    }
    // The first step compiles.
    let first = times.remove(0);
    let largest = times.iter().copied().fold(0.0, f64::max);
    let middle = median(&mut times);
    println!(
        "a decode step of {layers} layers in one buffer, tokens at {places} places: {middle:.0} us, the largest {largest:.0} us ({:.1} times), the first {first:.0} us",
        largest / middle
    );
    Ok(())
}
