//! The program, from outside: what a mixture of experts prints, and how wrong requests end.

use std::path::PathBuf;
use std::process::{Command, Output};

use serde_json::{Value, json};
use tilewise::tensor::{Dtype, read_safetensors, write_safetensors};

use crate::support::{SMALL, Tensors, i32s};

fn tilewise(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_tilewise")).args(arguments).output().unwrap()
}

/// Tensors in a file, and where the answer goes.
struct Files {
    folder: tempfile::TempDir,
}

impl Files {
    fn new(tensors: &Tensors) -> Self {
        let folder = tempfile::tempdir().unwrap();
        write_safetensors(&folder.path().join("in.safetensors"), tensors).unwrap();
        Self { folder }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn run(&self, spec: &Value, more: &[&str]) -> Output {
        let [input, output] =
            ["in.safetensors", "out.safetensors"].map(|name| self.path(name).display().to_string());
        let spec = spec.to_string();
        tilewise(&[&["run", &spec, "--input", &input, "--output", &output], more].concat())
    }
}

fn refused(output: &Output, parts: &[&str]) {
    let text = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{text}");
    assert!(parts.iter().all(|part| text.contains(part)), "expected {parts:?}: {text}");
}

#[test]
fn wrong_requests_name_field_expected_and_got_and_exit_with_2() {
    let files = Files::new(&SMALL.tensors(Dtype::F32, 1));
    let cases: [(Value, &[&str]); 14] = [
        (json!({"op": "moe"}), &["top_k", "a number", "nothing"]),
        (json!({"op": "moe", "top_k": 7}), &["top_k", "1 to 6", "7"]),
        (json!({"op": "moe", "topk": 2}), &["unknown field `topk`", "expected"]),
        (json!({"op": "moe", "top_k": "two"}), &["invalid type", "two"]),
        (json!({"op": "moe", "top_k": 2, "dtype": "f16"}), &["x", "f16", "f32"]),
        (json!({"op": "moe", "top_k": 2, "model_dim": 21}), &["model_dim", "20", "21"]),
        (json!({"op": "moe", "top_k": 2, "experts": 5}), &["experts", "6", "5"]),
        (json!({"op": "moe", "router": "external"}), &["topk_ids", "missing"]),
        (json!({"op": "moe", "router": {"soft": {"slots": 2}}}), &["phi", "missing"]),
        (json!({"op": "moe", "router": "internal"}), &["unknown variant `internal`", "external"]),
        (
            json!({"op": "moe", "top_k": 2, "activation": "swish"}),
            &["unknown variant `swish`", "silu_glu"],
        ),
        (
            json!({"op": "moe", "top_k": 2, "capacity": {"rows": 2, "sequences": 4}}),
            &["capacity.sequences", "divisor of tokens (21)", "4"],
        ),
        (
            json!({"op": "moe", "top_k": 2, "null_experts": {"zero": 1}}),
            &["router_w", "[7, 20]", "[6, 20]"],
        ),
        (
            json!({"op": "moe", "top_k": 2, "outputs": ["out", "token_ids"]}),
            &["outputs", "expert_choice", "token_choice"],
        ),
    ];
    for (spec, parts) in cases {
        refused(&files.run(&spec, &["--backend", "cpu"]), parts);
        refused(&files.run(&spec, &[]), parts);
        assert!(!files.path("out.safetensors").exists(), "{spec}");
    }
}

#[test]
fn wrong_tiles_and_tensors_that_are_not_used_are_refused() {
    let mut inputs = SMALL.tensors(Dtype::F32, 1);
    let files = Files::new(&inputs);
    let spec = json!({"op": "moe", "top_k": 2});
    refused(&files.run(&spec, &["--tiles", "{\"family\": \"rows\"}"]), &["--tiles", "rows"]);
    let odd = r#"{"family":"workgroup","tile_rows":64,"tile_columns":64,"rows":5,"columns":4,"chunk":16}"#;
    refused(&files.run(&spec, &["--tiles", odd]), &["64 is no multiple of 5"]);
    inputs.insert("token_top_k".to_owned(), i32s(&[21], &[1; 21]));
    let files = Files::new(&inputs);
    let spec = json!({"op": "moe", "router": {"expert_choice": {"capacity": 2}}});
    refused(&files.run(&spec, &[]), &["token_top_k", "no such tensor with an expert_choice"]);
    inputs.remove("w_up");
    let files = Files::new(&inputs);
    refused(&files.run(&json!({"op": "moe", "top_k": 2}), &[]), &["w_up", "missing"]);
}

#[test]
fn both_backends_write_what_was_asked_for() {
    let files = Files::new(&SMALL.tensors(Dtype::F32, 1));
    let outputs = ["out", "topk_ids", "counts", "pair_rows"];
    for backend in ["cpu", "gpu"] {
        let spec = json!({"op": "moe", "top_k": 2, "outputs": outputs});
        let ran = files.run(&spec, &["--backend", backend]);
        assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));
        let got = read_safetensors(&files.path("out.safetensors")).unwrap();
        assert_eq!(got.len(), 4);
        assert_eq!((got["counts"].dtype, got["out"].shape.as_slice()), (Dtype::I32, &[21, 20][..]));
    }
}

#[test]
fn explain_tells_steps_memory_and_loads() {
    let spec = json!({
        "op": "moe", "top_k": 2, "tokens": 512, "model_dim": 256, "experts": 8, "expert_dim": 512,
    });
    let ran = tilewise(&["explain", &spec.to_string(), "--floor"]);
    let text = String::from_utf8_lossy(&ran.stdout);
    assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));
    let loads = "128 rows an expert where choices are even, 8.00 of 8 experts busy";
    for part in ["moe_route", "moe_offsets", "as many as the device counts", "scratch", loads] {
        assert!(text.contains(part), "{part}: {text}");
    }
    refused(&tilewise(&["explain", r#"{"op": "moe", "top_k": 2}"#]), &["tokens", "a number"]);
    let ran = tilewise(&["explain", &spec.to_string(), "--compile", "--all-tiles"]);
    let text = String::from_utf8_lossy(&ran.stderr);
    assert!(ran.status.success() && text.contains("=== kernel matmul_"), "{text}");
}
