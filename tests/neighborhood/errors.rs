//! Each refused parameter has its message, naming the axis and the numbers.

use tilewise::neighborhood::{NeighborhoodProblem, NeighborhoodSpec, TensorDescs, TileBox};
use tilewise::operator::Operator;
use tilewise::tensor::{Dtype, TensorDesc, descs};

use crate::harness::{Case, problem};

fn refusal(change: impl FnOnce(&mut NeighborhoodSpec, &mut TensorDescs)) -> String {
    let case = Case::new(&[12, 10], &[5, 4]);
    let mut descs: TensorDescs = descs(&case.inputs(1));
    let mut spec = case.spec;
    change(&mut spec, &mut descs);
    NeighborhoodProblem::new(&spec, &descs).expect_err("a wrong question").to_string()
}

fn of_spec(change: impl FnOnce(&mut NeighborhoodSpec)) -> String {
    refusal(|spec, _| change(spec))
}

fn of_tensor(name: &str, shape: &[u64]) -> String {
    refusal(|_, descs| {
        descs.insert(name.to_owned(), TensorDesc::contiguous(Dtype::F32, shape));
    })
}

#[test]
fn parameters_of_an_axis() {
    for (got, expected) in [
        (of_spec(|s| s.window = vec![5, 0]), "window of axis 1: expected at least 1, got 0"),
        (
            of_spec(|s| (s.window, s.causal) = (vec![5, (1 << 29) + 1], vec![false, true])),
            "window of axis 1: expected at most 536870912, got 536870913",
        ),
        (of_spec(|s| s.stride = vec![0, 1]), "stride of axis 0: expected at least 1, got 0"),
        (
            of_spec(|s| s.stride = vec![1, 5]),
            "stride of axis 1: expected at most the window, 4, got 5",
        ),
        (of_spec(|s| s.dilation = vec![1, 0]), "dilation of axis 1: expected at least 1, got 0"),
        (
            of_spec(|s| (s.stride, s.group_offset) = (vec![2, 4], vec![1, 4])),
            "group_offset of axis 1: expected below the stride, 4, got 4",
        ),
        (
            of_spec(|s| (s.window, s.head_windows) = (vec![], vec![vec![3, 4], vec![13, 4]])),
            "window of axis 0 of head 1: expected window times dilation at most the extent, 12, got window 13 times dilation 1, 13",
        ),
        (
            of_spec(|s| {
                (s.window, s.stride) = (vec![], vec![1, 4]);
                s.head_windows = vec![vec![3, 4], vec![3, 3]];
            }),
            "stride of axis 1 of head 1: expected at most the window, 3, got 4",
        ),
        (
            of_spec(|s| s.dilation = vec![3, 1]),
            "window of axis 0: expected window times dilation at most the extent, 12, got window 5 times dilation 3, 15",
        ),
        (
            of_spec(|s| s.window = vec![5, 11]),
            "window of axis 1: expected window times dilation at most the extent, 10, got window 11 times dilation 1, 11",
        ),
    ] {
        assert_eq!(got, expected);
    }
}

#[test]
fn lists_of_another_length() {
    for (got, expected) in [
        (
            of_spec(|s| s.window = vec![]),
            "window: expected one number for each of one to three axes, got 0",
        ),
        (
            of_spec(|s| s.stride = vec![1]),
            "stride: expected 2 entries as window has, or none, got 1",
        ),
        (
            of_spec(|s| s.dilation = vec![1; 3]),
            "dilation: expected 2 entries as window has, or none, got 3",
        ),
        (
            of_spec(|s| s.group_offset = vec![0]),
            "group_offset: expected 2 entries as window has, or none, got 1",
        ),
        (
            of_spec(|s| (s.window, s.head_windows) = (vec![], vec![vec![3, 4]])),
            "head_windows: expected 2 entries, one for each query head, got 1",
        ),
        (
            of_spec(|s| s.head_windows = vec![vec![3, 4], vec![3]]),
            "head_windows[1]: expected 2 entries as [0] has, got 1",
        ),
        (
            of_spec(|s| s.head_windows = vec![vec![3, 4], vec![3, 4]]),
            "window: expected [3, 4], the largest of head_windows, or none, got [5, 4]",
        ),
        (
            of_spec(|s| s.causal = vec![true]),
            "causal: expected 2 entries as window has, or none, got 1",
        ),
        (
            of_spec(|s| s.window = vec![5]),
            "k: expected 4 axes (batch, X0, heads, dim) as window says, got shape [1, 12, 10, 2, 16]",
        ),
    ] {
        let got = got.replace("q: expected 4", "k: expected 4");
        assert_eq!(got, expected);
    }
}

#[test]
fn tensors_that_do_not_fit() {
    for (got, expected) in [
        (of_tensor("k", &[1, 12, 9, 2, 16]), "k: expected X1 10 as q has, got X1 9"),
        (of_tensor("v", &[1, 11, 10, 2, 16]), "v: expected X0 12 as q has, got X0 11"),
        (of_tensor("k", &[1, 12, 10, 2, 8]), "k: expected head_dim 16 as q has, got head_dim 8"),
        (of_tensor("v", &[1, 12, 10, 1, 16]), "v: expected kv_heads 2 as k has, got kv_heads 1"),
        (of_tensor("q", &[1, 12, 10, 3, 16]), "q_heads: expected a multiple of kv_heads 2, got 3"),
        (of_tensor("k", &[2, 12, 10, 2, 16]), "k: expected batch 1 as q has, got batch 2"),
        (of_tensor("extra_k", &[1, 3, 2, 16]), "tensor extra_v is missing (asked for by extra_k)"),
        (
            of_tensor("out", &[1, 12, 10, 2, 8]),
            "out: expected shape [1, 12, 10, 2, 16], got [1, 12, 10, 2, 8]",
        ),
        (
            of_spec(|s| s.spatial = Some(vec![12, 11])),
            "spatial: expected [12, 10] as the tensors have, got [12, 11]",
        ),
        (of_spec(|s| s.q_heads = Some(4)), "q_heads: expected 2 as the tensors have, got 4"),
        (of_spec(|s| s.dtype = Dtype::F16), "q: expected dtype f16, got f32"),
        (of_spec(|s| s.outputs = vec![]), "outputs: expected at least one of out, lse, got none"),
        (
            of_spec(|s| s.softmax_scale = Some(f32::NAN.into())),
            "softmax_scale: expected a finite number, got NaN",
        ),
    ] {
        assert_eq!(got, expected);
    }
}

#[test]
fn unknown_fields_are_named() {
    let error = serde_json::from_str::<NeighborhoodSpec>(r#"{"window": [3], "windov": 1}"#);
    assert!(error.unwrap_err().to_string().contains("unknown field `windov`"));
}

#[test]
fn tiles_that_do_not_hold_their_boxes() {
    let case = Case::new(&[12, 10], &[5, 4]);
    let problem = problem(&case.spec, &case.inputs(1));
    let limits = tilewise::gpu::limits::GpuLimits::floor();
    let tiles = problem.candidates(&limits).unwrap()[0];
    for change in [TileBox([1, 1, 4096]), TileBox([1, 0, 8])] {
        let wrong = tilewise::neighborhood::NeighborhoodTiles { query_box: change, ..tiles };
        let error = problem.plan(&limits, &wrong).unwrap_err().to_string();
        assert!(error.contains("query_box 1x"), "{error}");
    }
}

#[test]
fn an_image_larger_than_a_buffer_is_refused_with_both_numbers() {
    let limits = tilewise::gpu::limits::GpuLimits::floor();
    let of_side = |side: u32| {
        let spec = NeighborhoodSpec {
            window: vec![7, 7],
            batch: Some(2),
            spatial: Some(vec![side, 1024]),
            q_heads: Some(2),
            head_dim: Some(32),
            ..NeighborhoodSpec::default()
        };
        let problem = NeighborhoodProblem::new(&spec, &spec.assumed_tensors().unwrap()).unwrap();
        let tiles = problem.candidates(&limits).unwrap()[0];
        problem.plan(&limits, &tiles)
    };
    // Images are cut along their axes; what no buffer holds cannot be.
    assert!(of_side(511).is_ok());
    let error = of_side(513).unwrap_err().to_string();
    for part in ["q: needs 268959744", "max_buffer_size", "268435456"] {
        assert!(error.contains(part), "no {part} in {error}");
    }
}
