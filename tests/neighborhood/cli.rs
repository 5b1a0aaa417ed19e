//! The program, from outside: what it computes, and what it refuses with which words.

use std::collections::BTreeMap;
use std::process::{Command, Output};

use serde_json::{Value, json};
use tilewise::tensor::{Dtype, HostTensor, read_safetensors, write_safetensors};

use crate::harness::{Case, Inputs, random};

fn tilewise(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_tilewise")).args(arguments).output().unwrap()
}

/// Runs a spec on tensors; gives the outputs where it succeeds.
fn run(spec: &Value, inputs: &Inputs, more: &[&str]) -> (Output, BTreeMap<String, HostTensor>) {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    write_safetensors(&path("in"), inputs).unwrap();
    let (spec, input, output) = (spec.to_string(), path("in"), path("out"));
    let paths = [input.to_str().unwrap(), output.to_str().unwrap()];
    let ran = tilewise(
        &[&["run", spec.as_str(), "--input", paths[0], "--output", paths[1]], more].concat(),
    );
    let outputs = read_safetensors(&output).unwrap_or_default();
    (ran, outputs)
}

/// Both backends, which agree; gives the shapes of the outputs.
fn agrees(spec: &Value, inputs: &Inputs) -> Vec<(String, Vec<u64>)> {
    let of = |backend| {
        let (ran, outputs) = run(spec, inputs, &["--backend", backend, "--ignore-other-tensors"]);
        assert!(ran.status.success(), "{spec}: {}", String::from_utf8_lossy(&ran.stderr));
        outputs
    };
    let (gpu, cpu) = (of("gpu"), of("cpu"));
    let mut shapes = Vec::new();
    for (name, exact) in cpu {
        assert_eq!((gpu[&name].dtype, &gpu[&name].shape), (exact.dtype, &exact.shape), "{name}");
        for (got, expected) in gpu[&name].to_f64().iter().zip(exact.to_f64()) {
            assert!(*got == expected || (got - expected).abs() < 1e-4, "{name} {got} {expected}");
        }
        shapes.push((name, exact.shape));
    }
    shapes
}

/// q, k, v `[1, 8, 6, 2, 16]`, a table of biases, and weights for windows of 5 by 3.
fn inputs() -> Inputs {
    let mut inputs = Case::new(&[8, 6], &[5, 3]).inputs(1);
    let host =
        |shape: &[u64]| HostTensor::from_f64(Dtype::F32, shape, &random(9, shape.iter().product()));
    inputs.insert("rel".to_owned(), host(&[2, 9, 5]));
    inputs.insert("weights".to_owned(), host(&[1, 8, 6, 2, 15]));
    inputs
}

#[test]
fn both_backends_run_every_operator() {
    let mask =
        "fn mask_mod(b: u32, h: u32, q: vec2<u32>, kv: vec2<u32>) -> bool { return kv.x != 2u; }";
    let bias = "fn score_mod(score: f32, b: u32, h: u32, q: vec2<u32>, kv: vec2<u32>) -> f32 { let at = kv + vec2(4u, 2u) - q; return score + rel[(h * 9u + at.x) * 5u + at.y]; }";
    let fused = json!({
        "op": "neighborhood", "window": [5, 3], "stride": [2, 1], "group_offset": [1, 0],
        "border": "clip", "mask": {"wgsl": mask}, "outputs": ["out", "lse"],
        "score": [{"wgsl": bias, "aux": ["rel"]}, {"softcap": 4.0}],
    });
    let row = vec![1, 8, 6, 2];
    let with = |last: u64| [&row[..], &[last]].concat();
    let expected = vec![("lse".to_owned(), row.clone()), ("out".to_owned(), with(16))];
    assert_eq!(agrees(&fused, &inputs()), expected);
    let heads = json!({"op": "neighborhood", "head_windows": [[5, 3], [2, 2]]});
    agrees(&heads, &inputs());
    let scores = json!({"op": "neighborhood_scores", "window": [5, 3], "causal": [true, false]});
    assert_eq!(agrees(&scores, &inputs()), [("scores".to_owned(), with(15))]);
    let aggregate = json!({"op": "neighborhood_aggregate", "window": [5, 3], "border": "clip"});
    assert_eq!(agrees(&aggregate, &inputs()), [("out".to_owned(), with(16))]);
}

#[test]
fn wrong_specs_are_refused_by_axis_and_numbers() {
    let wgsl = |text: &str| json!({"wgsl": text});
    for (fields, part) in [
        (json!({"window": [5, 0]}), "window of axis 1: expected at least 1, got 0"),
        (json!({"window": []}), "window: expected one number for each of one to three axes, got 0"),
        (json!({"window": [9, 3]}), "window 9 times dilation 1, 9"),
        (json!({"dilation": [2, 1]}), "at most the extent, 8, got window 5 times dilation 2, 10"),
        (json!({"dilation": [1, 0]}), "dilation of axis 1: expected at least 1, got 0"),
        (json!({"stride": [6, 1]}), "stride of axis 0: expected at most the window, 5, got 6"),
        (json!({"stride": [0, 1]}), "stride of axis 0: expected at least 1, got 0"),
        (
            json!({"group_offset": [0, 1]}),
            "group_offset of axis 1: expected below the stride, 1, got 1",
        ),
        (
            json!({"group_offset": [0]}),
            "group_offset: expected 2 entries as window has, or none, got 1",
        ),
        (json!({"group_offset": [-1, 0]}), "expected u32"),
        (json!({"causal": [true]}), "causal: expected 2 entries as window has, or none, got 1"),
        (
            json!({"window": [], "head_windows": [[3, 3]]}),
            "head_windows: expected 2 entries, one for each query head, got 1",
        ),
        (
            json!({"window": [], "head_windows": [[3, 3], [9, 3]]}),
            "window of axis 0 of head 1: expected window times dilation at most the extent, 8",
        ),
        (
            json!({"head_windows": [[3, 3], [3, 3]]}),
            "window: expected [3, 3], the largest of head_windows, or none, got [5, 3]",
        ),
        (json!({"border": "wrap"}), "unknown variant `wrap`"),
        (json!({"spatial": [8, 7]}), "spatial: expected [8, 6] as the tensors have, got [8, 7]"),
        (json!({"mask": "full"}), "expected"),
        (json!({"mask": wgsl("fn mask_mod() {}")}), "mask.wgsl: line 1, column"),
        (
            json!({"mask": wgsl("fn mask_mod(b: u32, h: u32, q: vec2<u32>, kv: vec2<u32>) -> bool {\n  return kv.x <;\n}")}),
            "mask.wgsl: line 2, column",
        ),
        (
            json!({"score": [wgsl("fn f() {}")]}),
            "score.wgsl: line 1, column 1: no function score_mod",
        ),
        (json!({"score": [{"wgsl": "", "aux": ["none"]}]}), "tensor none is missing"),
        (
            json!({"score": [{"softcap": -1.0}]}),
            "score.softcap: expected a finite number above 0, got -1",
        ),
        (json!({"score": [{"alibi": "rel"}]}), "score: expected softcap, bias or wgsl"),
        (json!({"score": [{"bias": "rel"}]}), "(batch, q_heads, tokens, tokens"),
        (
            json!({"normaliser": {"softmax": {"sink": "q"}}}),
            "a name other than those of the core tensors",
        ),
        (
            json!({"normaliser": "sigmoid", "outputs": ["out", "lse"]}),
            "got lse with the sigmoid normaliser",
        ),
    ] {
        let mut spec = json!({"op": "neighborhood", "window": [5, 3]});
        for (name, value) in fields.as_object().unwrap() {
            spec[name] = value.clone();
        }
        let (ran, _) = run(&spec, &inputs(), &[]);
        let error = String::from_utf8_lossy(&ran.stderr).into_owned();
        assert_eq!(ran.status.code(), Some(2), "{spec}: {error}");
        assert!(error.contains(part), "{spec}: no {part:?} in {error}");
    }
}

#[test]
fn unfused_operators_refuse_what_they_do_not_have() {
    for (spec, part) in [
        (
            json!({"op": "neighborhood_scores", "window": [5, 3], "head_windows": []}),
            "unknown field `head_windows`",
        ),
        (
            json!({"op": "neighborhood_scores", "window": [5]}),
            "q: expected 4 axes (batch, X0, heads, dim) as window says",
        ),
        (
            json!({"op": "neighborhood_aggregate", "window": [5, 2]}),
            "weights: expected 10 slots, as many as the window has keys, got 15",
        ),
        (
            json!({"op": "neighborhood_aggregate", "window": [5, 3], "stride": [1, 4]}),
            "stride of axis 1: expected at most the window, 3, got 4",
        ),
    ] {
        let (ran, _) = run(&spec, &inputs(), &[]);
        let error = String::from_utf8_lossy(&ran.stderr).into_owned();
        assert_eq!(ran.status.code(), Some(2), "{spec}: {error}");
        assert!(error.contains(part), "{spec}: no {part:?} in {error}");
    }
}

#[test]
fn explain_simulates_windows_by_head() {
    let spec = json!({
        "op": "neighborhood", "batch": 1, "spatial": [40, 40], "q_heads": 2, "head_dim": 32,
        "head_windows": [[3, 3], [13, 13]],
    });
    let ran = tilewise(&["explain", &spec.to_string(), "--simulate", "--floor"]);
    let text = String::from_utf8_lossy(&ran.stdout).into_owned();
    assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));
    assert!(text.contains("heads              2, whose windows differ"), "{text}");
    let scores = json!({"op": "neighborhood_scores", "window": [3]});
    let ran = tilewise(&["explain", &scores.to_string()]);
    assert_eq!(ran.status.code(), Some(2));
}
