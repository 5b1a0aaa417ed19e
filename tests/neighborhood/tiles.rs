//! Every candidate tile set computes the same, on the device's limits and on WebGPU's floor.

use tilewise::gpu::limits::{GpuLimits, SubgroupSizes};
use tilewise::neighborhood::{NeighborhoodProblem, NeighborhoodTiles, simulate};
use tilewise::operator::{Operator, Tiles};
use tilewise::tensor::Dtype;

use crate::harness::{Case, check, engine, floor_engine, problem};

fn problems() -> [Case; 3] {
    let mut three = Case::new(&[6, 9, 10], &[3, 4, 3]).with(|spec| {
        spec.dilation = vec![1, 2, 1];
        spec.stride = vec![1, 2, 1];
        spec.causal = vec![false, false, true];
    });
    three.extra = 5;
    three.dims = [24, 16];
    let halves = Case::new(&[11, 9], &[5, 4]).with(|spec| {
        spec.dtype = Dtype::F16;
        spec.out_dtype = Some(Dtype::F16);
    });
    [Case::new(&[21, 19], &[8, 5]).with(|spec| spec.stride = vec![8, 1]), three, halves]
}

#[test]
fn every_candidate_is_right() {
    for case in problems() {
        let problem = problem(&case.spec, &case.inputs(7));
        for tiles in problem.candidates(engine().limits()).unwrap() {
            check(engine(), &case, Some(tiles));
        }
    }
}

#[test]
fn halves_may_be_staged_as_they_are() {
    let gpu = GpuLimits {
        f16: true,
        subgroup: Some(SubgroupSizes { least: 32, most: 64 }),
        ..GpuLimits::floor()
    };
    let without = GpuLimits { f16: false, ..gpu.clone() };
    let [floats, _, halves] = problems().map(|case| problem(&case.spec, &case.inputs(7)));
    let staged = |problem: &NeighborhoodProblem, limits: &GpuLimits| {
        let mut tiles = problem.candidates(limits).unwrap();
        tiles.retain(|tiles| tiles.to_string().contains(r#""half":true"#));
        tiles
    };
    assert!(staged(&floats, &gpu).is_empty() && staged(&halves, &without).is_empty());
    let tiles = staged(&halves, &gpu)[0];
    assert!(tiles.label().contains(".half"), "{}", tiles.label());
    for (problem, limits, reason) in [
        (&floats, &gpu, "half stages f16, the tensors are of f32"),
        (&halves, &without, "half stages f16, the device has no shader-f16"),
    ] {
        let error = problem.plan(limits, &tiles).unwrap_err().to_string();
        assert!(error.contains(reason), "{error}");
    }
}

#[test]
fn every_candidate_at_the_floor_is_right() {
    let [case, ..] = problems();
    let problem = problem(&case.spec, &case.inputs(7));
    for tiles in problem.candidates(floor_engine().limits()).unwrap() {
        check(floor_engine(), &case, Some(tiles));
    }
}

/// No key is tested there, though rows may idle.
#[test]
fn every_candidate_is_right_where_windows_divide() {
    let case = Case::new(&[28, 28], &[14, 14]).with(|spec| spec.stride = vec![14, 14]);
    let problem = problem(&case.spec, &case.inputs(7));
    for engine in [engine(), floor_engine()] {
        for tiles in problem.candidates(engine.limits()).unwrap() {
            check(engine, &case, Some(tiles));
        }
    }
}

#[test]
fn the_first_candidate_wastes_less_than_the_worst() {
    let problem =
        problem(&Case::new(&[56, 56], &[13, 13]).spec, &Case::new(&[56, 56], &[13, 13]).inputs(1));
    let tiles = problem.candidates(engine().limits()).unwrap();
    let waste = |tiles: &NeighborhoodTiles| simulate(&problem, tiles).waste;
    let worst = tiles.iter().map(waste).fold(0.0, f64::max);
    assert!(waste(&tiles[0]) < worst, "{} {worst}", waste(&tiles[0]));
}

#[test]
fn boxes_of_any_shape_are_right() {
    let case = Case::new(&[17, 23], &[5, 7]);
    let problem = problem(&case.spec, &case.inputs(7));
    let mut tiles = problem.candidates(engine().limits()).unwrap()[0];
    let (rows, keys) = (tiles.fused.tile_q(), tiles.fused.tile_kv());
    for (query_box, key_box) in
        [([1, 1, rows], [1, 1, keys]), ([1, rows, 1], [1, keys, 1]), ([1, 2, 3], [1, 1, 1])]
    {
        tiles.query_box.0 = query_box;
        tiles.key_box.0 = key_box;
        check(engine(), &case, Some(tiles));
    }
}

#[test]
fn tiles_are_read_and_written_as_json() {
    let problem =
        problem(&Case::new(&[8, 8], &[3, 3]).spec, &Case::new(&[8, 8], &[3, 3]).inputs(1));
    for tiles in problem.candidates(engine().limits()).unwrap() {
        let read: NeighborhoodTiles = serde_json::from_str(&tiles.to_string()).unwrap();
        assert_eq!(read, tiles);
    }
}
