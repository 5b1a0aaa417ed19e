//! What other software computed, on the GPU and on the CPU.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use safetensors::SafeTensors;
use serde_json::Value;
use tilewise::attention::{MergeProblem, MergeSpec, QueryStorage, merge_reference, reference};
use tilewise::tensor::read_safetensors;

use crate::support::{Tensors, engine, problem, repository};

pub fn folders() -> Vec<PathBuf> {
    let entries = std::fs::read_dir(repository("tests/suite/golden")).unwrap();
    let mut folders: Vec<PathBuf> =
        entries.map(|entry| entry.unwrap().path()).filter(|path| path.is_dir()).collect();
    folders.sort();
    assert!(folders.len() >= 6);
    folders
}

fn json(path: &Path) -> Value {
    serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

/// Holds outputs by name against what the folder expects; says what is wrong.
pub fn compare(folder: &Path, got: &BTreeMap<String, Vec<f64>>) -> Result<(), String> {
    let case = json(&folder.join("case.json"));
    let raw = std::fs::read(folder.join("expected.safetensors")).unwrap();
    let expected = SafeTensors::deserialize(&raw).unwrap();
    for (name, got) in got {
        let bound = case["bound"][name].as_f64().unwrap();
        let expected: Vec<f64> = expected
            .tensor(name)
            .unwrap()
            .data()
            .chunks_exact(8)
            .map(|bytes| f64::from_le_bytes(bytes.try_into().unwrap()))
            .collect();
        if expected.len() != got.len() {
            return Err(format!("{name}: {} elements, expected {}", got.len(), expected.len()));
        }
        for (index, (got, expected)) in got.iter().zip(&expected).enumerate() {
            let right = expected.is_nan() || got == expected || (got - expected).abs() <= bound;
            if !right {
                return Err(format!(
                    "{}: {name}[{index}]: got {got:e}, expected {expected:e} within {bound:e}",
                    folder.display()
                ));
            }
        }
    }
    Ok(())
}

/// The spec without the operator's name, and whether it is a merge.
fn spec(folder: &Path) -> (Value, bool) {
    let mut spec = json(&folder.join("spec.json"));
    let op = spec.as_object_mut().unwrap().remove("op").unwrap();
    (spec, op == "attention_merge")
}

fn merge_problem(spec: Value, inputs: &Tensors) -> MergeProblem {
    let spec: MergeSpec = serde_json::from_value(spec).unwrap();
    let descs = inputs.iter().map(|(name, tensor)| (name.clone(), tensor.desc())).collect();
    MergeProblem::new(&spec, &descs).unwrap()
}

#[test]
fn the_gpu_agrees_with_other_software() {
    for folder in folders() {
        let inputs = read_safetensors(&folder.join("inputs.safetensors")).unwrap();
        let outputs = match spec(&folder) {
            (spec, true) => engine().run(&merge_problem(spec, &inputs), None, &inputs),
            (spec, false) => engine().run(&problem(&spec, &inputs), None, &inputs),
        };
        let outputs = outputs.unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
        let outputs = outputs.into_iter().map(|(name, tensor)| (name, tensor.to_f64())).collect();
        compare(&folder, &outputs).unwrap_or_else(|text| panic!("{text}"));
    }
}

#[test]
fn the_cpu_reference_agrees_with_other_software() {
    for folder in folders() {
        let inputs = read_safetensors(&folder.join("inputs.safetensors")).unwrap();
        let result = match spec(&folder) {
            (spec, true) => {
                let problem = merge_problem(spec, &inputs);
                let shape: Vec<usize> =
                    problem.descs()["outs"].shape().iter().map(|extent| *extent as usize).collect();
                let rows = shape[1] * shape[2] * shape[3];
                let (outs, lses) = (inputs["outs"].to_f64(), inputs["lses"].to_f64());
                merge_reference(&outs, &lses, shape[0], rows, shape[4]).unwrap()
            }
            (spec, false) => {
                let problem = problem(&spec, &inputs);
                let mut result = reference(&problem, &inputs).unwrap();
                if problem.storage().queries == QueryStorage::Packed {
                    let e = problem.extents();
                    let [heads, tokens, dim] =
                        [e.q_heads, e.seq_len_q, e.value_dim].map(|extent| extent as usize);
                    let row = |row: usize| (row % heads * tokens + row / heads) * dim;
                    let rows = (0..heads * tokens).flat_map(|at| &result.out[row(at)..][..dim]);
                    result.out = rows.copied().collect();
                }
                result
            }
        };
        let outputs =
            BTreeMap::from([("out".to_owned(), result.out), ("lse".to_owned(), result.lse)]);
        compare(&folder, &outputs).unwrap_or_else(|text| panic!("{text}"));
    }
}

#[test]
fn a_value_beyond_its_bound_is_wrong() {
    let folder = folders().into_iter().find(|path| path.ends_with("attn_basic_l1_d64")).unwrap();
    let raw = std::fs::read(folder.join("expected.safetensors")).unwrap();
    let count = SafeTensors::deserialize(&raw).unwrap().tensor("out").unwrap().data().len() / 8;
    let error =
        compare(&folder, &BTreeMap::from([("out".to_owned(), vec![0.0; count])])).unwrap_err();
    assert!(error.contains("out[0]: got 0e0, expected"), "{error}");
}
