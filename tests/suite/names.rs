//! Names of tensors: each is one that the spec asks for, and given once.

use std::path::Path;
use std::process::{Command, Output};

use serde_json::json;
use tilewise::attention::AttentionSpec;
use tilewise::operator::Operator;
use tilewise::tensor::{Dtype, TensorFileError, TensorView, parse_safetensors, write_safetensors};
use tilewise::{Error, SpecError};

use crate::support::{Tensors, engine, inputs, problem, tensor};

/// What the door says of a call of attention with one more tensor.
fn refusal_of(spec: &AttentionSpec, name: &str) -> String {
    let tensors = inputs([1, 2, 1, 3, 4, 8]);
    let upload = |(name, tensor): (&String, _)| engine().upload(name, tensor).unwrap();
    let buffers: Vec<_> = tensors.iter().map(upload).collect();
    let out = engine().upload("out", &tensors["q"]).unwrap();
    let view = |(name, buffer)| {
        let shape = &tensors[name].shape;
        (String::as_str(name), TensorView::contiguous(buffer, Dtype::F32, shape))
    };
    let mut views: Vec<_> = tensors.keys().zip(&buffers).map(view).collect();
    views.push(("out", TensorView::contiguous(&out, Dtype::F32, &tensors["q"].shape)));
    engine().submit(spec, &views).unwrap();
    views.push((name, views[0].1.clone()));
    match engine().submit(spec, &views) {
        Err(Error::Spec(error)) => error.to_string(),
        other => panic!("{name}: {other:?}"),
    }
}

#[test]
fn a_tensor_that_the_spec_does_not_ask_for_is_an_error_that_names_the_nearest() {
    let spec = AttentionSpec::default();
    for (name, nearest) in
        [("kv_len", "kv_lens"), ("Bias", "bias"), ("alibi_slope", "alibi_slopes")]
    {
        let expected =
            format!("tensor {name} is not known; the nearest name that is known is {nearest}");
        assert_eq!(refusal_of(&spec, name), expected);
    }
    assert_eq!(refusal_of(&spec, "lse"), "tensor lse is not asked for by this spec");
    assert_eq!(refusal_of(&spec, "k"), "k: expected one tensor of this name, got several");
}

#[test]
fn the_names_that_a_spec_gives_are_known_too() {
    let given = json!({"score": [{"bias": "relative_positions"}]});
    let mut tensors = inputs([1, 2, 1, 3, 4, 8]);
    tensors.insert("relative_positions".to_owned(), tensor(Dtype::F32, &[1, 1, 3, 4], 5));
    let asked = problem(&given, &tensors);
    tensors.insert("relative_position".to_owned(), tensor(Dtype::F32, &[1, 1, 3, 4], 5));
    let error = engine().run(&asked, None, &tensors).unwrap_err();
    let expected = SpecError::UnknownTensor {
        name: "relative_position".to_owned(),
        nearest: "relative_positions".to_owned(),
    };
    assert_eq!(error, Error::Spec(expected));
}

#[test]
fn a_prepared_call_takes_no_other_buffers() {
    let tensors = inputs([1, 2, 1, 3, 4, 8]);
    let prepared = engine().prepare(&problem(&json!({}), &tensors), None).unwrap();
    let buffer = engine().upload("any", &tensors["q"]).unwrap();
    let record = |names: &[&'static str]| {
        let bound: Vec<_> = names.iter().map(|name| (*name, &buffer)).collect();
        let mut encoder =
            engine().device().create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
        prepared.record(&mut encoder, &bound).unwrap_err().to_string()
    };
    let error = record(&["q", "k", "v", "out", "kv_len"]);
    assert!(error.ends_with("the nearest name that is known is kv_lens"), "{error}");
    let error = record(&["q", "k", "v", "out", "q"]);
    assert_eq!(error, "q: expected one tensor of this name, got several");
}

/// Every tensor of every case by a name that its operator knows or its spec gives.
#[test]
fn operators_know_the_names_of_the_contract() {
    for case in tilewise::verify::cases() {
        let problem = case.problem().unwrap();
        let spec = case.spec.to_string();
        let (names, known) = match &problem {
            tilewise::any::AnyProblem::Attention(it) => (names(&**it), it.known_names()),
            tilewise::any::AnyProblem::Neighborhood(it) => (names(&**it), it.known_names()),
            tilewise::any::AnyProblem::Moe(it) => (names(&**it), it.known_names()),
            tilewise::any::AnyProblem::Matmul(it) => (names(&**it), it.known_names()),
            // Their problems have all that they know.
            _ => continue,
        };
        for name in names {
            let given = spec.contains(&format!("\"{name}\""));
            assert!(known.contains(&name.as_str()) || given, "{}: {name}", case.name);
        }
    }
}

fn names<O: Operator>(problem: &O) -> Vec<String> {
    problem.tensors().into_iter().map(|(name, _)| name.to_owned()).collect()
}

fn run(folder: &Path, more: &[&str]) -> Output {
    let path = |name: &str| folder.join(name).display().to_string();
    Command::new(env!("CARGO_BIN_EXE_tilewise"))
        .env("TILEWISE_CACHE", "")
        .args(["run", r#"{"op": "attention"}"#, "--backend", "cpu"])
        .args(["--input", &path("in"), "--output", &path("out")])
        .args(more)
        .output()
        .unwrap()
}

#[test]
fn a_file_that_holds_more_is_refused_unless_others_are_ignored() {
    let folder = tempfile::tempdir().unwrap();
    let mut tensors = inputs([1, 2, 1, 3, 4, 8]);
    tensors.insert("kv_len".to_owned(), tensor(Dtype::I32, &[1], 4));
    write_safetensors(&folder.path().join("in"), &tensors).unwrap();
    let refused = run(folder.path(), &[]);
    let error = String::from_utf8_lossy(&refused.stderr);
    assert_eq!(refused.status.code(), Some(2), "{error}");
    assert!(error.contains("kv_len ") && error.contains("kv_lens"), "{error}");
    assert!(!folder.path().join("out").exists());
    let taken = run(folder.path(), &["--ignore-other-tensors"]);
    assert!(taken.status.success(), "{}", String::from_utf8_lossy(&taken.stderr));
}

#[test]
fn a_file_of_a_training_step_serves_the_forward_pass_too_which_says_what_it_does_not_read() {
    let folder = tempfile::tempdir().unwrap();
    let mut tensors = inputs([1, 2, 1, 3, 4, 8]);
    tensors.insert("dout".to_owned(), tensors["q"].clone());
    write_safetensors(&folder.path().join("in"), &tensors).unwrap();
    let taken = run(folder.path(), &[]);
    let said = String::from_utf8_lossy(&taken.stderr);
    assert!(taken.status.success() && said.contains("dout is not read"), "{said}");
}

#[test]
fn what_the_device_cannot_take_and_what_cannot_be_written_end_with_1() {
    let cannot = r#"{"op": "attention", "batch": 1, "q_heads": 1, "kv_heads": 1, "seq_len_q": 4,
        "seq_len_kv": 4000000, "head_dim": 64, "outputs": ["out", "lse"],
        "mask": {"dense": "keep"}}"#;
    let program = |arguments: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_tilewise"));
        command.env("TILEWISE_CACHE", "").args(arguments).output().unwrap()
    };
    let ran = program(&["explain", cannot, "--floor"]);
    let error = String::from_utf8_lossy(&ran.stderr);
    assert_eq!(ran.status.code(), Some(1), "{error}");
    assert!(error.contains("max_buffer_size"), "{error}");
    let folder = tempfile::tempdir().unwrap();
    write_safetensors(&folder.path().join("in"), &inputs([1, 2, 1, 3, 4, 8])).unwrap();
    std::fs::create_dir(folder.path().join("out")).unwrap();
    assert_eq!(run(folder.path(), &[]).status.code(), Some(1));
}

/// A safetensors file of two tensors of one element, whose names are these.
fn file_of(names: [&str; 2]) -> Result<Tensors, TensorFileError> {
    let tensor = |name: &str, first: u32| {
        format!(r#""{name}":{{"dtype":"F32","shape":[1],"data_offsets":[{first},{}]}}"#, first + 4)
    };
    let header = format!("{{{},{}}}", tensor(names[0], 0), tensor(names[1], 4));
    let length = (header.len() as u64).to_le_bytes();
    parse_safetensors("file", &[&length, header.as_bytes(), &[0; 8]].concat())
}

#[test]
fn a_name_that_is_twice_in_a_file_is_an_error() {
    assert_eq!(file_of(["a", "b"]).unwrap().len(), 2);
    let error = file_of(["a", "a"]).unwrap_err().to_string();
    assert_eq!(error, "file: tensor a is there several times");
}
