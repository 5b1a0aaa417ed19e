//! Plans that the adapter of a test would not get by itself.

use std::collections::BTreeMap;
use std::fmt;

use serde_json::{Value, json};

use crate::any::AnyProblem;
use crate::error::PlanError;
use crate::gpu::limits::GpuLimits;
use crate::gpu::recording::Plan;
use crate::matmul::weights::stored;
use crate::matmul::{MatmulProblem, MatmulSpec, MatmulTiles};
use crate::operator::Operator;
use crate::tensor::{Dtype, HostTensor, TensorDesc, TensorDescs, descs};
use crate::verify::Expected;
use crate::{Engine, EngineOptions};

/// A matmul as it is planned where the adapter is no processor.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct OnGpu(MatmulProblem);

impl fmt::Display for OnGpu {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl crate::operator::sealed::Sealed for OnGpu {}

impl Operator for OnGpu {
    type Tiles = MatmulTiles;

    fn candidates(&self, limits: &GpuLimits) -> Result<Vec<MatmulTiles>, PlanError> {
        self.0.candidates(&GpuLimits { is_cpu: false, ..limits.clone() })
    }

    fn plan(&self, limits: &GpuLimits, tiles: &MatmulTiles) -> Result<Plan, PlanError> {
        self.0.plan(&GpuLimits { is_cpu: false, ..limits.clone() }, tiles)
    }

    fn tensors(&self) -> Vec<(&str, TensorDesc)> {
        self.0.tensors()
    }

    fn outputs(&self) -> Vec<&'static str> {
        self.0.outputs()
    }
}

fn inputs(spec: &MatmulSpec, [rows, columns, inner]: [u64; 3]) -> BTreeMap<String, HostTensor> {
    let desc = |dtype, shape: &[u64]| TensorDesc::contiguous(dtype, shape);
    let mut tensors: TensorDescs = stored(spec.weight_format(), "w", &[columns, inner], false)
        .into_iter()
        .map(|(name, shape)| (name, desc(spec.weight_format().dtype(), &shape)))
        .collect();
    tensors.insert("x".to_owned(), desc(spec.dtype, &[rows, inner]));
    tensors.insert("bias".to_owned(), desc(Dtype::F32, &[columns]));
    MatmulProblem::new(spec, &tensors).unwrap().sample(1)
}

fn asked(spec: &Value, extents: [u64; 3]) -> (OnGpu, BTreeMap<String, HostTensor>) {
    let spec: MatmulSpec = serde_json::from_value(spec.clone()).unwrap();
    let inputs = inputs(&spec, extents);
    (OnGpu(MatmulProblem::new(&spec, &descs(&inputs)).unwrap()), inputs)
}

/// Runs the problem as it is planned where the adapter is no processor.
fn check(
    engine: &Engine,
    operator: &OnGpu,
    inputs: &BTreeMap<String, HostTensor>,
    tiles: MatmulTiles,
) {
    let OnGpu(problem) = operator;
    let got = engine.run(operator, Some(tiles), inputs).unwrap();
    let expected = Expected::new(&AnyProblem::Matmul(Box::new(problem.clone())), inputs).unwrap();
    if let Err(error) = expected.check(&got) {
        panic!("{problem} {tiles}: {error}");
    }
}

/// Where a GPU would have too few workgroups, several sum parts of the inner dims.
#[test]
fn split_inner_dims_are_added_up() {
    let engine = Engine::open(&EngineOptions::default()).unwrap();
    for (json, extents, splits) in [
        (json!({}), [35, 70, 2048], 4),
        (json!({"dtype": "f16"}), [35, 70, 4096], 8),
        (json!({"dtype": "f16", "weights": "q4_0", "out_dtype": "f32"}), [32, 67, 2048], 4),
        (json!({"dtype": "bf16", "weights": "q8_0"}), [9, 130, 1536], 2),
        (json!({"weights": "mxfp4"}), [70, 33, 1024], 2),
        (json!({}), [35, 70, 1023], 1),
    ] {
        let (problem, inputs) = asked(&json, extents);
        for tiles in problem.candidates(engine.limits()).unwrap().into_iter().take(4) {
            let chunked =
                matches!(tiles, MatmulTiles::Workgroup { .. } | MatmulTiles::Matrix { .. });
            let plan = problem.plan(engine.limits(), &tiles).unwrap();
            let sums = extents[0] * extents[1].next_multiple_of(4) * 4;
            let waits = plan.scratch[0].bytes / sums;
            let rounds = json.get("dtype").is_some() && json.get("out_dtype").is_none();
            let expected = if chunked && splits > 1 { splits } else { u64::from(rounds) };
            assert_eq!(waits, expected, "{json} {tiles}");
            if chunked {
                check(&engine, &problem, &inputs, tiles);
            }
        }
    }
}

#[test]
fn rounded_activations_go_with_every_type_split() {
    let engine = Engine::open(&EngineOptions::default()).unwrap();
    for (dtype, weights, rows) in [("f16", "q4_0", 1), ("bf16", "q8_0", 33), ("f16", "mxfp4", 0)] {
        let spec = json!({"dtype": dtype, "weights": weights, "quantise_activations": "mxint8"});
        let (problem, inputs) = asked(&spec, [rows, 40, 1024]);
        for tiles in problem.candidates(engine.limits()).unwrap().into_iter().take(3) {
            check(&engine, &problem, &inputs, tiles);
        }
    }
}

#[test]
fn split_sums_are_right_with_all_runtime_checks_on() {
    let engine =
        Engine::open(&EngineOptions { checked: true, ..EngineOptions::default() }).unwrap();
    let (problem, inputs) = asked(&json!({}), [9, 40, 1024]);
    let is_staged = |tiles: &MatmulTiles| matches!(tiles, MatmulTiles::Workgroup { .. });
    let candidates = problem.candidates(engine.limits()).unwrap().into_iter();
    let tiles = candidates.filter(is_staged).min_by_key(MatmulTiles::tile_rows).unwrap();
    assert!(problem.plan(engine.limits(), &tiles).unwrap().steps.len() > 1);
    check(&engine, &problem, &inputs, tiles);
}
