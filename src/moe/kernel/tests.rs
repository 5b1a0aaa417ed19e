//! However the matmuls are cut, outputs are the same.

use std::collections::BTreeMap;
use std::fmt;

use super::cuts::Cuts;
use super::plan::plan_cut;
use crate::error::PlanError;
use crate::gpu::limits::GpuLimits;
use crate::gpu::recording::Plan;
use crate::matmul::{MatmulTiles, Operands};
use crate::moe::{Capacity, MoeOutput, MoeProblem, MoeSpec, Priority, Router, TokenChoice};
use crate::operator::Operator;
use crate::tensor::{Dtype, HostTensor, TensorDesc, descs};
use crate::{Engine, EngineOptions};

/// A mixture whose matmuls are cut more finely than any device asks for.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Finely(MoeProblem, [u32; 4]);

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
        let Self(problem, [slice_experts, window_tiles, span_tokens, column_tiles]) = self;
        let most = problem.most_tiles(tiles.tile_rows(), (*slice_experts).into(), *span_tokens);
        let columns = |parts| column_tiles.saturating_mul(tiles.part_columns(parts));
        let cuts = Cuts {
            span_tokens: *span_tokens,
            slice_experts: *slice_experts,
            windows: most.div_ceil((*window_tiles).into()) as u32,
            window_tiles: *window_tiles,
            slices: problem.extents.local_experts().div_ceil(*slice_experts),
            part_columns: [columns(2), columns(1)],
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

/// 60 tokens of 8 dims and 5 experts of 72, with a shared one.
fn layer(spec: MoeSpec) -> (MoeProblem, BTreeMap<String, HostTensor>) {
    let mut state = 1_u64;
    let mut number = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (state >> 40) as f64 / f64::from(1 << 23) - 1.0
    };
    let mut inputs = BTreeMap::new();
    let soft = matches!(spec.router, Router::Soft { .. });
    for (name, shape) in [
        ("x", vec![60, 8]),
        ("router_w", vec![5, 8]),
        ("phi", vec![5, 3, 8]),
        ("w_gate", vec![5, 72, 8]),
        ("w_up", vec![5, 72, 8]),
        ("w_down", vec![5, 8, 72]),
        ("b_up", vec![5, 72]),
        ("b_down", vec![5, 8]),
        ("shared_w_gate", vec![12, 8]),
        ("shared_w_up", vec![12, 8]),
        ("shared_w_down", vec![8, 12]),
        ("shared_gate_w", vec![1, 8]),
    ] {
        if name == if soft { "router_w" } else { "phi" } {
            continue;
        }
        let count = shape.iter().product::<u64>();
        let values: Vec<f64> = (0..count).map(|_| number()).collect();
        inputs.insert(name.to_owned(), HostTensor::from_f64(Dtype::F32, &shape, &values));
    }
    let descs = descs(&inputs);
    (MoeProblem::new(&spec, &descs).unwrap(), inputs)
}

fn mixtral() -> MoeSpec {
    let router = Router::TokenChoice(TokenChoice::default());
    MoeSpec { top_k: Some(2), router, ..MoeSpec::default() }
}

#[test]
fn however_finely_the_matmuls_are_cut_the_bits_are_the_same() {
    let engine = Engine::open(&EngineOptions::default()).unwrap();
    let (problem, inputs) = layer(mixtral());
    for tiles in problem.candidates(engine.limits()).unwrap() {
        let whole = engine.run(&problem, Some(tiles), &inputs).unwrap();
        for cut in [
            [5, 3, 60, u32::MAX],
            [2, 3, 60, u32::MAX],
            [2, 8, 20, 2],
            [3, 100, 60, 4],
            [5, 100, 25, u32::MAX],
        ] {
            let operator = Finely(problem.clone(), cut);
            let got = engine.run(&operator, Some(tiles), &inputs).unwrap();
            assert_eq!(got["out"].bytes, whole["out"].bytes, "{cut:?} {tiles}");
        }
    }
}

#[test]
fn however_the_tokens_are_cut_every_output_is_the_same() {
    let engine = Engine::open(&EngineOptions::default()).unwrap();
    let capacity = |priority| Some(Capacity { rows: 7, sequences: 3, priority });
    let outputs = [
        MoeOutput::Out,
        MoeOutput::TopkIds,
        MoeOutput::TopkWeights,
        MoeOutput::Gates,
        MoeOutput::Counts,
        MoeOutput::ExpertOffsets,
        MoeOutput::RowTokens,
        MoeOutput::PairRows,
        MoeOutput::Dropped,
        MoeOutput::RouterLogits,
        MoeOutput::LoadBalancingLoss,
        MoeOutput::ZLoss,
    ];
    let choice = [MoeOutput::Out, MoeOutput::TokenIds, MoeOutput::TokenWeights];
    for spec in [
        MoeSpec { outputs: outputs.into(), ..mixtral() },
        MoeSpec { outputs: outputs.into(), capacity: capacity(Priority::BestScore), ..mixtral() },
        MoeSpec { capacity: capacity(Priority::TokenOrder), ..mixtral() },
        MoeSpec {
            top_k: None,
            outputs: choice.into(),
            router: Router::ExpertChoice { capacity: 9 },
            ..mixtral()
        },
        MoeSpec { top_k: None, router: Router::Soft { slots: 3 }, ..mixtral() },
    ] {
        let (problem, inputs) = layer(spec);
        let tiles = problem.candidates(engine.limits()).unwrap()[0];
        let whole = engine.run(&problem, Some(tiles), &inputs).unwrap();
        for span in [1, 17, 59] {
            let operator = Finely(problem.clone(), [5, 100, span, u32::MAX]);
            let got = engine.run(&operator, Some(tiles), &inputs).unwrap();
            for (name, want) in &whole {
                let (got, want) = (got[name].to_f64(), want.to_f64());
                let near = |(a, b): (&f64, &f64)| (a - b).abs() <= 2e-6 * b.abs().max(1.0);
                assert!(got.iter().zip(&want).all(near), "{name} {span}: {got:?} {want:?}");
            }
        }
    }
}

#[test]
fn a_gpu_gets_dispatches_of_a_second_and_a_processor_one() {
    let (problem, _) = layer(mixtral());
    let tiles = MatmulTiles::candidates(64, Operands::Floats, &GpuLimits::floor())[0];
    let mut large = problem;
    (large.extents.tokens, large.extents.model_dim) = (100_000, 4096);
    large.extents.expert_dim = 14_336;
    large.extents.shared_dim = 0;
    large.tensors.clear();
    let cuts = Cuts::of(&large, &GpuLimits::floor(), tiles).unwrap();
    let flops = large.row_flops() * f64::from(cuts.window_tiles * tiles.tile_rows());
    assert!(cuts.windows > 1 && flops <= 1.1e11, "{cuts:?}");
    let most = large.most_tiles(tiles.tile_rows(), 5, cuts.span_tokens);
    assert!(u64::from(cuts.windows * cuts.window_tiles) >= most);
    let processor = GpuLimits { is_cpu: true, ..GpuLimits::floor() };
    assert_eq!(Cuts::of(&large, &processor, tiles).unwrap().windows, 1);
}
