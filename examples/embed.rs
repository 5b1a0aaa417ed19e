//! Attention inside an app that has a wgpu device of its own.
//!
//! The app writes packed qkv by a kernel of its own, tilewise records attention into the same encoder, the app copies
//! the result out: one submit, no copy of q, k or v. The result is checked against a loop in plain Rust.
//!
//! `scripts/with-gpu cargo run --release --example embed`

use std::error::Error;
use std::process::ExitCode;

use tilewise::attention::{AttentionLayout, AttentionSpec, Mask};
use tilewise::tensor::{Dtype, Layout, TensorView};
use tilewise::{Engine, SpecError};

const BATCH: usize = 2;
const SEQ_LEN: usize = 150;
const Q_HEADS: usize = 4;
const KV_HEADS: usize = 2;
const HEAD_DIM: usize = 64;

/// A token's row of the packed buffer: its q heads, then its k heads, then its v heads.
const ROW: usize = (Q_HEADS + 2 * KV_HEADS) * HEAD_DIM;

/// What the app does on the device anyway: here it makes numbers from -2 to 2 where a model would project tokens.
const FILL: &str = "
@group(0) @binding(0) var<storage, read_write> qkv: array<f32>;

@compute @workgroup_size(64)
fn fill(@builtin(global_invocation_id) id: vec3<u32>) {
    if (id.x >= arrayLength(&qkv)) { return; }
    var bits = id.x * 747796405u + 2891336453u;
    bits = ((bits >> ((bits >> 28u) + 4u)) ^ bits) * 277803737u;
    qkv[id.x] = f32((bits >> 22u) ^ (bits >> 12u) & 0x3ffu) / 256.0 - 2.0;
}";

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
    let (device, queue) = pollster::block_on(open_device())?;
    let words = BATCH * SEQ_LEN * ROW;
    let out_words = BATCH * SEQ_LEN * Q_HEADS * HEAD_DIM;
    let storage = wgpu::BufferUsages::STORAGE | wgpu::BufferUsages::COPY_SRC;
    let readback = wgpu::BufferUsages::MAP_READ | wgpu::BufferUsages::COPY_DST;
    let qkv = buffer(&device, "qkv", words, storage);
    let out = buffer(&device, "out", out_words, storage);
    let qkv_host = buffer(&device, "qkv readback", words, readback);
    let out_host = buffer(&device, "out readback", out_words, readback);

    // q, k and v are strided views of one buffer, axes in the order batch, seq, heads, dim; nothing is copied.
    let view = |heads: usize, first_head: usize| {
        let shape = [BATCH, SEQ_LEN, heads, HEAD_DIM].map(|extent| extent as u64);
        let strides = [SEQ_LEN * ROW, ROW, HEAD_DIM, 1].map(|stride| stride as u64);
        let layout = Layout::new(&shape, &strides, (first_head * HEAD_DIM) as u64)?;
        Ok::<_, SpecError>(TensorView::strided(&qkv, Dtype::F32, layout))
    };
    let out_shape = [BATCH, SEQ_LEN, Q_HEADS, HEAD_DIM].map(|extent| extent as u64);
    let tensors = [
        ("q", view(Q_HEADS, 0)?),
        ("k", view(KV_HEADS, Q_HEADS)?),
        ("v", view(KV_HEADS, Q_HEADS + KV_HEADS)?),
        ("out", TensorView::contiguous(&out, Dtype::F32, &out_shape)),
    ];
    let spec = AttentionSpec {
        layout: AttentionLayout::Bshd,
        mask: Mask::causal(),
        ..AttentionSpec::default()
    };

    // The engine is made once and kept: it holds the compiled kernels.
    let engine = Engine::from_device(device.clone(), queue.clone());
    println!("device: {}", engine.adapter().name);
    let mut encoder = device.create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
    record_fill(&device, &mut encoder, &qkv);
    engine.record(&mut encoder, &spec, &tensors)?;
    encoder.copy_buffer_to_buffer(&qkv, 0, &qkv_host, 0, qkv.size());
    encoder.copy_buffer_to_buffer(&out, 0, &out_host, 0, out.size());
    queue.submit([encoder.finish()]);

    let expected = attention(&read(&device, &qkv_host)?);
    let got = read(&device, &out_host)?;
    // NaN is not at most anything: `max` would lose it.
    let differences = got.iter().zip(&expected).map(|(got, expected)| (got - expected).abs());
    let worst = differences.fold(0.0, |worst: f32, it| if it <= worst { worst } else { it });
    println!(
        "causal attention of {BATCH} x {SEQ_LEN} tokens, {Q_HEADS} query heads on {KV_HEADS} key heads: \
         {} values, largest difference from plain Rust {worst:.1e}",
        got.len()
    );
    if got.len() == expected.len() && worst <= 1e-5 {
        Ok(())
    } else {
        Err("the device's answer is not that of plain Rust".into())
    }
}

/// The app's device: the features and limits it wants. Subgroups serve attention best where they exist.
async fn open_device() -> Result<(wgpu::Device, wgpu::Queue), Box<dyn Error>> {
    let instance = wgpu::Instance::new(wgpu::InstanceDescriptor::new_without_display_handle());
    let adapter = instance.request_adapter(&wgpu::RequestAdapterOptions::default()).await?;
    let descriptor = wgpu::DeviceDescriptor {
        required_features: adapter.features() & wgpu::Features::SUBGROUP,
        ..wgpu::DeviceDescriptor::default()
    };
    Ok(adapter.request_device(&descriptor).await?)
}

fn buffer(
    device: &wgpu::Device,
    label: &str,
    words: usize,
    usage: wgpu::BufferUsages,
) -> wgpu::Buffer {
    device.create_buffer(&wgpu::BufferDescriptor {
        label: Some(label),
        size: words as u64 * 4,
        usage,
        mapped_at_creation: false,
    })
}

fn record_fill(device: &wgpu::Device, encoder: &mut wgpu::CommandEncoder, qkv: &wgpu::Buffer) {
    let module = device.create_shader_module(wgpu::ShaderModuleDescriptor {
        label: Some("fill"),
        source: wgpu::ShaderSource::Wgsl(FILL.into()),
    });
    let pipeline = device.create_compute_pipeline(&wgpu::ComputePipelineDescriptor {
        label: Some("fill"),
        layout: None,
        module: &module,
        entry_point: Some("fill"),
        compilation_options: wgpu::PipelineCompilationOptions::default(),
        cache: None,
    });
    let group = device.create_bind_group(&wgpu::BindGroupDescriptor {
        label: Some("fill"),
        layout: &pipeline.get_bind_group_layout(0),
        entries: &[wgpu::BindGroupEntry { binding: 0, resource: qkv.as_entire_binding() }],
    });
    let mut pass = encoder.begin_compute_pass(&wgpu::ComputePassDescriptor::default());
    pass.set_pipeline(&pipeline);
    pass.set_bind_group(0, &group, &[]);
    pass.dispatch_workgroups((qkv.size() as u32 / 4).div_ceil(64), 1, 1);
}

fn read(device: &wgpu::Device, buffer: &wgpu::Buffer) -> Result<Vec<f32>, Box<dyn Error>> {
    let (sender, receiver) = std::sync::mpsc::channel();
    buffer.map_async(wgpu::MapMode::Read, .., move |result| drop(sender.send(result)));
    device.poll(wgpu::PollType::wait_indefinitely())?;
    receiver.recv()??;
    let range = buffer.get_mapped_range(..)?;
    Ok(bytemuck::pod_collect_to_vec(&range[..]))
}

/// Causal attention of packed qkv, as one would write it down.
fn attention(qkv: &[f32]) -> Vec<f32> {
    let row = |batch: usize, token: usize, head: usize| {
        let first = (batch * SEQ_LEN + token) * ROW + head * HEAD_DIM;
        &qkv[first..first + HEAD_DIM]
    };
    let mut out = Vec::new();
    for (batch, token) in (0..BATCH).flat_map(|b| (0..SEQ_LEN).map(move |token| (b, token))) {
        for head in 0..Q_HEADS {
            let kv_head = head / (Q_HEADS / KV_HEADS);
            let q = row(batch, token, head);
            let score = |key: usize| {
                let k = row(batch, key, Q_HEADS + kv_head);
                q.iter().zip(k).map(|(q, k)| q * k).sum::<f32>() / (HEAD_DIM as f32).sqrt()
            };
            let scores: Vec<f32> = (0..=token).map(score).collect();
            let highest = scores.iter().copied().fold(f32::MIN, f32::max);
            let weights: Vec<f32> = scores.iter().map(|score| (score - highest).exp()).collect();
            let sum: f32 = weights.iter().sum();
            out.extend((0..HEAD_DIM).map(|dim| {
                let value = |key: usize| row(batch, key, Q_HEADS + KV_HEADS + kv_head)[dim];
                weights.iter().enumerate().map(|(key, w)| w * value(key)).sum::<f32>() / sum
            }));
        }
    }
    out
}
