//! Mixtures of experts: their matmuls against our own dense ones of the same size, what routing takes of a layer, and
//! one token's weights against a copy of as many bytes. Runs are interleaved and medians compared: of CPU time where the
//! adapter is a processor, whose times say nothing about GPUs, else of the clock. `--tiles` compares every tile set.

mod timing;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use self::timing::{median, seconds};
use serde::{Deserialize, Serialize};
use tilewise::gpu::limits::GpuLimits;
use tilewise::gpu::recording::{Bound, Grid, Plan, Slot, Step};
use tilewise::gpu::shader::{Declared, Part, Shader};
use tilewise::matmul::{MatmulProblem, MatmulSpec, MatmulTiles};
use tilewise::moe::{Activation, MoeProblem, MoeSpec, Router};
use tilewise::operator::{Operator, Tiles};
use tilewise::problems::Resident;
use tilewise::tensor::{Dtype, HostTensor, TensorDesc, WeightFormat, descs};
use tilewise::{Engine, EngineOptions, Error, PlanError};

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

fn noise(count: u64, seed: u64) -> impl Iterator<Item = f64> {
    (0..count).map(move |i| ((i * 2_654_435_761 + seed * 97) % 1009) as f64 / 504.5 - 1.0)
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

/// A layer's dispatches that read weights of these names, or the others; what they read the whole layer has left.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Only {
    layer: MoeProblem,
    weights: &'static str,
    read: bool,
}

impl fmt::Display for Only {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "part of {}", self.layer)
    }
}

impl Operator for Only {
    type Tiles = MatmulTiles;

    fn candidates(&self, limits: &GpuLimits) -> Result<Vec<MatmulTiles>, PlanError> {
        self.layer.candidates(limits)
    }

    fn plan(&self, limits: &GpuLimits, tiles: &MatmulTiles) -> Result<Plan, PlanError> {
        let mut plan = self.layer.plan(limits, tiles)?;
        let weights = |bound: &Bound| matches!(&bound.slot, Slot::Tensor(name) if name.starts_with(self.weights));
        plan.steps.retain(|step| step.bindings.iter().any(weights) == self.read);
        Ok(plan)
    }

    fn tensors(&self) -> Vec<(&str, TensorDesc)> {
        self.layer.tensors()
    }

    fn outputs(&self) -> Vec<&'static str> {
        self.layer.outputs()
    }
}

/// One kernel that copies, as `tilewise info --measure` has it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Copy {
    vectors: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
struct NoTiles;

impl Tiles for NoTiles {}

impl fmt::Display for NoTiles {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("null")
    }
}

impl fmt::Display for Copy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a copy of {} vectors", self.vectors)
    }
}

impl Operator for Copy {
    type Tiles = NoTiles;

    fn candidates(&self, _: &GpuLimits) -> Result<Vec<NoTiles>, PlanError> {
        Ok(vec![NoTiles])
    }

    fn plan(&self, _: &GpuLimits, _: &NoTiles) -> Result<Plan, PlanError> {
        let header = "const WORKGROUP_SIZE: u32 = 128u;\nstruct Params { vectors: u32, a: u32, b: u32, c: u32 }\n\
            @group(0) @binding(0) var<uniform> params: Params;\n\
            @group(0) @binding(1) var<storage, read> source: array<vec4<f32>>;\n\
            @group(0) @binding(2) var<storage, read_write> copied: array<vec4<f32>>;\n";
        let text = include_str!("../shaders/common/measure_copy.wgsl");
        let part = |file: &str, text: &str| Part { file: file.to_owned(), text: text.to_owned() };
        let declared = |name: &str, writes| Declared { name: name.to_owned(), writes };
        let bound = |name: &str| Bound {
            slot: Slot::Tensor(name.to_owned()),
            offset: 0,
            size: 16 * u64::from(self.vectors),
        };
        let shader = Shader {
            entry: "measure_copy",
            parts: vec![part("header", header), part("common/measure_copy.wgsl", text)],
            bindings: vec![declared("source", false), declared("copied", true)],
            workgroup_size: 128,
            workgroup_bytes: 0,
            checked: false,
        };
        let groups = self.vectors.div_ceil(128);
        let step = Step {
            shader: Arc::new(shader),
            params: [self.vectors, 0, 0, 0].map(u32::to_le_bytes).concat(),
            bindings: vec![bound("source"), bound("copied")],
            grid: Grid::Direct([1024, groups.div_ceil(1024), 1]),
        };
        Ok(Plan { steps: vec![step], scratch: Vec::new() })
    }

    fn tensors(&self) -> Vec<(&str, TensorDesc)> {
        let desc = TensorDesc::contiguous(Dtype::F32, &[4 * u64::from(self.vectors)]);
        vec![("source", desc.clone()), ("copied", desc)]
    }

    fn outputs(&self) -> Vec<&'static str> {
        vec!["copied"]
    }
}

/// Something to time.
type Run<'a> = Box<dyn Fn() -> Result<(), Error> + 'a>;

/// Median seconds of each, run in turn.
fn medians(engine: &Engine, runs: &[Run<'_>]) -> Result<Vec<f64>, Error> {
    let mut times = vec![Vec::new(); runs.len()];
    for round in 0..=RUNS {
        for (run, times) in runs.iter().zip(&mut times) {
            let time = seconds(engine, run)?;
            if round > 0 {
                times.push(time); // the first warms up
            }
        }
    }
    Ok(times.iter_mut().map(|times| median(times)).collect())
}

fn run<O: Operator>(call: &Resident<O>) -> Run<'_> {
    Box::new(|| call.run(1))
}

fn every_tile_set() -> bool {
    std::env::args().any(|argument| argument == "--tiles")
}

/// The tile sets to compare: the choice, or all.
fn tile_sets<O: Operator>(engine: &Engine, operator: &O) -> Result<Vec<O::Tiles>, Error> {
    let candidates = operator.candidates(engine.limits())?;
    Ok(candidates.into_iter().take(if every_tile_set() { usize::MAX } else { 1 }).collect())
}

/// The matmuls by weights of these names alone, after a whole run has left what they read.
fn matmuls_of(
    engine: &Engine,
    layer: &MoeProblem,
    weights: &'static str,
    tiles: MatmulTiles,
    inputs: &Tensors,
) -> Result<Resident<Only>, Error> {
    let only = Only { layer: layer.clone(), weights, read: true };
    Resident::new(engine, &only, Some(tiles), inputs)
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
            dense_up.run(2)?; // gate and up
            dense_down.run(1)
        });
        let mut seconds = Vec::new();
        let mut gflop = 0.0;
        for inputs in [&balanced, &drawn] {
            let problem = layer.problem(layer.spec(Router::External), inputs, f32);
            gflop = problem.expert_flops() / 1e9;
            Resident::new(engine, &problem, Some(tiles), inputs)?.run(1)?;
            let matmuls = matmuls_of(engine, &problem, "w_", tiles, inputs)?;
            let runs: [Run<'_>; 2] = [Box::new(&dense), run(&matmuls)];
            let medians = medians(engine, &runs)?;
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
    let other = Only { layer: problem.clone(), weights: "w_", read: false };
    let other = Resident::new(engine, &other, None, &inputs)?;
    whole.run(1)?;
    let times = medians(engine, &[run(&whole), run(&other)])?;
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
    let copy = Copy { vectors: 4 << 20 };
    let source = HostTensor { dtype: Dtype::F32, shape: vec![16 << 20], bytes: vec![0; 64 << 20] };
    let copied: Tensors = [("source".to_owned(), source)].into();
    let copy = Resident::new(engine, &copy, None, &copied)?;
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
    let mut runs: Vec<Run<'_>> = vec![run(&copy)];
    runs.extend(calls.iter().map(|(.., call)| run(call)));
    let times = medians(engine, &runs)?;
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
        Resident::new(engine, &problem, Some(tiles), &inputs)?.run(1)?;
        let matmul = matmuls_of(engine, &problem, "w_up", tiles, &inputs)?;
        let seconds = medians(engine, &[run(&matmul)])?[0];
        let rate = gflop / seconds;
        println!("  {}: {:.1} ms, {rate:.1} GFLOP/s", tiles.label(), seconds * 1e3);
    }
    Ok(())
}
