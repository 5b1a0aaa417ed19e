//! Mixtures of experts: their matmuls against our own dense ones of the same size, what routing takes of a layer, and
//! one token's weights against a copy of as many bytes. Runs are interleaved and medians compared: of single dispatches by
//! the device's clock; of whole calls by CPU time where the adapter is a processor, whose times say nothing about GPUs, else
//! by the clock. `--tiles` compares every tile set.

mod common;

use std::collections::BTreeMap;

use self::common::{median, noise, seconds};
use tilewise::gpu::recording::{Bound, Slot};
use tilewise::matmul::{MatmulProblem, MatmulSpec};
use tilewise::moe::{Activation, MoeProblem, MoeSpec, Router};
use tilewise::operator::{Operator, Tiles};
use tilewise::problems::Resident;
use tilewise::tensor::{Dtype, HostTensor, WeightFormat, descs};
use tilewise::{Engine, EngineOptions, Error};

const RUNS: usize = 9;

type Tensors = BTreeMap<String, HostTensor>;

fn main() -> Result<(), Error> {
    let engine = Engine::open(&EngineOptions::default())?;
    let adapter = engine.adapter();
    println!("{} ({}), medians of {RUNS} interleaved runs", adapter.name, adapter.kind);
    let wanted = |name: &str| {
        let asked: Vec<String> =
            std::env::args().skip(1).filter(|a| !a.starts_with("--")).collect();
        asked.is_empty() || asked.iter().any(|asked| asked == name)
    };
    if wanted("dense") {
        against_dense(&engine)?;
    }
    if wanted("routing") {
        routing(&engine)?;
    }
    if wanted("decode") {
        decode(&engine)?;
    }
    if wanted("many") {
        many_experts(&engine)?;
    }
    Ok(())
}

/// The extents of a layer.
#[derive(Clone, Copy)]
struct Layer {
    tokens: u64,
    model_dim: u64,
    experts: u64,
    expert_dim: u64,
    top_k: u64,
}

impl Layer {
    /// Tensors of a layer whose weights are in a format; `ids` chooses each pair's expert.
    fn tensors(&self, format: WeightFormat, ids: impl Fn(u64) -> u64) -> Tensors {
        let Self { tokens, model_dim, experts, expert_dim, top_k } = *self;
        let pairs: Vec<f64> = (0..tokens * top_k).map(|pair| ids(pair) as f64).collect();
        let shape = [tokens, top_k];
        let weights = vec![1.0 / top_k as f64; pairs.len()];
        [
            ("x", floats(Dtype::F32, &[tokens, model_dim], 1)),
            ("router_w", floats(Dtype::F32, &[experts, model_dim], 5)),
            ("topk_ids", HostTensor::from_f64(Dtype::I32, &shape, &pairs)),
            ("topk_weights", HostTensor::from_f64(Dtype::F32, &shape, &weights)),
            ("w_gate", stored(format, &[experts, expert_dim, model_dim], 2)),
            ("w_up", stored(format, &[experts, expert_dim, model_dim], 3)),
            ("w_down", stored(format, &[experts, model_dim, expert_dim], 4)),
        ]
        .map(|(name, host)| (name.to_owned(), host))
        .into()
    }

    fn spec(&self, router: Router) -> MoeSpec {
        MoeSpec { top_k: Some(self.top_k as u32), router, ..MoeSpec::default() }
    }

    fn problem(&self, spec: MoeSpec, inputs: &Tensors, format: WeightFormat) -> MoeProblem {
        let spec = MoeSpec { weights: Some(format), ..spec };
        let given = |name: &str| match spec.router {
            Router::External => name != "router_w",
            _ => !name.starts_with("topk"),
        };
        let descs = inputs.iter().filter(|(name, _)| given(name));
        let descs = descs.map(|(name, host)| (name.clone(), host.desc())).collect();
        MoeProblem::new(&spec, &descs).expect("a right question")
    }
}

fn floats(dtype: Dtype, shape: &[u64], seed: u64) -> HostTensor {
    let values: Vec<f64> = noise(shape.iter().product(), seed).map(|v| v * 0.1).collect();
    HostTensor::from_f64(dtype, shape, &values)
}

fn stored(format: WeightFormat, shape: &[u64], seed: u64) -> HostTensor {
    let Some(blocks) = format.blocks() else { return floats(format.dtype(), shape, seed) };
    let values: Vec<f32> = noise(shape.iter().product(), seed).map(|v| v as f32 * 0.1).collect();
    let bytes = blocks.quantise(&values).expect("whole blocks");
    let (inner, outer) = shape.split_last().expect("an inner axis");
    let shape = [outer, &[inner / 32 * blocks.bytes() as u64]].concat();
    HostTensor { dtype: Dtype::U8, shape, bytes }
}

/// One kernel that copies, with buffers of its own.
struct Copy {
    engine: Engine,
    pipeline: wgpu::ComputePipeline,
    bound: wgpu::BindGroup,
    grid: [u32; 2],
}

impl Copy {
    fn new(engine: &Engine, vectors: u32) -> Result<Self, Error> {
        let device = engine.device();
        let text = format!(
            "const WORKGROUP_SIZE: u32 = 128u;\nstruct Params {{ vectors: u32 }}\nconst params = Params({vectors}u);\n\
             @group(0) @binding(1) var<storage, read> source: array<vec4<f32>>;\n\
             @group(0) @binding(2) var<storage, read_write> copied: array<vec4<f32>>;\n{}",
            include_str!("../shaders/common/measure_copy.wgsl")
        );
        let module = device.create_shader_module(wgpu::ShaderModuleDescriptor {
            label: Some("copy"),
            source: wgpu::ShaderSource::Wgsl(text.into()),
        });
        let pipeline = device.create_compute_pipeline(&wgpu::ComputePipelineDescriptor {
            label: Some("copy"),
            layout: None,
            module: &module,
            entry_point: Some("measure_copy"),
            compilation_options: wgpu::PipelineCompilationOptions::default(),
            cache: None,
        });
        let zeros = HostTensor {
            dtype: Dtype::F32,
            shape: Vec::new(),
            bytes: vec![0; vectors as usize * 16],
        };
        let (source, copied) = (engine.upload("source", &zeros)?, engine.upload("copied", &zeros)?);
        let entry = |(binding, buffer)| {
            let buffer: &wgpu::Buffer = buffer;
            wgpu::BindGroupEntry { binding, resource: buffer.as_entire_binding() }
        };
        let bound = device.create_bind_group(&wgpu::BindGroupDescriptor {
            label: None,
            layout: &pipeline.get_bind_group_layout(0),
            entries: &[(1, &source), (2, &copied)].map(entry),
        });
        let grid = [1024, vectors.div_ceil(128).div_ceil(1024)];
        Ok(Self { engine: engine.clone(), pipeline, bound, grid })
    }

    fn run(&self) -> Result<(), Error> {
        let mut encoder = self.engine.device().create_command_encoder(&Default::default());
        let mut pass = encoder.begin_compute_pass(&Default::default());
        pass.set_pipeline(&self.pipeline);
        pass.set_bind_group(0, &self.bound, &[]);
        pass.dispatch_workgroups(self.grid[0], self.grid[1], 1);
        drop(pass);
        self.engine.queue().submit([encoder.finish()]);
        Ok(self.engine.wait()?)
    }
}

/// Something to time.
type Run<'a> = Box<dyn Fn() -> Result<f64, Error> + 'a>;

/// Median seconds of each, run in turn.
fn medians(runs: &[Run<'_>]) -> Result<Vec<f64>, Error> {
    let mut times = vec![Vec::new(); runs.len()];
    for round in 0..=RUNS {
        for (run, times) in runs.iter().zip(&mut times) {
            let time = run()?;
            if round > 0 {
                times.push(time); // the first warms up
            }
        }
    }
    Ok(times.iter_mut().map(|times| median(times)).collect())
}

fn run<'a, O: Operator>(engine: &'a Engine, call: &'a Resident<O>) -> Run<'a> {
    Box::new(move || seconds(engine, || call.run(1)))
}

/// Seconds of a call's dispatches that read tensors whose names begin like this, and of the others, by the device's own
/// clock; NaN where it writes no timestamps.
fn seconds_of<O: Operator>(call: &Resident<O>, tensors: &str) -> Result<[f64; 2], Error> {
    let Some(times) = call.run_steps()? else { return Ok([f64::NAN; 2]) };
    let reads =
        |bound: &Bound| matches!(&bound.slot, Slot::Tensor(name) if name.starts_with(tensors));
    let mut sums = [0.0; 2];
    for (step, milliseconds) in call.prepared.plan().steps().iter().zip(times) {
        sums[usize::from(!step.bindings().iter().any(reads))] += milliseconds / 1e3;
    }
    Ok(sums)
}

fn every_tile_set() -> bool {
    std::env::args().any(|argument| argument == "--tiles")
}

/// The tile sets to compare: the choice, or all.
fn tile_sets<O: Operator>(engine: &Engine, operator: &O) -> Result<Vec<O::Tiles>, Error> {
    let candidates = operator.candidates(engine.limits())?;
    Ok(candidates.into_iter().take(if every_tile_set() { usize::MAX } else { 1 }).collect())
}

fn against_dense(engine: &Engine) -> Result<(), Error> {
    let layer = Layer { tokens: 512, model_dim: 512, experts: 16, expert_dim: 1024, top_k: 2 };
    let f32 = WeightFormat::F32;
    let balanced = layer.tensors(f32, |pair| pair % 16);
    let drawn = layer.tensors(f32, |pair| ((pair * 2_654_435_761) >> 7) * 40_503 % 65_536 / 4096);
    let dense = |inner: u64, columns: u64| -> (MatmulProblem, Tensors) {
        let shape = [("x", [1024, inner]), ("w", [columns, inner])];
        let inputs: Tensors =
            shape.map(|(name, shape)| (name.to_owned(), floats(Dtype::F32, &shape, 9))).into();
        let descs = descs(&inputs);
        (MatmulProblem::new(&MatmulSpec::default(), &descs).expect("a right question"), inputs)
    };
    let (up, down) = (dense(512, 1024), dense(1024, 512));
    let sets = tile_sets(engine, &up.0)?;
    println!("\nT 512, 512 -> 1024, E 16, top 2, f32: GFLOP/s of the matmuls alone");
    for tiles in sets {
        let dense_up = Resident::new(engine, &up.0, Some(tiles), &up.1)?;
        let dense_down = Resident::new(engine, &down.0, Some(tiles), &down.1)?;
        let dense: Run<'_> = Box::new(|| {
            // gate and up
            Ok(2.0 * seconds_of(&dense_up, "")?[0] + seconds_of(&dense_down, "")?[0])
        });
        let mut seconds = Vec::new();
        let mut gflop = 0.0;
        for inputs in [&balanced, &drawn] {
            let problem = layer.problem(layer.spec(Router::External), inputs, f32);
            gflop = problem.expert_flops() / 1e9;
            let call = Resident::new(engine, &problem, Some(tiles), inputs)?;
            let matmuls: Run<'_> = Box::new(|| Ok(seconds_of(&call, "w_")?[0]));
            let medians = medians(&[Box::new(&dense), matmuls])?;
            seconds.push([medians[0], medians[1]]);
        }
        let [balanced, drawn] = [seconds[0], seconds[1]].map(|[dense, experts]| {
            format!("{:.1} ({:.2} of dense)", gflop / experts, dense / experts)
        });
        let dense = gflop / seconds[0][0];
        println!("  {}: dense {dense:.1}, balanced {balanced}, drawn {drawn}", tiles.label());
    }
    Ok(())
}

fn routing(engine: &Engine) -> Result<(), Error> {
    let layer = Layer { tokens: 512, model_dim: 512, experts: 16, expert_dim: 1024, top_k: 2 };
    let inputs = layer.tensors(WeightFormat::F32, |pair| pair % 16);
    let problem = layer.problem(layer.spec(Router::mixtral()), &inputs, WeightFormat::F32);
    let whole = Resident::new(engine, &problem, None, &inputs)?;
    let times = medians(&[
        Box::new(|| Ok(seconds_of(&whole, "w_")?.iter().sum())),
        Box::new(|| Ok(seconds_of(&whole, "w_")?[1])),
    ])?;
    let [whole, other] = [times[0] * 1e3, times[1] * 1e3];
    println!(
        "\nthe layer {whole:.2} ms; route, dispatch and combine {other:.2} ms ({:.1} %)",
        other / whole * 100.0
    );
    Ok(())
}

/// One token: 8 of 64 experts, far more bytes than caches hold. Of all tile sets, each with tensors of its own, only
/// the experts that are read.
fn decode(engine: &Engine) -> Result<(), Error> {
    let experts = if every_tile_set() { 8 } else { 64 };
    let layer = Layer { tokens: 1, model_dim: 1024, experts, expert_dim: 1024, top_k: 8 };
    println!("\none token, 1024 -> 1024, 8 of {experts} experts, the whole layer after its router");
    let copy = Copy::new(engine, 4 << 20)?;
    let formats = [
        WeightFormat::F16,
        WeightFormat::Q8_0,
        WeightFormat::Q4_0,
        WeightFormat::Mxfp4,
        WeightFormat::F32,
    ];
    let mut calls = Vec::new();
    let largest = experts * 1024 * 1024 * 4;
    for format in formats {
        if format == WeightFormat::F32 && engine.limits().storage_binding_bytes < largest {
            continue;
        }
        let inputs = layer.tensors(format, |pair| pair * (experts / 8) + experts / 8 / 2);
        let problem = layer.problem(layer.spec(Router::External), &inputs, format);
        for tiles in tile_sets(engine, &problem)?.into_iter().filter(|t| t.tile_rows() <= 2) {
            let bytes: usize = inputs
                .iter()
                .filter(|(name, _)| name.starts_with("w_"))
                .map(|(_, host)| host.bytes.len())
                .sum();
            let call = Resident::new(engine, &problem, Some(tiles), &inputs)?;
            calls.push((format, tiles, bytes * 8 / experts as usize, call));
        }
    }
    let mut runs: Vec<Run<'_>> = vec![Box::new(|| seconds(engine, || copy.run()))];
    runs.extend(calls.iter().map(|(.., call)| run(engine, call)));
    let times = medians(&runs)?;
    let copy_rate = 128.0 * 1.048_576e6 / times[0] / 1e9;
    println!("  copy, read + written: {copy_rate:.2} GB/s");
    for ((format, tiles, bytes, _), time) in calls.iter().zip(&times[1..]) {
        let rate = *bytes as f64 / time / 1e9;
        println!(
            "  {format} {}: {:.2} ms, {:.2} of f16's first, {rate:.2} GB/s ({:.2} of the copy's)",
            tiles.label(),
            time * 1e3,
            time / times[1],
            rate / copy_rate
        );
    }
    Ok(())
}

/// One matmul of many experts, each with few rows.
fn many_experts(engine: &Engine) -> Result<(), Error> {
    let layer = Layer { tokens: 256, model_dim: 512, experts: 64, expert_dim: 1024, top_k: 8 };
    println!("\nT 256, 512 -> 1024, E 64, top 8, f32: the experts' first matmul, without a gate");
    let mut inputs = layer.tensors(WeightFormat::F32, |pair| ((pair * 2_654_435_761) >> 9) % 64);
    inputs.remove("w_gate");
    let spec = MoeSpec { activation: Activation::Relu, ..layer.spec(Router::External) };
    let problem = layer.problem(spec, &inputs, WeightFormat::F32);
    let gflop = problem.expert_flops() / 2e9;
    for tiles in tile_sets(engine, &problem)? {
        let call = Resident::new(engine, &problem, Some(tiles), &inputs)?;
        let seconds = medians(&[Box::new(|| Ok(seconds_of(&call, "w_up")?[0]))])?[0];
        let rate = gflop / seconds;
        println!("  {}: {:.1} ms, {rate:.1} GFLOP/s", tiles.label(), seconds * 1e3);
    }
    Ok(())
}
