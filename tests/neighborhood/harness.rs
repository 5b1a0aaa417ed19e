//! What the tests share: engines, problems, inputs, and the judgement.

use std::collections::BTreeMap;
use std::sync::OnceLock;

use tilewise::neighborhood::{
    NeighborhoodOutput, NeighborhoodProblem, NeighborhoodReference, NeighborhoodSpec,
    NeighborhoodTiles, TensorDescs, plain, reference,
};
use tilewise::tensor::{Dtype, HostTensor, TensorDesc, descs};
use tilewise::verify::judge::{Tolerance, judge, lse_scale};
use tilewise::{Engine, EngineOptions};

pub type Inputs = BTreeMap<String, HostTensor>;

/// The engine of the machine's first adapter. A machine without one fails the tests that ask.
pub fn engine() -> &'static Engine {
    static ENGINE: OnceLock<Engine> = OnceLock::new();
    ENGINE.get_or_init(|| Engine::open(&EngineOptions::default()).expect("an adapter"))
}

/// The same adapter with WebGPU's default limits and no features.
pub fn floor_engine() -> &'static Engine {
    static ENGINE: OnceLock<Engine> = OnceLock::new();
    let options = EngineOptions { floor: true, ..EngineOptions::default() };
    ENGINE.get_or_init(|| Engine::open(&options).expect("an adapter"))
}

/// A problem with the extents of its tensors.
#[derive(Clone, Debug)]
pub struct Case {
    pub spec: NeighborhoodSpec,
    pub batch: u64,
    pub spatial: Vec<u64>,
    pub heads: [u64; 2],
    pub dims: [u64; 2],
    pub extra: u64,
}

impl Case {
    pub fn new(spatial: &[u64], window: &[u32]) -> Self {
        let outputs = vec![NeighborhoodOutput::Out, NeighborhoodOutput::Lse];
        let window = window.to_vec();
        Self {
            spec: NeighborhoodSpec { window, outputs, ..NeighborhoodSpec::default() },
            batch: 1,
            spatial: spatial.to_vec(),
            heads: [2, 2],
            dims: [16, 16],
            extra: 0,
        }
    }

    pub fn with(mut self, change: impl FnOnce(&mut NeighborhoodSpec)) -> Self {
        change(&mut self.spec);
        self
    }

    fn shape(&self, name: &str) -> Vec<u64> {
        let [q_heads, kv_heads] = self.heads;
        let [head_dim, value_dim] = self.dims;
        let (heads, dim) = match name {
            "q" => (q_heads, head_dim),
            "k" | "extra_k" => (kv_heads, head_dim),
            _ => (kv_heads, value_dim),
        };
        let inner = if name.starts_with("extra") { &[self.extra][..] } else { &self.spatial };
        [&[self.batch], inner, &[heads, dim]].concat()
    }

    pub fn inputs(&self, seed: u64) -> Inputs {
        let extra: &[&str] = if self.extra > 0 { &["extra_k", "extra_v"] } else { &[] };
        let names = ["q", "k", "v"].iter().chain(extra).enumerate();
        names
            .map(|(index, name)| {
                let shape = self.shape(name);
                let values = random(seed + index as u64, shape.iter().product());
                ((*name).to_owned(), HostTensor::from_f64(self.spec.dtype, &shape, &values))
            })
            .collect()
    }
}

/// Numbers from −2 to 2.
pub fn random(seed: u64, count: u64) -> Vec<f64> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ 0x1234_5678_9abc_def1;
    (0..count)
        .map(|_| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            (state >> 11) as f64 / (1_u64 << 51) as f64 - 2.0
        })
        .collect()
}

pub fn problem(spec: &NeighborhoodSpec, inputs: &Inputs) -> NeighborhoodProblem {
    let descs: TensorDescs = descs(inputs);
    NeighborhoodProblem::new(spec, &descs).expect("a right question")
}

/// Holds a result against the truth.
pub fn hold(
    problem: &NeighborhoodProblem,
    got: &BTreeMap<String, Vec<f64>>,
    truth: &NeighborhoodReference,
    plain: &NeighborhoodReference,
) {
    let out_dtype = problem.spec().out_dtype.unwrap_or(Dtype::F32);
    let lse_rows = lse_scale(&truth.lse);
    let sides = [
        ("out", out_dtype, &truth.out, &plain.out, &truth.value_max),
        ("lse", Dtype::F32, &truth.lse, &plain.lse, &lse_rows),
    ];
    for (name, dtype, truth, plain, row_scale) in sides {
        let Some(got) = got.get(name) else { continue };
        let tolerance = Tolerance { dtype, plain, row_scale };
        if let Err(wrong) = judge(name, got, truth, tolerance) {
            panic!("{problem}\n{wrong}");
        }
    }
}

pub fn numbers(results: BTreeMap<String, HostTensor>) -> BTreeMap<String, Vec<f64>> {
    results.into_iter().map(|(name, host)| (name, host.to_f64())).collect()
}

/// Runs a case and holds it against the reference.
pub fn check(engine: &Engine, case: &Case, tiles: Option<NeighborhoodTiles>) {
    check_with(engine, &case.spec, &case.inputs(7), tiles);
}

/// Runs a problem on inputs and holds it against the reference.
pub fn check_with(
    engine: &Engine,
    spec: &NeighborhoodSpec,
    inputs: &Inputs,
    tiles: Option<NeighborhoodTiles>,
) {
    let problem = problem(spec, inputs);
    let truth = reference(&problem, inputs).expect("a reference");
    let plain = plain(&problem, inputs).expect("a plain result");
    let got = engine.run(&problem, tiles, inputs).unwrap_or_else(|e| panic!("{problem}\n{e}"));
    if let Some(tiles) = tiles {
        println!("{tiles}");
    }
    hold(&problem, &numbers(got), &truth, &plain);
}

/// Elements of a strided tensor in row-major order.
pub fn gather(desc: &TensorDesc, elements: &[f64]) -> Vec<f64> {
    places(desc).into_iter().map(|place| elements[place]).collect()
}

/// Where the elements of a tensor lie in its buffer, in row-major order.
pub fn places(desc: &TensorDesc) -> Vec<usize> {
    let axes = desc.layout.shape().iter().zip(desc.layout.strides());
    axes.fold(vec![desc.layout.offset() as usize], |places, (&extent, &stride)| {
        let of_place = |place: usize| (0..extent).map(move |i| place + (i * stride) as usize);
        places.into_iter().flat_map(of_place).collect()
    })
}
