//! Dense matmuls on the first adapter, against the f64 reference: odd extents, every format, every tile set.

use std::collections::{BTreeMap, HashSet};
use std::mem::discriminant;
use std::sync::OnceLock;

use serde_json::{Value, json};
use tilewise::any::AnyProblem;
use tilewise::gpu::limits::{GpuLimits, SubgroupSizes};
use tilewise::matmul::{MatmulProblem, MatmulSpec, MatmulTiles, Operands};
use tilewise::operator::Operator;
use tilewise::tensor::{
    ActivationFormat, BlockFormat, Dtype, HostTensor, Layout, WeightFormat, descs,
};
use tilewise::verify::Expected;
use tilewise::{Engine, EngineOptions};

type Tensors = BTreeMap<String, HostTensor>;

fn engine() -> &'static Engine {
    static ENGINE: OnceLock<Engine> = OnceLock::new();
    ENGINE.get_or_init(|| Engine::open(&EngineOptions::default()).expect("tests need an adapter"))
}

fn expected(problem: &MatmulProblem, inputs: &Tensors) -> Expected {
    Expected::new(&AnyProblem::Matmul(Box::new(problem.clone())), inputs).unwrap()
}

/// Numbers of one seed, from −1 to 1.
fn noise(count: u64, seed: u64) -> Vec<f64> {
    let mut state = seed;
    let mut number = || {
        state =
            state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        ((state >> 33) as f64) / f64::from(1u32 << 30) - 1.0
    };
    (0..count).map(|_| number()).collect()
}

fn weights(format: WeightFormat, columns: u64, inner: u64) -> HostTensor {
    let values = noise(columns * inner, 2);
    let Some(blocks) = format.blocks() else {
        return HostTensor::from_f64(format.dtype(), &[columns, inner], &values);
    };
    let values: Vec<f32> = values.into_iter().map(|value| value as f32).collect();
    let bytes = blocks.quantise(&values).unwrap();
    let shape = vec![columns, inner / 32 * blocks.bytes() as u64];
    HostTensor { dtype: Dtype::U8, shape, bytes }
}

fn inputs(spec: &MatmulSpec, [rows, columns, inner]: [u64; 3]) -> Tensors {
    let x = HostTensor::from_f64(spec.dtype, &[rows, inner], &noise(rows * inner, 1));
    let bias = HostTensor::from_f64(Dtype::F32, &[columns], &noise(columns, 3));
    let w = weights(spec.weight_format(), columns, inner);
    [("x", x), ("w", w), ("bias", bias)].map(|(name, host)| (name.to_owned(), host)).into()
}

fn spec(json: &Value) -> MatmulSpec {
    serde_json::from_value(json.clone()).unwrap()
}

fn problem(spec: &MatmulSpec, inputs: &Tensors) -> MatmulProblem {
    let descs = descs(inputs);
    MatmulProblem::new(spec, &descs).unwrap()
}

fn check(engine: &Engine, problem: &MatmulProblem, inputs: &Tensors, tiles: Option<MatmulTiles>) {
    let got = engine.run(problem, tiles, inputs).unwrap_or_else(|e| panic!("{problem}: {e}"));
    if let Err(error) = expected(problem, inputs).check(&got) {
        panic!("{problem} {tiles:?}: {error}");
    }
}

#[test]
fn every_tile_set_is_right_at_odd_extents() {
    let spec = MatmulSpec::default();
    let extents = [(35, 67, 41), (9, 130, 64)];
    for (rows, columns, inner) in extents {
        let inputs = inputs(&spec, [rows, columns, inner]);
        let problem = problem(&spec, &inputs);
        for tiles in problem.candidates(engine().limits()).unwrap() {
            check(engine(), &problem, &inputs, Some(tiles));
        }
    }
}

/// Halves, where there are matrices: extents that vectors divide and that they don't, one that chunks divide.
#[test]
fn every_tile_set_is_right_in_halves() {
    let spec = spec(&json!({"dtype": "f16"}));
    for extents in [[35, 67, 41], [140, 70, 52], [9, 130, 64]] {
        let inputs = inputs(&spec, extents);
        let problem = problem(&spec, &inputs);
        let candidates = problem.candidates(engine().limits()).unwrap();
        let matrices = |tiles: &MatmulTiles| matches!(tiles, MatmulTiles::Matrix { .. });
        if !candidates.iter().any(matrices) {
            eprintln!("left out: matrix tiles, which this device offers no matrices for");
        }
        for tiles in candidates {
            check(engine(), &problem, &inputs, Some(tiles));
        }
    }
}

#[test]
fn matrices_are_refused_where_they_would_round_or_are_missing() {
    let gpu = GpuLimits {
        workgroup_bytes: 48 << 10,
        subgroup: Some(SubgroupSizes { least: 32, most: 32 }),
        matrix: Some(16),
        ..GpuLimits::floor()
    };
    let tiles = MatmulTiles::candidates(500, Operands::Halves, &gpu)[0];
    assert!(matches!(tiles, MatmulTiles::Matrix { .. }), "{tiles}");
    for (json, limits, reason) in [
        (json!({"dtype": "f32"}), gpu.clone(), "matrices are of f16"),
        (json!({"dtype": "f16", "weights": "q8_0"}), gpu, "matrices are of f16"),
        (json!({"dtype": "f16"}), GpuLimits::floor(), "offers no cooperative matrices"),
    ] {
        let spec = spec(&json);
        let problem = problem(&spec, &inputs(&spec, [500, 64, 64]));
        assert!(!problem.candidates(&limits).unwrap().contains(&tiles));
        let error = problem.plan(&limits, &tiles).unwrap_err().to_string();
        assert!(error.contains(reason), "{error}");
    }
}

#[test]
fn types_and_formats_go_together() {
    for (json, extents) in [
        (json!({"dtype": "f16"}), [7, 33, 50]),
        (json!({"dtype": "bf16", "out_dtype": "f32"}), [3, 20, 72]),
        (json!({"dtype": "f32", "weights": "f16"}), [1, 19, 136]),
        (json!({"dtype": "f16", "weights": "q8_0"}), [1, 37, 160]),
        (json!({"dtype": "bf16", "weights": "q4_0"}), [5, 64, 96]),
        (json!({"weights": "mxfp4"}), [2, 9, 32]),
        (json!({"weights": "mxfp4"}), [0, 9, 32]),
    ] {
        let spec = spec(&json);
        let inputs = inputs(&spec, extents);
        check(engine(), &problem(&spec, &inputs), &inputs, None);
    }
}

/// Blocks are staged by runs of vectors: as many as a lane's share, of chunks that the inner dims end in too.
#[test]
fn blocks_are_right_with_every_workgroup_tile() {
    let tall = |chunk| MatmulTiles::Workgroup {
        tile_rows: 8,
        tile_columns: 32,
        rows: 4,
        columns: 4,
        chunk,
    };
    for weights in ["q8_0", "q4_0", "mxfp4"] {
        let spec = spec(&json!({"dtype": "f16", "weights": weights}));
        let inputs = inputs(&spec, [35, 67, 96]);
        let problem = problem(&spec, &inputs);
        let tiles = problem.candidates(engine().limits()).unwrap();
        let staged =
            tiles.into_iter().filter(|tiles| matches!(tiles, MatmulTiles::Workgroup { .. }));
        for tiles in staged.chain([tall(32), tall(64)]) {
            check(engine(), &problem, &inputs, Some(tiles));
        }
    }
}

/// Activations rounded to bytes; what they give is what their numbers give, all but exactly.
#[test]
fn rounded_activations_are_multiplied_as_they_were_rounded() {
    for (weights, extents) in
        [("q8_0", [70, 131, 128]), ("q4_0", [35, 67, 96]), ("mxfp4", [9, 130, 160])]
    {
        let question = json!({"weights": weights, "quantise_activations": "mxint8"});
        let inputs = inputs(&spec(&question), extents);
        let problem = problem(&spec(&question), &inputs);
        // Every set of bytes, and one of each family that reads them as numbers.
        let mut tiles = problem.candidates(engine().limits()).unwrap();
        let mut seen = HashSet::new();
        tiles.retain(|tiles| {
            matches!(tiles, MatmulTiles::Bytes { .. }) || seen.insert(discriminant(tiles))
        });
        assert!(tiles.len() >= 7, "{tiles:?}");
        let exactly = spec(&json!({"weights": weights}));
        let mut rounded = inputs.clone();
        let x: Vec<f32> = inputs["x"].to_f64().iter().map(|x| *x as f32).collect();
        let rows = x.chunks(extents[2] as usize);
        let x: Vec<f64> =
            rows.flat_map(|row| ActivationFormat::Mxint8.round(row)).map(f64::from).collect();
        rounded.insert(
            "x".to_owned(),
            HostTensor::from_f64(Dtype::F32, &[extents[0], extents[2]], &x),
        );
        let as_rounded = expected(&self::problem(&exactly, &rounded), &rounded);
        for tiles in tiles {
            check(engine(), &problem, &inputs, Some(tiles));
            let got = engine().run(&problem, Some(tiles), &inputs).unwrap();
            if let Err(error) = as_rounded.check(&got) {
                panic!("{problem} {tiles:?}: {error}");
            }
        }
    }
}

/// Every type of x, and rows that are cut to fit bindings.
#[test]
fn rounded_activations_go_with_every_type_and_cut() {
    for (dtype, weights, rows) in [("f16", "q4_0", 1), ("bf16", "q8_0", 33), ("f16", "mxfp4", 0)] {
        let question =
            json!({"dtype": dtype, "weights": weights, "quantise_activations": "mxint8"});
        let inputs = inputs(&spec(&question), [rows, 40, 1024]);
        let problem = problem(&spec(&question), &inputs);
        check(engine(), &problem, &inputs, None);
    }
}

#[test]
fn activations_are_rounded_for_blocks_alone() {
    let question = spec(&json!({"quantise_activations": "mxint8"}));
    let inputs = inputs(&question, [4, 32, 32]);
    let error = MatmulProblem::new(&question, &descs(&inputs)).unwrap_err().to_string();
    assert_eq!(
        error,
        "quantise_activations: expected none (f32 weights are not in blocks), got mxint8"
    );
    let bytes =
        |chunk| MatmulTiles::Bytes { tile_rows: 64, tile_columns: 128, rows: 4, columns: 8, chunk };
    let gpu = GpuLimits { workgroup_bytes: 32 << 10, ..GpuLimits::floor() };
    let error = bytes(64).check(Operands::Floats, &gpu).unwrap_err().to_string();
    assert!(error.contains("quantise_activations"), "{error}");
    let error = bytes(48).check(Operands::Bytes, &gpu).unwrap_err().to_string();
    assert!(error.contains("chunk is 48, not 32, 64 or 128"), "{error}");
    assert_eq!(MatmulTiles::candidates(500, Operands::Bytes, &gpu)[0], bytes(64));
    let without = GpuLimits { packed_dot: false, ..gpu };
    let first = MatmulTiles::candidates(500, Operands::Bytes, &without)[0];
    assert!(matches!(first, MatmulTiles::Workgroup { .. }), "{first}");
}

#[test]
fn the_floor_needs_no_subgroups() {
    let options = EngineOptions { floor: true, ..EngineOptions::default() };
    let floor = Engine::open(&options).unwrap();
    for weights in ["f16", "q4_0"] {
        let spec = spec(&json!({"weights": weights}));
        for rows in [2, 70] {
            let inputs = inputs(&spec, [rows, 21, 96]);
            check(&floor, &problem(&spec, &inputs), &inputs, None);
        }
    }
}

/// Rows of x and out lie apart, and out's gaps stay as they were.
#[test]
fn strided_rows_are_read_and_written_where_they_lie() {
    for dtype in [Dtype::F32, Dtype::F16] {
        let spec = MatmulSpec { dtype, ..MatmulSpec::default() };
        let dense = inputs(&spec, [3, 10, 12]);
        let mut descs = problem(&spec, &dense).descs().clone();
        let out = Layout::new(&[3, 10], &[13, 1], 1).unwrap();
        descs.get_mut("out").unwrap().layout = out.clone();
        let strided = MatmulProblem::new(&spec, &descs).unwrap();
        let got = engine().run(&strided, None, &dense).unwrap()["out"].to_f64();
        let want = engine().run(&problem(&spec, &dense), None, &dense).unwrap()["out"].to_f64();
        let mut places = vec![f64::NAN; out.end().unwrap() as usize];
        for (index, value) in want.iter().enumerate() {
            places[1 + index / 10 * 13 + index % 10] = *value;
        }
        let same = |(got, want): (&f64, &f64)| got == want || got.is_nan() && want.is_nan();
        assert!(got.iter().zip(&places).all(same), "{dtype}: {got:?}, expected {places:?}");
    }
}

/// A binding of a few rows cuts the call, and the parts write what the whole does.
#[test]
fn tensors_larger_than_a_binding_are_cut() {
    for dtype in [Dtype::F32, Dtype::F16] {
        let spec = MatmulSpec { dtype, ..MatmulSpec::default() };
        let inputs = inputs(&spec, [80, 130, 64]);
        let problem = problem(&spec, &inputs);
        let tiles = MatmulTiles::Stream { rows: 4, columns: 2, workgroup_size: 8 };
        let limits = GpuLimits { storage_binding_bytes: 9000, ..engine().limits().clone() };
        let plan = problem.plan(&limits, &tiles).unwrap();
        assert!(plan.steps().len() > 4, "{}", plan.steps().len());
        let sizes = plan.steps().iter().flat_map(|step| step.bindings()).map(|bound| bound.size);
        assert!(sizes.max().unwrap() <= 9000);
        let tight = GpuLimits { storage_binding_bytes: 100, ..limits };
        let error = problem.plan(&tight, &tiles).unwrap_err().to_string();
        assert!(error.contains("has 100"), "{error}");
    }
}

#[test]
fn every_mistake_names_field_expected_and_got() {
    let dense = inputs(&MatmulSpec::default(), [3, 10, 12]);
    let error = |json: Value, inputs: &Tensors| {
        let descs = descs(inputs);
        MatmulProblem::new(&spec(&json), &descs).unwrap_err().to_string()
    };
    assert_eq!(
        error(json!({"weights": "q4_0"}), &dense),
        "inner: expected a multiple of 32 (q4_0 weights come in blocks of as many), got 12"
    );
    assert_eq!(error(json!({"rows": 4}), &dense), "rows: expected 3 as the tensors have, got 4");
    assert_eq!(error(json!({"dtype": "f16"}), &dense), "x: expected dtype f16, got f32");
    assert_eq!(
        error(json!({"out_dtype": "f16"}), &dense),
        "out_dtype: expected f32 (the dtype) or f32, got f16"
    );
    let mut other = dense.clone();
    other.insert("w".to_owned(), HostTensor::from_f64(Dtype::F32, &[10, 11], &[0.0; 110]));
    assert_eq!(error(json!({}), &other), "w: expected shape [10, 12], got [10, 11]");
    other.remove("w");
    assert_eq!(error(json!({}), &other), "tensor w is missing (asked for by matmul)");
    assert!(BlockFormat::Q8_0.bytes() == 34);
}
