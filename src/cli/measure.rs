//! A device's own ceilings, measured by two small kernels: multiply-adds in registers, and a copy.

use std::collections::BTreeMap;
use std::fmt;
use std::time::{Duration, Instant};

use cpu_time::ProcessTime;
use serde::{Deserialize, Serialize};

use super::common::CliError;
use crate::engine::Engine;
use crate::error::PlanError;
use crate::gpu::limits::GpuLimits;
use crate::gpu::recording::{Bound, Plan, Slot, fold_grid};
use crate::kernel::source::{KernelSource, Launch, add_fragment};
use crate::operator::{Operator, Tiles};
use crate::problems::Resident;
use crate::tensor::{Dtype, HostTensor, TensorDesc};

/// What a device does at most.
#[derive(Clone, Copy, Debug, Serialize)]
pub(super) struct Ceilings {
    /// f32 multiply-adds, two operations each.
    pub multiply_add_gflops: f64,
    /// Bytes read and bytes written, added up.
    pub copy_gb_per_s: f64,
    /// The same by the process's CPU time instead of the clock: software adapters only.
    pub by_cpu_time: Option<CpuCeilings>,
}

/// What one processor core does at most, as a device.
#[derive(Clone, Copy, Debug, Serialize)]
pub(super) struct CpuCeilings {
    /// f32 multiply-adds for each second of CPU time.
    pub multiply_add_gflop_per_cpu_s: f64,
    /// Bytes for each second of CPU time.
    pub copy_gb_per_cpu_s: f64,
}

/// How long something took: by the clock, and by all threads of this process.
#[derive(Clone, Copy, Debug)]
pub(super) struct Elapsed {
    pub wall: Duration,
    pub cpu: Duration,
}

impl Elapsed {
    /// Times one run.
    pub fn of<E>(run: impl FnOnce() -> Result<(), E>) -> Result<Self, E> {
        let (wall, cpu) = (Instant::now(), ProcessTime::now());
        run()?;
        Ok(Self { wall: wall.elapsed(), cpu: cpu.elapsed() })
    }
}

/// A run that is timed lasts this long, that neither the clock nor the submission counts.
const LEAST_RUN: Duration = Duration::from_millis(50);

/// Runs of which the fastest counts: what disturbs only slows.
const RUNS: u32 = 5;

/// Measures both ceilings.
pub(super) fn ceilings(engine: &Engine) -> Result<Ceilings, CliError> {
    let (flops, flops_time) = fastest(engine, |times| Probe::multiply_add(engine, times))?;
    let (bytes, bytes_time) = fastest(engine, |times| Probe::copy(engine, times))?;
    let rate = |amount: f64, time: Duration| amount / time.as_secs_f64() / 1e9;
    Ok(Ceilings {
        multiply_add_gflops: rate(flops, flops_time.wall),
        copy_gb_per_s: rate(bytes, bytes_time.wall),
        by_cpu_time: engine.adapter().is_software().then(|| CpuCeilings {
            multiply_add_gflop_per_cpu_s: rate(flops, flops_time.cpu),
            copy_gb_per_cpu_s: rate(bytes, bytes_time.cpu),
        }),
    })
}

/// The work of a probe that runs long enough, and the least times of its runs.
fn fastest(engine: &Engine, probe: impl Fn(u32) -> Probe) -> Result<(f64, Elapsed), CliError> {
    let mut times = 1;
    loop {
        let probe = probe(times);
        let inputs = probe.inputs();
        let call = Resident::new(engine, &probe, None, &inputs)?;
        call.run(1)?; // compiles
        let mut least = Elapsed::of(|| call.run(probe.calls()))?;
        if least.wall < LEAST_RUN && times < 1 << 14 {
            times *= 2;
            continue;
        }
        for _ in 1..RUNS {
            let next = Elapsed::of(|| call.run(probe.calls()))?;
            least = Elapsed { wall: least.wall.min(next.wall), cpu: least.cpu.min(next.cpu) };
        }
        return Ok((probe.work(), least));
    }
}

/// A kernel that measures.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Probe {
    MultiplyAdd { lanes: u32, loops: u32 },
    Copy { vectors: u32, calls: u32 },
}

/// Probes have no tiles.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
struct NoTiles;

impl Tiles for NoTiles {}

impl fmt::Display for NoTiles {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("null")
    }
}

impl fmt::Display for Probe {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("tilewise info --measure")
    }
}

const WORKGROUP_SIZE: u32 = 128;
const CHAINS: u32 = 12;
const UNROLLED: u32 = 16;

impl Probe {
    fn multiply_add(engine: &Engine, times: u32) -> Self {
        // Enough to fill a GPU, few enough to be spread over cores evenly.
        let lanes = if engine.adapter().is_software() { 1 << 13 } else { 1 << 19 };
        Self::MultiplyAdd { lanes, loops: 8 * times }
    }

    fn copy(engine: &Engine, calls: u32) -> Self {
        // Larger than caches, if the device binds as much.
        let most: u64 = if engine.adapter().is_software() { 64 << 20 } else { 256 << 20 };
        let limits = engine.limits();
        let bytes = most.min(limits.storage_binding_bytes).min(limits.buffer_bytes);
        Self::Copy { vectors: (bytes / 16) as u32, calls }
    }

    /// Calls in a run.
    fn calls(&self) -> u32 {
        match self {
            Self::MultiplyAdd { .. } => 1,
            Self::Copy { calls, .. } => *calls,
        }
    }

    /// Floating-point operations or bytes of a run.
    fn work(&self) -> f64 {
        match *self {
            Self::MultiplyAdd { lanes, loops } => {
                2.0 * f64::from(lanes) * f64::from(loops) * f64::from(CHAINS * UNROLLED)
            }
            Self::Copy { vectors, calls } => 32.0 * f64::from(vectors) * f64::from(calls),
        }
    }

    fn inputs(&self) -> BTreeMap<String, HostTensor> {
        let outputs = self.outputs();
        let tensors = self.tensors().into_iter().filter(|(name, _)| !outputs.contains(name));
        let filled = |(name, desc): (&str, TensorDesc)| {
            let bytes = vec![0; desc.element_bytes() as usize];
            let shape = desc.shape().to_vec();
            (name.to_owned(), HostTensor { dtype: desc.dtype, shape, bytes })
        };
        tensors.map(filled).collect()
    }

    fn bind(&self, source: &mut KernelSource, name: &str, element: &str) {
        let desc = self.tensors().into_iter().find(|(known, _)| *known == name);
        let size = desc.map_or(0, |(_, desc)| desc.element_bytes());
        let slot = Slot::Tensor(name.to_owned());
        let writes = self.outputs().contains(&name);
        source.bind(name, element, writes, Bound { slot, offset: 0, size });
    }
}

impl crate::operator::sealed::Sealed for Probe {}

impl Operator for Probe {
    type Tiles = NoTiles;

    fn candidates(&self, _: &GpuLimits) -> Result<Vec<NoTiles>, PlanError> {
        Ok(vec![NoTiles])
    }

    fn plan(&self, limits: &GpuLimits, _: &NoTiles) -> Result<Plan, PlanError> {
        let mut source = KernelSource::default();
        source.const_u32("WORKGROUP_SIZE", WORKGROUP_SIZE);
        let (entry, lanes) = match *self {
            Self::MultiplyAdd { lanes, loops } => {
                source.const_u32("UNROLLED", UNROLLED);
                source.params.u32("loops", loops);
                source.params.f32("factor", 0.75);
                source.params.f32("addend", 0.25);
                self.bind(&mut source, "result", "f32");
                add_fragment!(source, "common/measure_multiply_add.wgsl");
                ("measure_multiply_add", lanes)
            }
            Self::Copy { vectors, .. } => {
                source.params.u32("vectors", vectors);
                self.bind(&mut source, "source", "vec4<f32>");
                self.bind(&mut source, "copied", "vec4<f32>");
                add_fragment!(source, "common/measure_copy.wgsl");
                ("measure_copy", vectors)
            }
        };
        let grid = fold_grid(entry, u64::from(lanes.div_ceil(WORKGROUP_SIZE)), limits)?;
        let step = source.step(Launch {
            entry,
            workgroup_size: WORKGROUP_SIZE,
            workgroup_bytes: 0,
            checked: false,
            grid,
        });
        Ok(Plan { steps: vec![step], scratch: Vec::new() })
    }

    fn tensors(&self) -> Vec<(&str, TensorDesc)> {
        let floats = |count: u32| TensorDesc::contiguous(Dtype::F32, &[u64::from(count)]);
        match *self {
            Self::MultiplyAdd { lanes, .. } => vec![("result", floats(lanes))],
            Self::Copy { vectors, .. } => {
                vec![("source", floats(4 * vectors)), ("copied", floats(4 * vectors))]
            }
        }
    }

    fn outputs(&self) -> Vec<&'static str> {
        match self {
            Self::MultiplyAdd { .. } => vec!["result"],
            Self::Copy { .. } => vec!["copied"],
        }
    }
}
