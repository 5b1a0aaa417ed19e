//! Requests that are wrong, as the program takes them: each is refused with the field, what was expected and what it got.

use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};
use tilewise::tensor::{Dtype, HostTensor, write_safetensors};

use crate::support::{Tensors, inputs, tensor};

/// Exit code and stderr of the reference's run.
fn run(spec: &str, input: &Path, more: &[&str]) -> (Option<i32>, String) {
    let folder = tempfile::tempdir().unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_tilewise"));
    command.env("TILEWISE_CACHE", "").args(["run", spec, "--backend", "cpu", "--input"]).arg(input);
    let output =
        command.arg("--output").arg(folder.path().join("out")).args(more).output().unwrap();
    (output.status.code(), String::from_utf8_lossy(&output.stderr).trim().to_owned())
}

#[track_caller]
fn refused(tensors: &Tensors, requests: &[(&str, &str)]) {
    let folder = tempfile::tempdir().unwrap();
    let input = folder.path().join("in");
    write_safetensors(&input, tensors).unwrap();
    for (spec, expected) in requests {
        let (code, message) = run(spec, &input, &[]);
        assert_eq!((code, message.as_str()), (Some(2), *expected), "{spec}");
    }
}

#[test]
fn keys_given_twice_are_refused_at_every_level() {
    refused(
        &inputs([1, 2, 2, 4, 6, 8]),
        &[
            (
                r#"{"op": "attention", "op": "moe"}"#,
                "error: spec: duplicate field `op` at line 1 column 24",
            ),
            (
                r#"{"op": "attention", "dtype": "f32", "dtype": "f32"}"#,
                "error: spec: duplicate field `dtype`",
            ),
            (
                r#"{"op": "attention", "mask": {"band": {"left": 1, "left": 2}}}"#,
                "error: spec: duplicate field `left`",
            ),
            (
                r#"{"op": "attention", "score": [{"wgsl": "", "wgsl": ""}]}"#,
                "error: spec: duplicate field `wgsl`",
            ),
            (
                r#"{"op": "attention", "mask": {"band": {}, "sink": 2}}"#,
                "error: spec: mask: a mask has one form; combine masks with and, or, not",
            ),
        ],
    );
}

#[test]
fn numbers_beyond_their_range_are_refused_with_their_field() {
    refused(
        &inputs([1, 2, 2, 4, 6, 8]),
        &[
            (
                r#"{"op": "attention", "softmax_scale": 1e400}"#,
                "error: spec: number out of range at line 1 column 42",
            ),
            (
                r#"{"op": "attention", "softmax_scale": 1e39}"#,
                "error: softmax_scale: expected a finite number, got inf",
            ),
            (
                r#"{"op": "attention", "softmax_scale": NaN}"#,
                "error: spec: expected value at line 1 column 38",
            ),
            (
                r#"{"op": "attention", "batch": 4294967296}"#,
                "error: spec: batch: invalid value: integer `4294967296`, expected u32",
            ),
            (
                r#"{"op": "attention", "batch": -1}"#,
                "error: spec: batch: invalid value: integer `-1`, expected u32",
            ),
            (
                r#"{"op": "attention", "seq_len_q": 4.0}"#,
                "error: spec: seq_len_q: invalid type: floating point `4.0`, expected u32",
            ),
            (
                r#"{"op": "attention", "head_dim": 99999999999999999999999}"#,
                "error: spec: head_dim: invalid type: floating point `1e+23`, expected u32",
            ),
            (
                r#"{"op": "attention", "q_offset": -2147483648}"#,
                "error: q_offset: expected within ±536870912, got -2147483648",
            ),
            (
                r#"{"op": "attention", "score": [{"softcap": 1e-46}]}"#,
                "error: score.softcap: expected a finite number above 0, got 0",
            ),
            (
                r#"{"op": "attention", "mask": {"band": {"left": -1}}}"#,
                "error: spec: mask.band.left: expected a number from 0, a list of them (one for each query head), or the name of an i32 tensor [q_heads]",
            ),
            (
                r#"{"op": "moe", "router": {"token_choice": {"scale": 1e39}}, "top_k": "2"}"#,
                "error: spec: top_k: invalid type: string \"2\", expected u32",
            ),
        ],
    );
}

#[test]
fn what_is_no_spec_is_told_with_its_place() {
    refused(
        &inputs([1, 2, 2, 4, 6, 8]),
        &[
            ("{", "error: spec: EOF while parsing an object at line 1 column 1"),
            (r#"{"op": "attention"} x"#, "error: spec: trailing characters at line 1 column 21"),
            ("{}", "error: spec: missing field `op` at line 1 column 2"),
            (
                r#"{"op": "attention", "normaliser": {"softmax": {"snk": "a"}}}"#,
                "error: spec: normaliser.softmax.snk: unknown field `snk`, expected `sink`",
            ),
            (
                r#"{"op": "attention", "layout": "hbsd"}"#,
                "error: spec: layout: unknown variant `hbsd`, expected `bhsd` or `bshd`",
            ),
            (
                r#"{"op": "neighborhood", "window": [3], "border": "wrap"}"#,
                "error: spec: border: unknown variant `wrap`, expected `shift` or `clip`",
            ),
        ],
    );
    let deep = format!(
        r#"{{"op": "attention", "mask": {}1{}}}"#,
        r#"{"not": "#.repeat(5000),
        "}".repeat(5000)
    );
    let folder = tempfile::tempdir().unwrap();
    let input = folder.path().join("in");
    write_safetensors(&input, &inputs([1, 2, 2, 4, 6, 8])).unwrap();
    let (code, message) = run(&deep, &input, &[]);
    assert_eq!(code, Some(2), "{message}");
    assert!(message.starts_with("error: spec: recursion limit exceeded at line 1"), "{message}");
    for (text, expected) in [
        ("", "EOF while parsing a value at line 1 column 0"),
        ("null", "expected an object with a field op, got null"),
        ("[1]", "expected an object with a field op, got [1]"),
    ] {
        let spec = folder.path().join("spec.json");
        std::fs::write(&spec, text).unwrap();
        let (code, message) = run(&spec.display().to_string(), &spec, &[]);
        assert_eq!(code, Some(2), "{message}");
        assert_eq!(message, format!("error: {}: {expected}", spec.display()));
    }
}

#[test]
fn tensors_that_do_not_fit_are_refused_with_both() {
    let good = inputs([1, 2, 2, 4, 6, 8]);
    let spec = r#"{"op": "attention"}"#;
    let replaced = |name: &str, dtype: Dtype, shape: &[u64]| {
        let mut tensors = good.clone();
        tensors.insert(name.to_owned(), tensor(dtype, shape, 1));
        tensors
    };
    for (name, dtype, shape, expected) in [
        (
            "q",
            Dtype::F32,
            &[2, 4, 8][..],
            "q: expected 4 axes (batch, heads, seq, dim in the order of layout), got shape [2, 4, 8]",
        ),
        (
            "q",
            Dtype::F32,
            &[],
            "q: expected 4 axes (batch, heads, seq, dim in the order of layout), got shape []",
        ),
        ("q", Dtype::F16, &[1, 2, 4, 8], "q: expected dtype f32, got f16"),
        ("k", Dtype::F32, &[1, 2, 6, 9], "k: expected head_dim 8 as q has, got head_dim 9"),
        ("v", Dtype::F32, &[1, 2, 5, 8], "v: expected seq_len_kv 6 as k has, got seq_len_kv 5"),
        ("v", Dtype::F32, &[1, 2, 6, 0], "value_dim: expected 1 to 576, got 0"),
        ("q", Dtype::F32, &[1, 0, 4, 8], "q_heads: expected 1 to 536870912, got 0"),
        ("kv_lens", Dtype::F32, &[1], "kv_lens: expected dtype i32, got f32"),
        ("kv_lens", Dtype::I32, &[2], "kv_lens: expected shape [1] (batch), got [2]"),
    ] {
        refused(&replaced(name, dtype, shape), &[(spec, &format!("error: {expected}"))]);
    }
    let moe = r#"{"op": "moe", "top_k": 2, "router": {"token_choice": {"score": "softmax", "weight": "score"}}}"#;
    let mut experts = Tensors::new();
    for (name, shape) in
        [("x", &[5, 8][..]), ("router_w", &[4, 8]), ("w_gate", &[4, 6, 8]), ("w_up", &[4, 6, 8])]
    {
        experts.insert(name.to_owned(), tensor(Dtype::F32, shape, 1));
    }
    refused(
        &experts,
        &[(moe, "error: tensor w_down is missing (asked for by this mixture of experts)")],
    );
    experts.insert("w_down".to_owned(), tensor(Dtype::F32, &[4, 6, 8], 1));
    refused(&experts, &[(moe, "error: w_down: expected shape [4, 8, 6], got [4, 6, 8]")]);
}

#[test]
fn files_that_hold_no_tensors_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let spec = r#"{"op": "attention"}"#;
    let header = |json: &Value, data: usize| {
        let json = json.to_string();
        [&(json.len() as u64).to_le_bytes()[..], json.as_bytes(), &vec![0; data]].concat()
    };
    let of = |shape: Value, dtype: &str, end: usize| json!({"q": {"dtype": dtype, "shape": shape, "data_offsets": [0, end]}});
    let huge = 1_u64 << 62;
    for (name, bytes, expected) in [
        ("empty", Vec::new(), "not a safetensors file: header too small"),
        ("noise", vec![0xff; 100], "not a safetensors file: header too large"),
        ("long", header(&of(json!([huge, 4]), "F32", 0), 0), "not a safetensors file: overflow"),
        ("short", header(&of(json!([4]), "F32", 16), 8), "not a safetensors file: "),
        ("double", header(&of(json!([1]), "F64", 8), 8), "tensor q has dtype f64; known are f32,"),
        ("wide", header(&of(json!([huge, 0]), "F32", 0), 0), ""),
    ] {
        std::fs::write(path(name), bytes).unwrap();
        let (code, message) = run(spec, &path(name), &[]);
        let expected = match name {
            "wide" => "error: q: expected ".to_owned(),
            _ => format!("error: {}: {expected}", path(name).display()),
        };
        assert!(code == Some(2) && message.starts_with(&expected), "{name}: {message}");
    }
    let (code, message) = run(spec, folder.path(), &[]);
    assert!(code == Some(2) && message.contains("s a directory"), "{message}");
    let (code, message) = run(spec, &path("none"), &[]);
    assert!(code == Some(2) && message.contains("none: "), "{message}");
}

#[cfg(target_os = "linux")]
#[test]
fn files_whose_names_are_no_text_are_read_and_written() {
    use std::os::unix::ffi::OsStrExt as _;

    let folder = tempfile::tempdir().unwrap();
    let strange = folder.path().join(std::ffi::OsStr::from_bytes(b"\xff"));
    write_safetensors(&strange, &inputs([1, 2, 2, 4, 6, 8])).unwrap();
    let (code, message) = run(r#"{"op": "attention"}"#, &strange, &[]);
    assert_eq!(code, Some(0), "{message}");
    let tiles = run(r#"{"op": "attention"}"#, &strange, &["--tiles", "{}"]);
    assert_eq!(
        tiles,
        (Some(2), "error: --tiles does not apply: the reference has none".to_owned())
    );
    let lens = HostTensor::from_f64(Dtype::I32, &[1], &[3.0]);
    let mut tensors = inputs([1, 2, 2, 4, 6, 8]);
    tensors.insert("kv_lens".to_owned(), lens);
    write_safetensors(&strange, &tensors).unwrap();
    assert_eq!(run(r#"{"op": "attention"}"#, &strange, &[]).0, Some(0));
}
