//! What callers get wrong in Rust, where the program's files cannot.

use serde_json::json;
use tilewise::attention::{AttentionOutput, AttentionProblem, AttentionSpec, TensorDescs};
use tilewise::error::{Error, PlanError, SpecError};
use tilewise::fused::FusedTiles;
use tilewise::gpu::limits::GpuLimits;
use tilewise::operator::Operator;
use tilewise::tensor::{Dtype, Layout, TensorDesc};

use crate::support::{inputs, problem};

fn descs() -> TensorDescs {
    let tensors = inputs([2, 4, 2, 5, 7, 8]);
    tensors.iter().map(|(name, tensor)| (name.clone(), tensor.desc())).collect()
}

fn refused(descs: &TensorDescs) -> SpecError {
    match AttentionProblem::new(&AttentionSpec::default(), descs) {
        Err(Error::Spec(error)) => error,
        other => panic!("{other:?}"),
    }
}

fn placed(name: &str, strides: [u64; 4], offset: u64) -> TensorDescs {
    let mut descs = descs();
    let layout = Layout::new(&[2, 4, 5, 8], &strides, offset).unwrap();
    descs.insert(name.to_owned(), TensorDesc { dtype: Dtype::F32, layout });
    descs
}

#[test]
fn strides_that_no_kernel_takes_are_named() {
    let error = refused(&placed("q", [160, 40, 1, 5], 0)).to_string();
    assert_eq!(error, "q stride of dim: expected 1, got 5");
    let error = refused(&placed("out", [160, 40, 0, 1], 0)).to_string();
    assert!(error.starts_with("out: expected strides that keep elements apart"), "{error}");
}

#[test]
fn elements_that_u64_does_not_count_are_named() {
    let far = Layout::new(&[2, 4, 5, 8], &[u64::MAX, 40, 8, 1], 5).unwrap_err().to_string();
    assert!(far.starts_with("layout: expected at most"), "{far}");
    for (name, shape) in [("q", [1 << 40, 4, 5, 1 << 40]), ("unused", [0, 1 << 40, 1 << 40, 1])] {
        let mut descs = descs();
        descs.insert(name.to_owned(), TensorDesc::contiguous(Dtype::F32, &shape));
        let error = refused(&descs).to_string();
        assert!(error.starts_with(&format!("{name}: expected elements whose bytes u64 counts")));
    }
}

#[test]
fn an_extra_input_must_not_have_gaps() {
    let mut descs = descs();
    let layout = Layout::new(&[2], &[2], 0).unwrap();
    descs.insert("kv_lens".to_owned(), TensorDesc { dtype: Dtype::I32, layout });
    assert!(refused(&descs).to_string().starts_with("kv_lens: expected a tensor without gaps"));
}

#[test]
fn a_head_gate_of_another_shape_or_type_is_named() {
    let mut descs = descs();
    descs.insert("head_gate".to_owned(), TensorDesc::contiguous(Dtype::F32, &[2, 5, 4]));
    let error = refused(&descs).to_string();
    assert_eq!(
        error,
        "head_gate: expected shape [2, 4, 5] (batch, q_heads, seq_len_q), got [2, 5, 4]"
    );
    descs.insert("head_gate".to_owned(), TensorDesc::contiguous(Dtype::F16, &[2, 4, 5]));
    assert_eq!(refused(&descs).to_string(), "head_gate: expected dtype f32, got f16");
}

fn of(tensors: &[(&str, Dtype, &[u64])]) -> TensorDescs {
    let desc = |(name, dtype, shape): &(&str, Dtype, &[u64])| {
        ((*name).to_owned(), TensorDesc::contiguous(*dtype, shape))
    };
    tensors.iter().map(desc).collect()
}

#[test]
fn packed_sequences_and_pages_that_do_not_fit_are_named() {
    let (f32, i32) = (Dtype::F32, Dtype::I32);
    let packed = of(&[
        ("q", f32, &[10, 4, 8]),
        ("k", f32, &[20, 2, 8]),
        ("v", f32, &[20, 2, 8]),
        ("cu_seqlens_q", i32, &[4]),
        ("cu_seqlens_kv", i32, &[4]),
    ]);
    let paged = of(&[
        ("q", f32, &[3, 4, 5, 8]),
        ("k_pages", f32, &[6, 16, 2, 8]),
        ("v_pages", f32, &[6, 16, 2, 8]),
        ("block_table", i32, &[3, 2]),
        ("kv_lens", i32, &[3]),
    ]);
    for (tensors, name, dtype, shape, expected) in [
        (
            &packed,
            "cu_seqlens_kv",
            i32,
            &[3][..],
            "cu_seqlens_kv: expected shape [4] (batch + 1), got [3]",
        ),
        (&packed, "cu_seqlens_q", i32, &[0], "cu_seqlens_q: expected at least one entry, got none"),
        (&packed, "cu_seqlens_q", f32, &[4], "cu_seqlens_q: expected dtype i32, got f32"),
        (&packed, "q", f32, &[1, 10, 4, 8], "q: expected 3 axes"),
        (&packed, "head_gate", f32, &[10, 4], "head_gate: expected shape [1, 4, 10]"),
        (&packed, "lse", f32, &[10, 4], "lse: expected shape [4, 10], got [10, 4]"),
        (&packed, "kv_lens", i32, &[3], "kv_lens beside packed sequences is not supported"),
        (&packed, "bias", f32, &[1, 1, 10, 20], "score.bias beside packed sequences"),
        (&packed, "block_table", i32, &[3, 2], "tensor k_pages is missing"),
        (&paged, "cu_seqlens_kv", i32, &[4], "cu_seqlens_kv beside keys in pages"),
        (&paged, "cu_seqlens_q", i32, &[4], "q: expected 3 axes"),
        (&paged, "v_pages", f32, &[6, 8, 2, 8], "v_pages: expected page_size 16 as k_pages has"),
        (&paged, "v_pages", f32, &[5, 16, 2, 8], "v_pages: expected pages 6 as k_pages has"),
        (&paged, "k_pages", f32, &[6, 16, 2, 9], "k_pages: expected head_dim 8 as q has"),
        (
            &paged,
            "block_table",
            i32,
            &[2, 2],
            "block_table: expected shape [3, 2] (batch, max_pages), got [2, 2]",
        ),
        (&paged, "block_table", i32, &[6], "block_table: expected 2 axes (batch, max_pages)"),
    ] {
        let mut tensors = tensors.clone();
        tensors.insert(name.to_owned(), TensorDesc::contiguous(dtype, shape));
        let spec = AttentionSpec {
            outputs: vec![AttentionOutput::Out, AttentionOutput::Lse],
            ..AttentionSpec::default()
        };
        let error = AttentionProblem::new(&spec, &tensors).unwrap_err().to_string();
        assert!(error.starts_with(expected), "{error}, expected {expected}");
    }
}

#[test]
fn an_output_of_another_shape_or_type_is_named() {
    let mut descs = descs();
    descs.insert("out".to_owned(), TensorDesc::contiguous(Dtype::F32, &[2, 4, 5, 9]));
    assert_eq!(refused(&descs).to_string(), "out: expected shape [2, 4, 5, 8], got [2, 4, 5, 9]");
    descs.insert("out".to_owned(), TensorDesc::contiguous(Dtype::F16, &[2, 4, 5, 8]));
    assert_eq!(refused(&descs).to_string(), "out: expected dtype f32, got f16");
}

#[test]
fn tiles_that_do_not_fit_are_refused_with_the_numbers() {
    let problem = problem(&json!({}), &inputs([1, 1, 1, 64, 64, 64]));
    let plan = |json: serde_json::Value| {
        let tiles: FusedTiles = serde_json::from_value(json).unwrap();
        problem.plan(&GpuLimits::floor(), &tiles).unwrap_err()
    };
    let tiles = |rows: u32, tile_q: u32, head_chunk: u32| json!({"family": "workgroup", "tile_q": tile_q, "tile_kv": 64, "rows": rows, "cols": 4, "head_chunk": head_chunk, "key_chunk": 16});
    for (rows, tile_q, head_chunk, part) in [
        (0, 64, 32, "tile_q in rows: 64 is not a multiple of 0"),
        (3, 64, 32, "64 is not a multiple of 3"),
        (4, 64, 12, "head_chunk in pairs of vectors: 12 is not a multiple of 8"),
        (4, 64, 0, "head_chunk"),
    ] {
        let error = plan(tiles(rows, tile_q, head_chunk));
        assert!(
            matches!(error, PlanError::Tiles { .. }) && error.to_string().contains(part),
            "{error}"
        );
    }
    let error = plan(tiles(4, 64, 64)).to_string();
    assert!(error.contains("bytes of workgroup memory, the device has 16384"), "{error}");
    let roomy = GpuLimits { workgroup_bytes: 64 << 10, ..GpuLimits::floor() };
    let many: FusedTiles = serde_json::from_value(tiles(2, 64, 8)).unwrap();
    let error = problem.plan(&roomy, &many).unwrap_err().to_string();
    assert!(error.contains("needs 512 invocations a workgroup, the device has 256"), "{error}");
    let stream = json!({"family": "stream", "rows": 4, "lanes": 4, "keys": 4, "tile_kv": 64, "workgroup_size": 32});
    let error = plan(stream).to_string();
    assert!(error.contains("needs 4 lanes in the smallest subgroup, the device has 0"), "{error}");
}

#[test]
fn half_stages_are_refused_where_tensors_or_device_have_none() {
    let tiles = json!({"family": "workgroup", "tile_q": 64, "tile_kv": 64, "rows": 4, "cols": 4, "head_chunk": 16, "key_chunk": 16, "half": true});
    let tiles: FusedTiles = serde_json::from_value(tiles).unwrap();
    let plan = |dtype: Dtype, f16: bool| {
        let spec = json!({"dtype": dtype, "batch": 1, "q_heads": 1, "kv_heads": 1, "seq_len_q": 64, "seq_len_kv": 64, "head_dim": 64});
        let spec: AttentionSpec = serde_json::from_value(spec).unwrap();
        let problem = AttentionProblem::new(&spec, &spec.assumed_tensors().unwrap()).unwrap();
        problem.plan(&GpuLimits { f16, ..GpuLimits::floor() }, &tiles)
    };
    assert!(plan(Dtype::F16, true).is_ok());
    for (dtype, f16, reason) in [
        (Dtype::F32, true, "half stages f16, the tensors are of f32"),
        (Dtype::Bf16, true, "half stages f16, the tensors are of bf16"),
        (Dtype::F16, false, "half stages f16, the device has no shader-f16"),
    ] {
        let error = plan(dtype, f16).unwrap_err();
        assert!(
            matches!(error, PlanError::Tiles { .. }) && error.to_string().contains(reason),
            "{error}"
        );
    }
}

#[test]
fn numbers_beyond_any_tile_are_refused_without_a_panic() {
    let problem = problem(&json!({}), &inputs([1, 1, 1, 64, 64, 64]));
    for most in [u32::MAX, u32::MAX - 3, 1 << 31, 1 << 16] {
        for json in [
            json!({"family": "workgroup", "tile_q": most, "tile_kv": 64, "rows": 4, "cols": 4, "head_chunk": 32, "key_chunk": 16}),
            json!({"family": "workgroup", "tile_q": 64, "tile_kv": most, "rows": 4, "cols": most, "head_chunk": 32, "key_chunk": 16}),
            json!({"family": "workgroup", "tile_q": 64, "tile_kv": 64, "rows": 4, "cols": 4, "head_chunk": most, "key_chunk": 16}),
            json!({"family": "workgroup", "tile_q": most, "tile_kv": most, "rows": 2, "cols": 2, "head_chunk": 8, "key_chunk": 8}),
            json!({"family": "stream", "rows": 64, "lanes": 1, "keys": 4, "tile_kv": 64, "workgroup_size": most}),
            json!({"family": "stream", "rows": 4, "lanes": most, "keys": 4, "tile_kv": most, "workgroup_size": most}),
            json!({"family": "workgroup", "tile_q": 64, "tile_kv": 64, "rows": 4, "cols": 4, "head_chunk": 16, "key_chunk": 16, "kv_splits": most}),
        ] {
            let tiles: FusedTiles = serde_json::from_value(json).unwrap();
            let plan = problem.plan(&GpuLimits::floor(), &tiles);
            assert!(plan.is_err(), "{tiles}: {} steps", plan.unwrap().steps().len());
        }
    }
}
