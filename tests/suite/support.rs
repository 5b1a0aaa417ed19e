//! Engines that all tests share, and problems in one line.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};

use serde_json::Value;
use tilewise::attention::{AttentionProblem, AttentionSpec};
use tilewise::gpu::limits::{GpuLimits, SubgroupSizes};
use tilewise::tensor::{Dtype, HostTensor};
use tilewise::{Engine, EngineOptions};

pub type Tensors = BTreeMap<String, HostTensor>;

/// An engine of the default options. Without an adapter every test that asks for it fails, saying so.
///
/// There are two, which tests take in turn: a software adapter compiles the kernels of one device one after the other.
pub fn engine() -> &'static Engine {
    static ENGINES: [OnceLock<Result<Engine, String>>; 2] = [const { OnceLock::new() }; 2];
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    thread_local!(static PLACE: usize = NEXT.fetch_add(1, Ordering::Relaxed) % ENGINES.len());
    opened(&ENGINES[PLACE.with(|place| *place)], &EngineOptions::default())
}

/// With naga's checks on in every kernel.
pub fn checked_engine() -> &'static Engine {
    static ENGINE: OnceLock<Result<Engine, String>> = OnceLock::new();
    opened(&ENGINE, &EngineOptions { checked: true, ..EngineOptions::default() })
}

/// With naga's checks on in every kernel, WebGPU's default limits and no features.
pub fn checked_floor_engine() -> &'static Engine {
    static ENGINE: OnceLock<Result<Engine, String>> = OnceLock::new();
    let options = EngineOptions { checked: true, floor: true, ..EngineOptions::default() };
    opened(&ENGINE, &options)
}

/// With WebGPU's default limits and no features.
pub fn floor_engine() -> &'static Engine {
    static ENGINE: OnceLock<Result<Engine, String>> = OnceLock::new();
    opened(&ENGINE, &EngineOptions { floor: true, ..EngineOptions::default() })
}

fn opened(
    cell: &'static OnceLock<Result<Engine, String>>,
    options: &EngineOptions,
) -> &'static Engine {
    let engine = cell.get_or_init(|| {
        Engine::open(options).map_err(|error| {
            let message = format!("no GPU test can run: {error}");
            eprintln!("{message}");
            message
        })
    });
    match engine {
        Ok(engine) => engine,
        Err(message) => panic!("{message}"),
    }
}

/// Numbers that look random, within ±1.
pub fn noise(count: usize, seed: u64) -> Vec<f64> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut next = || {
        state =
            state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as f64 / f64::from(1_u32 << 30) - 1.0
    };
    (0..count).map(|_| next()).collect()
}

pub fn tensor(dtype: Dtype, shape: &[u64], seed: u64) -> HostTensor {
    let count = shape.iter().product::<u64>() as usize;
    HostTensor::from_f64(dtype, shape, &noise(count, seed))
}

/// f32 q, k, v of batch, q_heads, kv_heads, seq_len_q, seq_len_kv and one dim for both.
pub fn inputs([batch, q_heads, kv_heads, q, kv, dim]: [u64; 6]) -> Tensors {
    Tensors::from([
        ("q".to_owned(), tensor(Dtype::F32, &[batch, q_heads, q, dim], 1)),
        ("k".to_owned(), tensor(Dtype::F32, &[batch, kv_heads, kv, dim], 2)),
        ("v".to_owned(), tensor(Dtype::F32, &[batch, kv_heads, kv, dim], 3)),
    ])
}

pub fn try_problem(spec: &Value, inputs: &Tensors) -> Result<AttentionProblem, String> {
    let spec: AttentionSpec =
        serde_json::from_value(spec.clone()).map_err(|error| error.to_string())?;
    let descs = inputs.iter().map(|(name, tensor)| (name.clone(), tensor.desc())).collect();
    AttentionProblem::new(&spec, &descs).map_err(|error| error.to_string())
}

pub fn problem(spec: &Value, inputs: &Tensors) -> AttentionProblem {
    try_problem(spec, inputs).unwrap_or_else(|error| panic!("{spec}: {error}"))
}

/// Out and lse on the shared engine.
pub fn run(spec: &Value, inputs: &Tensors) -> BTreeMap<String, Vec<f64>> {
    let outputs = engine()
        .run(&problem(spec, inputs), None, inputs)
        .unwrap_or_else(|error| panic!("{spec}: {error}"));
    outputs.into_iter().map(|(name, tensor)| (name, tensor.to_f64())).collect()
}

pub fn assert_near(what: &str, got: &[f64], expected: &[f64], most: f64) {
    assert_eq!(got.len(), expected.len(), "{what}");
    for (index, (got, expected)) in got.iter().zip(expected).enumerate() {
        let near = got == expected || (got - expected).abs() <= most;
        assert!(near, "{what}[{index}]: got {got:e}, expected {expected:e} within {most:e}");
    }
}

pub fn repository(path: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(path)
}

/// A GPU with subgroups of 32, matrices and much workgroup memory: has every tile set.
pub fn gpu() -> GpuLimits {
    GpuLimits {
        workgroup_bytes: 64 << 10,
        workgroup_invocations: 1024,
        storage_buffers: 16,
        subgroup: Some(SubgroupSizes { least: 32, most: 32 }),
        f16: true,
        matrix: Some(16),
        ..GpuLimits::floor()
    }
}

/// What the source gives to `template!`.
pub fn templates() -> String {
    let mut folders = vec![repository("src")];
    let mut named = String::new();
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            match entry.unwrap().path() {
                path if path.is_dir() => folders.push(path),
                path => {
                    let source = std::fs::read_to_string(path).unwrap();
                    for call in source.split("template!(").skip(1) {
                        named.push_str(call.trim_start().split_inclusive(',').next().unwrap());
                    }
                }
            }
        }
    }
    named
}
