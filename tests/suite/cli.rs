//! The program, from outside.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::{Value, json};
use tilewise::tensor::{Dtype, HostTensor, read_safetensors, write_safetensors};

use crate::golden_cases::{compare, folders};
use crate::support::{Tensors, inputs, tensor};

fn tilewise(arguments: &[&str]) -> Output {
    tilewise_caching("", arguments)
}

/// With a cache folder of its own; none where its name is empty.
fn tilewise_caching(cache: &str, arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tilewise"));
    command.env("TILEWISE_CACHE", cache).args(arguments).output().unwrap()
}

fn run(spec: &Path, input: &Path, output: &Path, more: &[&str]) -> Output {
    let paths = [spec, input, output].map(|path| path.display().to_string());
    let [spec, input, output] = &paths;
    tilewise(&[&["run", spec, "--input", input, "--output", output], more].concat())
}

fn numbers(path: &Path) -> std::collections::BTreeMap<String, Vec<f64>> {
    read_safetensors(path)
        .unwrap()
        .iter()
        .map(|(name, tensor)| (name.clone(), tensor.to_f64()))
        .collect()
}

#[test]
fn run_agrees_with_other_software_on_both_backends() {
    let temporary = tempfile::tempdir().unwrap();
    let output = temporary.path().join("out.safetensors");
    for folder in folders() {
        for backend in ["gpu", "cpu"] {
            let (spec, input) = (folder.join("spec.json"), folder.join("inputs.safetensors"));
            let ran = run(&spec, &input, &output, &["--backend", backend]);
            assert!(
                ran.status.success(),
                "{}: {}",
                folder.display(),
                String::from_utf8_lossy(&ran.stderr)
            );
            compare(&folder, &numbers(&output)).unwrap_or_else(|text| panic!("{backend}: {text}"));
        }
    }
}

/// A spec and tensors in files of a folder that lives as long as this.
struct Files {
    folder: tempfile::TempDir,
}

impl Files {
    fn new(spec: &str, tensors: &Tensors) -> Self {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("spec.json"), spec).unwrap();
        write_safetensors(&folder.path().join("in.safetensors"), tensors).unwrap();
        Self { folder }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn run(&self, more: &[&str]) -> Output {
        run(
            &self.path("spec.json"),
            &self.path("in.safetensors"),
            &self.path("out.safetensors"),
            more,
        )
    }
}

#[test]
fn the_cpu_gives_what_the_gpu_gives_in_the_specs_type_and_layout() {
    let shape = |heads: u64, seq: u64| [2, seq, heads, 8];
    let tensors = Tensors::from([
        ("q".to_owned(), tensor(Dtype::F16, &shape(4, 5), 1)),
        ("k".to_owned(), tensor(Dtype::F16, &shape(2, 7), 2)),
        ("v".to_owned(), tensor(Dtype::F16, &shape(2, 7), 3)),
    ]);
    let spec = json!({"op": "attention", "dtype": "f16", "layout": "bshd", "outputs": ["out", "lse"], "mask": {"band": {"right": 0}}});
    let files = Files::new(&spec.to_string(), &tensors);
    let mut results = Vec::new();
    for backend in ["gpu", "cpu"] {
        let ran = files.run(&["--backend", backend]);
        assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));
        results.push(read_safetensors(&files.path("out.safetensors")).unwrap());
    }
    for name in ["out", "lse"] {
        let (gpu, cpu) = (&results[0][name], &results[1][name]);
        assert_eq!((gpu.dtype, &gpu.shape), (cpu.dtype, &cpu.shape));
        crate::support::assert_near(name, &gpu.to_f64(), &cpu.to_f64(), 1e-3);
    }
    assert_eq!(results[0]["out"].shape, [2, 5, 4, 8]);
}

/// Asserts that a request is refused with exit code 2 and a message that has all of `parts`.
fn refused(spec: &str, tensors: &Tensors, more: &[&str], parts: &[&str]) {
    let ran = Files::new(spec, tensors).run(more);
    let error = String::from_utf8_lossy(&ran.stderr);
    assert_eq!(ran.status.code(), Some(2), "{spec} {more:?}: {error}");
    for part in parts {
        assert!(error.contains(part), "{spec} {more:?}: no {part:?} in {error}");
    }
    assert!(ran.stdout.is_empty());
}

fn with(fields: &Value) -> String {
    let mut spec = json!({"op": "attention"});
    fields.as_object().unwrap().iter().for_each(|(name, value)| spec[name] = value.clone());
    spec.to_string()
}

#[test]
fn a_wrong_spec_is_refused_by_field_expected_and_got() {
    let good = inputs([1, 4, 2, 5, 7, 8]);
    for (fields, parts) in [
        (json!({"sofmax_scale": 1.0}), vec!["unknown field `sofmax_scale`", "spec.json"]),
        (json!({"mask": {"bnad": {}}}), vec!["unknown field `bnad`"]),
        (json!({"dtype": "i32"}), vec!["dtype: expected f32, f16 or bf16, got i32"]),
        (json!({"dtype": "f64"}), vec!["unknown variant `f64`"]),
        (
            json!({"score": [{"softcap": 0.0}]}),
            vec!["score.softcap: expected a finite number above 0, got 0"],
        ),
        (json!({"mask": {"band": {"left": -1}}}), vec!["expected a number from 0"]),
        (json!({"q_heads": 3}), vec!["q_heads: expected 4 as the tensors have, got 3"]),
        (json!({"outputs": []}), vec!["outputs: expected at least one of out, lse, got none"]),
        (
            json!({"out_dtype": "bf16"}),
            vec!["out_dtype: expected f32 (the dtype) or f32, got bf16"],
        ),
        (
            json!({"normaliser": "sigmoid", "outputs": ["lse"]}),
            vec!["outputs: expected out alone, got lse"],
        ),
        (json!({"score": [{"bias": "missing"}]}), vec!["tensor missing is missing", "score.bias"]),
        (
            json!({"mask": {"per_head": ["full"]}}),
            vec!["mask.per_head: expected 4 entries", "got 1"],
        ),
        (
            json!({"mask": {"wgsl": "fn mask_mod(b: u32, h: u32, q: u32, kv: u32) -> bool {\n  return kv <;\n}"}}),
            vec!["mask.wgsl: line 2, column"],
        ),
        (
            json!({"mask": {"wgsl": "fn mask_mod(b: u32, h: u32) -> bool { return true; }"}}),
            vec!["mask.wgsl: line 1", "fn mask_mod(b: u32, h: u32, q: u32, kv: u32) -> bool"],
        ),
        (
            json!({"score": [{"wgsl": "fn score_mod(score: f32, b: u32, h: u32, q: u32, kv: u32) -> f32 {\n\n  return score + kv;\n}"}]}),
            vec!["score.wgsl: line 3, column"],
        ),
        (
            json!({"mask": {"wgsl": "fn mask_mod(b: u32, h: u32, q: u32, kv: u32) -> bool { return kv <= nothing; }"}}),
            vec!["mask.wgsl: line 1", "nothing"],
        ),
        (json!({"q_offset": 600_000_000}), vec!["q_offset: expected within", "got 600000000"]),
    ] {
        refused(&with(&fields), &good, &[], &parts);
    }
    refused("{", &good, &[], &["spec.json", "line 1"]);
    refused(r#"{"op": "convolution"}"#, &good, &[], &["unknown variant `convolution`"]);
}

#[test]
fn wrong_tensors_are_refused_by_name_expected_and_got() {
    let good = inputs([1, 4, 2, 5, 7, 8]);
    let changed = |name: &str, dtype, shape: &[u64]| {
        let mut tensors = good.clone();
        tensors.insert(name.to_owned(), tensor(dtype, shape, 7));
        tensors
    };
    let spec = with(&json!({}));
    for (tensors, parts) in [
        (changed("k", Dtype::F16, &[1, 2, 7, 8]), vec!["k: expected dtype f32, got f16"]),
        (
            changed("k", Dtype::F32, &[1, 2, 7, 9]),
            vec!["k: expected head_dim 8 as q has, got head_dim 9"],
        ),
        (
            changed("v", Dtype::F32, &[1, 2, 6, 8]),
            vec!["v: expected seq_len_kv 7 as k has, got seq_len_kv 6"],
        ),
        (changed("q", Dtype::F32, &[4, 5, 8]), vec!["q: expected 4 axes", "[4, 5, 8]"]),
        (
            changed("q", Dtype::F32, &[1, 3, 5, 8]),
            vec!["q_heads: expected a multiple of kv_heads 2, got 3"],
        ),
        (changed("kv_lens", Dtype::F32, &[1]), vec!["kv_lens: expected dtype i32, got f32"]),
        (
            changed("bias", Dtype::F32, &[1, 4, 5, 6]),
            vec!["bias: expected shape [1, 4, 5, 7]", "got [1, 4, 5, 6]"],
        ),
        (changed("k_pages", Dtype::F32, &[1]), vec!["tensor v_pages is missing", "k_pages"]),
        (changed("cu_seqlens_kv", Dtype::I32, &[3]), vec!["tensor cu_seqlens_q is missing"]),
    ] {
        refused(&spec, &tensors, &[], &parts);
    }
    let mut missing = good.clone();
    missing.remove("v");
    refused(&spec, &missing, &[], &["tensor v is missing"]);
    refused(&spec, &inputs([1, 1, 1, 2, 2, 577]), &[], &["head_dim: expected 1 to 576, got 577"]);
    let merge = r#"{"op": "attention_merge"}"#;
    refused(merge, &good, &[], &["tensor outs is missing"]);
}

#[test]
fn wrong_arguments_are_refused() {
    let (good, spec) = (inputs([1, 4, 2, 5, 7, 8]), with(&json!({})));
    refused(&spec, &good, &["--tiles", "{"], &["--tiles"]);
    refused(
        &spec,
        &good,
        &["--tiles", r#"{"family": "blocks"}"#],
        &["--tiles", "unknown variant `blocks`"],
    );
    let tiles = r#"{"family": "stream", "rows": 3, "lanes": 4, "keys": 4, "tile_kv": 64, "workgroup_size": 8}"#;
    refused(&spec, &good, &["--tiles", tiles], &["rows 3 is not a power of two"]);
    refused(
        &spec,
        &good,
        &["--adapter", "no such thing"],
        &["no adapter named no such thing; found: "],
    );
    refused(&spec, &good, &["--adapter", "99"], &["no adapter of index 99; found: "]);
    let files = Files::new(&spec, &good);
    let ran = run(&files.path("none.json"), &files.path("in.safetensors"), &files.path("out"), &[]);
    assert_eq!(ran.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&ran.stderr).contains("none.json"));
    let ran = run(&files.path("spec.json"), &files.path("spec.json"), &files.path("out"), &[]);
    assert_eq!(ran.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&ran.stderr).contains("not a safetensors file"));
    assert_eq!(tilewise(&["walk"]).status.code(), Some(2));
}

#[test]
fn a_merge_runs_on_both_backends() {
    let mut lses = tensor(Dtype::F32, &[3, 1, 2, 5], 4).to_f64();
    lses[3] = f64::NEG_INFINITY;
    let tensors = Tensors::from([
        ("outs".to_owned(), tensor(Dtype::F32, &[3, 1, 2, 5, 7], 5)),
        ("lses".to_owned(), HostTensor::from_f64(Dtype::F32, &[3, 1, 2, 5], &lses)),
    ]);
    let files = Files::new(r#"{"op": "attention_merge"}"#, &tensors);
    let mut results = Vec::new();
    for backend in ["gpu", "cpu"] {
        assert!(files.run(&["--backend", backend]).status.success());
        results.push(numbers(&files.path("out.safetensors")));
    }
    for name in ["out", "lse"] {
        crate::support::assert_near(name, &results[0][name], &results[1][name], 1e-6);
    }
}

#[test]
fn verify_runs_the_cases_that_are_named() {
    let ran = tilewise(&["verify", "--only", "merge/f32_*", "--json", "--seed", "3"]);
    assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));
    let report: Value = serde_json::from_slice(&ran.stdout).unwrap();
    assert_eq!(report["passed"], report["cases"]);
    assert!(report["groups"]["merge"]["cases"].as_u64().unwrap() >= 3, "{report}");
    assert_eq!(report["checked"], false);
    let table = tilewise(&["verify", "--only", "merge/one_part"]);
    assert!(String::from_utf8_lossy(&table.stdout).contains("1 of 1 cases are right"));
    let none = tilewise(&["verify", "--only", "no/such"]);
    assert_eq!(none.status.code(), Some(2));
}

#[test]
fn verify_runs_small_cases_with_checks_where_it_is_asked_to() {
    let ran = tilewise(&["verify", "--only", "merge/f32_64", "--checked", "--json"]);
    assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));
    let report: Value = serde_json::from_slice(&ran.stdout).unwrap();
    assert_eq!(
        (&report["checked"], &report["cases"], &report["passed"]),
        (&json!(true), &json!(2), &json!(2))
    );
    assert_eq!(report["groups"]["checked attention_merge"]["passed"], 1, "{report}");
    let none = tilewise(&["verify", "--only", "merge/one_part", "--checked"]);
    let error = String::from_utf8_lossy(&none.stderr).into_owned();
    assert_eq!(none.status.code(), Some(2));
    assert!(error.contains("--checked: none of its cases is named like merge/one_part"), "{error}");
}

#[test]
fn tunings_are_stored_told_exported_and_imported() {
    let folder = tempfile::tempdir().unwrap();
    let (cache, other) = (folder.path().join("cache"), folder.path().join("other"));
    let file = folder.path().join("tunings.json").display().to_string();
    let [cache, other] = [&cache, &other].map(|path| path.display().to_string());
    let spec = r#"{"op": "neighborhood", "window": [3], "batch": 1, "spatial": [40], "q_heads": 2, "head_dim": 8}"#;
    let tuned = tilewise_caching(
        &cache,
        &["tune", "gqa_odd_tails", spec, "--json", "--budget", "10", "--export", &file],
    );
    assert!(tuned.status.success(), "{}", String::from_utf8_lossy(&tuned.stderr));
    let report: Value = serde_json::from_slice(&tuned.stdout).unwrap();
    assert_eq!(report["results"].as_array().unwrap().len(), 2);
    assert!(report["results"][0]["heuristic_ratio"].as_f64().unwrap() >= 1.0);
    let from = |cache: &str, more: &[&str]| {
        let command = [&["bench", "gqa_odd_tails", "--json", "--runs", "1"], more].concat();
        let told = tilewise_caching(cache, &command);
        let report: Value = serde_json::from_slice(&told.stdout).unwrap();
        let figures = &report["results"][0];
        (figures["tiles_from"].as_str().unwrap().to_owned(), figures["tiles"].clone())
    };
    let best = report["results"][0]["tiles"].clone();
    assert_eq!(from(&cache, &[]), ("stored".to_owned(), best.clone()));
    assert_eq!(from(&other, &[]).0, "heuristic");
    assert_eq!(from(&cache, &["--tiles", &best.to_string()]).0, "forced");
    let imported = tilewise_caching(&other, &["tune", "--import", &file]);
    assert!(imported.status.success(), "{}", String::from_utf8_lossy(&imported.stderr));
    assert_eq!(from(&other, &[]), ("stored".to_owned(), best));
    let again = folder.path().join("again.json").display().to_string();
    assert!(tilewise_caching(&other, &["tune", "--export", &again]).status.success());
    let [first, second] = [&file, &again].map(|path| std::fs::read_to_string(path).unwrap());
    assert!(first == second, "{second}");
    std::fs::write(&file, "{}").unwrap();
    let refused = tilewise_caching(&other, &["tune", "--import", &file]);
    assert_eq!(refused.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&refused.stderr).contains("not tunings"));
    assert_eq!(tilewise(&["tune", "--import", &again]).status.code(), Some(2));
}

#[test]
fn bench_writes_a_report_compares_with_it_and_draws_it() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).display().to_string();
    let [old, page] = [path("old.json"), path("page.html")];
    let (problem, suite) = ("gqa_odd_tails", "hunyuan_video");
    let all = ["bench", problem, "--runs", "1", "--steps", "--output", &old, "--html", &page];
    let first = tilewise(&all);
    assert!(first.status.success(), "{}", String::from_utf8_lossy(&first.stderr));
    assert!(String::from_utf8_lossy(&first.stdout).contains("fused_forward"));
    let html = std::fs::read_to_string(&page).unwrap();
    assert!(html.contains("<svg") && html.contains(problem) && !html.contains("http"), "{html}");

    let compared = |old: &str| {
        let again = tilewise(&["bench", problem, "--json", "--runs", "1", "--compare", old]);
        let report: Value = serde_json::from_slice(&again.stdout).unwrap();
        (again.status.code(), report["comparison"].clone())
    };
    let mut report: Value = serde_json::from_str(&std::fs::read_to_string(&old).unwrap()).unwrap();
    let steps = report["results"][0]["steps"].as_array().unwrap();
    assert!(!steps.is_empty() && steps.iter().all(|step| step["ms"]["median_ms"].is_f64()));
    let mut changed = |factor: f64, driver: &str| {
        let figures = &mut report["results"][0];
        for clock in ["wall", "cpu", "device"] {
            if figures[clock].is_null() {
                continue;
            }
            let ms = factor * figures[clock]["median_ms"].as_f64().unwrap();
            figures[clock]["median_ms"] = ms.into();
            figures[clock]["quartiles_ms"] = json!([ms, ms]);
        }
        report["adapter"]["driver"] = driver.into();
        std::fs::write(path("changed.json"), report.to_string()).unwrap();
        compared(&path("changed.json"))
    };
    let driver = report_driver(&old);
    let (code, comparison) = changed(1e-3, &driver);
    assert_eq!((code, &comparison["rows"][0]["verdict"]), (Some(1), &json!("slower")));
    let (code, comparison) = changed(1e6, &driver);
    assert_eq!((code, &comparison["rows"][0]["verdict"]), (Some(0), &json!("faster")));
    let (code, comparison) = changed(1.0, "another");
    assert_eq!((code, &comparison["rows"][0]["verdict"]), (Some(0), &json!("another_device")));
    assert!(comparison["measured_on"].as_str().unwrap().contains("another"));

    let listed = String::from_utf8(tilewise(&["bench", "--list"]).stdout).unwrap();
    assert!(listed.contains(problem) && listed.contains(suite), "{listed}");
    assert_eq!(tilewise(&["bench", "no_such_thing"]).status.code(), Some(2));
    assert_eq!(tilewise(&["bench", problem, "--compare", &page]).status.code(), Some(2));
}

fn report_driver(path: &str) -> String {
    let report: Value = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
    report["adapter"]["driver"].as_str().unwrap().to_owned()
}
