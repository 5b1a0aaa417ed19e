//! However the matmuls are cut, outputs are the same.

use std::collections::BTreeMap;
use std::fmt;

use super::cuts::Cuts;
use super::plan::plan_cut;
use crate::error::PlanError;
use crate::gpu::limits::GpuLimits;
use crate::gpu::recording::Plan;
use crate::matmul::{MatmulTiles, Operands};
use crate::moe::{MoeProblem, MoeSpec, Router, TokenChoice};
use crate::operator::Operator;
use crate::tensor::{Dtype, HostTensor, TensorDesc, descs};
use crate::{Engine, EngineOptions};

/// A mixture whose matmuls are cut more finely than any device asks for.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Finely(MoeProblem, u32, u32);

impl fmt::Display for Finely {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl crate::operator::sealed::Sealed for Finely {}

impl Operator for Finely {
    type Tiles = MatmulTiles;

    fn candidates(&self, limits: &GpuLimits) -> Result<Vec<MatmulTiles>, PlanError> {
        self.0.candidates(limits)
    }

    fn plan(&self, limits: &GpuLimits, tiles: &MatmulTiles) -> Result<Plan, PlanError> {
        let Self(problem, slice_experts, window_tiles) = self;
        let most = problem.most_tiles(tiles.tile_rows(), (*slice_experts).into());
        let cuts = Cuts {
            slice_experts: *slice_experts,
            windows: most.div_ceil((*window_tiles).into()) as u32,
            window_tiles: *window_tiles,
            slices: problem.extents.local_experts().div_ceil(*slice_experts),
        };
        plan_cut(problem, limits, *tiles, cuts)
    }

    fn tensors(&self) -> Vec<(&str, TensorDesc)> {
        self.0.tensors()
    }

    fn outputs(&self) -> Vec<&'static str> {
        self.0.outputs()
    }
}

fn layer() -> (MoeProblem, BTreeMap<String, HostTensor>) {
    let mut state = 1_u64;
    let mut number = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (state >> 40) as f64 / f64::from(1 << 23) - 1.0
    };
    let mut inputs = BTreeMap::new();
    for (name, shape) in [
        ("x", vec![60, 8]),
        ("router_w", vec![5, 8]),
        ("w_gate", vec![5, 12, 8]),
        ("w_up", vec![5, 12, 8]),
        ("w_down", vec![5, 8, 12]),
        ("b_up", vec![5, 12]),
        ("b_down", vec![5, 8]),
    ] {
        let count = shape.iter().product::<u64>();
        let values: Vec<f64> = (0..count).map(|_| number()).collect();
        inputs.insert(name.to_owned(), HostTensor::from_f64(Dtype::F32, &shape, &values));
    }
    let descs = descs(&inputs);
    let router = Router::TokenChoice(TokenChoice::default());
    let spec = MoeSpec { top_k: Some(2), router, ..MoeSpec::default() };
    (MoeProblem::new(&spec, &descs).unwrap(), inputs)
}

#[test]
fn however_finely_the_matmuls_are_cut_the_bits_are_the_same() {
    let engine = Engine::open(&EngineOptions::default()).unwrap();
    let (problem, inputs) = layer();
    for tiles in problem.candidates(engine.limits()).unwrap() {
        let whole = engine.run(&problem, Some(tiles), &inputs).unwrap();
        for (slice_experts, window_tiles) in [(5, 1), (2, 3), (1, 1), (3, 100)] {
            let cut = Finely(problem.clone(), slice_experts, window_tiles);
            let got = engine.run(&cut, Some(tiles), &inputs).unwrap();
            assert_eq!(got["out"].bytes, whole["out"].bytes, "{slice_experts} {window_tiles}");
        }
    }
}

#[test]
fn a_gpu_gets_dispatches_of_a_second_and_a_processor_one() {
    let (problem, _) = layer();
    let tiles = MatmulTiles::candidates(64, Operands::Floats, &GpuLimits::floor())[0];
    let mut large = problem;
    (large.extents.tokens, large.extents.model_dim) = (100_000, 4096);
    large.extents.expert_dim = 14_336;
    large.tensors.retain(|name, _| !name.starts_with("w_") && !name.starts_with("b_"));
    let cuts = Cuts::of(&large, &GpuLimits::floor(), tiles).unwrap();
    let flops = large.row_flops() * f64::from(cuts.window_tiles * tiles.tile_rows());
    assert!(cuts.windows > 1 && flops <= 1.1e11, "{cuts:?}");
    assert!(u64::from(cuts.windows * cuts.window_tiles) >= large.most_tiles(tiles.tile_rows(), 5));
    let processor = GpuLimits { is_cpu: true, ..GpuLimits::floor() };
    assert_eq!(Cuts::of(&large, &processor, tiles).unwrap().windows, 1);
}
