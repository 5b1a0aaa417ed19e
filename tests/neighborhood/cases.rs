//! Every option, in one, two and three dimensions, against the f64 reference.

use tilewise::neighborhood::{Border, NeighborhoodOutput, plain, reference};
use tilewise::tensor::{Dtype, HostTensor, Layout, TensorDesc};

use crate::harness::{Case, check, engine, floor_engine, gather, hold, places, problem};

#[test]
fn one_dimension() {
    for (extent, window) in [(1, 1), (5, 5), (31, 7), (64, 12), (133, 32)] {
        check(engine(), &Case::new(&[extent], &[window]), None);
    }
}

#[test]
fn two_dimensions() {
    check(engine(), &Case::new(&[9, 14], &[3, 6]), None);
    check(engine(), &Case::new(&[20, 17], &[13, 7]), None);
    check(engine(), &Case::new(&[1, 40], &[1, 9]), None);
}

#[test]
fn three_dimensions() {
    check(engine(), &Case::new(&[5, 6, 7], &[3, 4, 5]), None);
    check(engine(), &Case::new(&[2, 9, 3], &[2, 2, 1]), None);
}

#[test]
fn strides_and_causal_axes() {
    let stride = |stride: &[u32]| Case::new(&[37], &[6]).with(|spec| spec.stride = stride.to_vec());
    check(engine(), &stride(&[4]), None);
    check(engine(), &stride(&[6]).with(|spec| spec.causal = vec![true]), None);
    let two = Case::new(&[12, 15], &[5, 4]).with(|spec| {
        spec.stride = vec![3, 4];
        spec.causal = vec![false, true];
    });
    check(engine(), &two, None);
}

#[test]
fn ragged_dilation_classes() {
    let one = Case::new(&[47], &[5]).with(|spec| spec.dilation = vec![6]);
    check(engine(), &one, None);
    let three = Case::new(&[7, 11, 6], &[3, 2, 2]).with(|spec| {
        spec.dilation = vec![2, 4, 3];
        spec.causal = vec![true, false, false];
        spec.stride = vec![1, 2, 1];
    });
    check(engine(), &three, None);
}

#[test]
fn clipped_borders() {
    for (window, stride) in [([5, 4], [1, 1]), ([6, 7], [4, 7])] {
        let case = Case::new(&[13, 10], &window).with(|spec| {
            spec.border = Border::Clip;
            spec.stride = stride.to_vec();
        });
        check(engine(), &case, None);
        check(engine(), &case.with(|spec| spec.causal = vec![true, false]), None);
    }
}

#[test]
fn grouped_heads_batches_and_dims_apart() {
    let mut case = Case::new(&[10, 9], &[4, 3]);
    case.batch = 3;
    case.heads = [6, 2];
    case.dims = [40, 24];
    check(engine(), &case, None);
    case.heads = [3, 1];
    case.dims = [5, 7]; // rows that are no whole vectors
    check(engine(), &case, None);
}

#[test]
fn extra_tokens_are_seen_by_all() {
    for extra in [1, 5, 70] {
        let mut case = Case::new(&[9, 8], &[3, 5]).with(|spec| spec.causal = vec![false, true]);
        case.extra = extra;
        case.heads = [4, 2];
        case.batch = 2;
        check(engine(), &case, None);
    }
}

#[test]
fn halves() {
    for dtype in [Dtype::F16, Dtype::Bf16] {
        let mut case = Case::new(&[8, 11], &[5, 5]).with(|spec| spec.dtype = dtype);
        check(engine(), &case, None);
        case.dims = [24, 7];
        case.extra = 3;
        check(engine(), &case.with(|spec| spec.out_dtype = Some(Dtype::F32)), None);
    }
}

#[test]
fn scales_and_single_outputs() {
    let scale = |scale: f32| {
        move |spec: &mut tilewise::neighborhood::NeighborhoodSpec| {
            spec.softmax_scale = Some(scale.into());
        }
    };
    check(engine(), &Case::new(&[20], &[7]).with(scale(0.0)), None);
    check(engine(), &Case::new(&[20], &[7]).with(scale(-0.5)), None);
    for output in [NeighborhoodOutput::Out, NeighborhoodOutput::Lse] {
        check(engine(), &Case::new(&[20], &[7]).with(|spec| spec.outputs = vec![output]), None);
    }
}

#[test]
fn the_floor_of_webgpu() {
    check(floor_engine(), &Case::new(&[9, 14], &[3, 6]), None);
    let mut case = Case::new(&[6, 5, 7], &[3, 2, 3]).with(|spec| spec.dilation = vec![2, 1, 2]);
    case.extra = 9;
    case.dims = [64, 64];
    check(floor_engine(), &case, None);
}

/// q, k and v as views of one packed tensor `[batch, x, y, 3, heads, dim]`, out and lse with gaps; what lies beyond the
/// views is NaN.
#[test]
fn strided_views_without_copies() {
    let case = Case::new(&[7, 10], &[3, 4]);
    let inputs = case.inputs(3);
    let dense = problem(&case.spec, &inputs);
    let truth = reference(&dense, &inputs).unwrap();
    let plain = plain(&dense, &inputs).unwrap();
    let (x, y, heads, dim) = (7, 10, 2, 16);
    let view = |shape: &[u64], strides: &[u64], offset| TensorDesc {
        dtype: Dtype::F32,
        layout: Layout::new(shape, strides, offset).unwrap(),
    };
    let row = 3 * heads * dim + 4;
    let shape = [1, x, y, heads, dim];
    let mut descs = std::collections::BTreeMap::new();
    for (part, name) in ["q", "k", "v"].into_iter().enumerate() {
        let offset = 8 + part as u64 * heads * dim;
        descs.insert(name.to_owned(), view(&shape, &[x * y * row, y * row, row, dim, 1], offset));
    }
    // Heads first in memory, heads last by its axes.
    descs.insert("out".to_owned(), view(&shape, &[9000, y * 17, 17, x * y * 17, 1], 3));
    descs.insert("lse".to_owned(), view(&shape[..4], &[900, y * 2, 2, x * y * 2], 1));
    let strided =
        tilewise::neighborhood::NeighborhoodProblem::new(&case.spec, &descs).expect("views");
    let mut buffers = std::collections::BTreeMap::new();
    for name in ["q", "k", "v"] {
        let mut elements = vec![f64::NAN; (8 + x * y * row) as usize];
        for (place, value) in places(&descs[name]).into_iter().zip(inputs[name].to_f64()) {
            elements[place] = value;
        }
        let shape = [elements.len() as u64];
        buffers.insert(name.to_owned(), HostTensor::from_f64(Dtype::F32, &shape, &elements));
    }
    let results = engine().run(&strided, None, &buffers).unwrap();
    let got = results
        .into_iter()
        .map(|(name, host)| {
            let elements = host.to_f64();
            let held = gather(&descs[&name], &elements);
            let touched = elements.iter().filter(|value| !value.is_nan()).count();
            assert_eq!(touched, held.len(), "{name}: elements between the view's were written");
            (name, held)
        })
        .collect();
    hold(&strided, &got, &truth, &plain);
}
