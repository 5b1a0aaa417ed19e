//! What other software computed, on the GPU and on the CPU.

use std::collections::BTreeMap;

use safetensors::SafeTensors;
use serde_json::Value;
use tilewise::moe::reference;
use tilewise::tensor::read_safetensors;

use crate::support::{problem, repository, run};

const CASES: [&str; 5] = [
    "moe_mixtral_t20_topk_all",
    "moe_switch_t40_roomy",
    "moe_soft_t49_e8_s1",
    "moe_capacity_choice_order",
    "moe_capacity_best_score",
];

/// The other software lists a token's experts by id, we the best first.
fn sort_by_id(got: &mut BTreeMap<String, Vec<f64>>, top_k: usize) {
    let (Some(mut ids), Some(mut weights)) = (got.remove("topk_ids"), got.remove("topk_weights"))
    else {
        return;
    };
    for (ids, weights) in ids.chunks_mut(top_k).zip(weights.chunks_mut(top_k)) {
        let mut pairs: Vec<(f64, f64)> = ids.iter().copied().zip(weights.iter().copied()).collect();
        pairs.sort_by(|a, b| a.0.total_cmp(&b.0));
        for (slot, (id, weight)) in pairs.into_iter().enumerate() {
            (ids[slot], weights[slot]) = (id, weight);
        }
    }
    got.insert("topk_ids".to_owned(), ids);
    got.insert("topk_weights".to_owned(), weights);
}

fn compare(case: &str, mut got: BTreeMap<String, Vec<f64>>, top_k: usize) {
    sort_by_id(&mut got, top_k);
    let folder = repository("tests/moe/golden").join(case);
    let bounds = json(case, "case.json");
    let raw = std::fs::read(folder.join("expected.safetensors")).unwrap();
    let expected = SafeTensors::deserialize(&raw).unwrap();
    for (name, got) in &got {
        let expected = expected.tensor(name).unwrap();
        let bytes = expected.data();
        // Numbers are f64; ids and counts are i32 and exact.
        let expected: Vec<f64> = match expected.dtype() {
            safetensors::Dtype::F64 => {
                bytes.chunks_exact(8).map(|b| f64::from_le_bytes(b.try_into().unwrap())).collect()
            }
            _ => {
                let number = |b: &[u8]| f64::from(i32::from_le_bytes(b.try_into().unwrap()));
                bytes.chunks_exact(4).map(number).collect()
            }
        };
        let bound = bounds["bound"][name].as_f64().unwrap_or(0.0);
        assert_eq!(got.len(), expected.len(), "{case}: {name}");
        for (index, (got, want)) in got.iter().zip(&expected).enumerate() {
            let error = (got - want).abs();
            assert!(error <= bound, "{case}: {name}[{index}]: {got}, expected {want} ± {bound}");
        }
    }
}

fn json(case: &str, file: &str) -> Value {
    let path = repository("tests/moe/golden").join(case).join(file);
    serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

#[test]
fn the_gpu_and_the_reference_agree_with_other_software() {
    for case in CASES {
        let folder = repository("tests/moe/golden").join(case);
        let inputs = read_safetensors(&folder.join("inputs.safetensors")).unwrap();
        let mut spec = json(case, "spec.json");
        spec.as_object_mut().unwrap().remove("op");
        let top_k = spec["top_k"].as_u64().unwrap_or(1) as usize;
        compare(case, run(&spec, &inputs), top_k);
        let outputs = reference(&problem(&spec, &inputs), &inputs).unwrap().outputs;
        let outputs = outputs.into_iter().map(|(name, values)| (name.to_owned(), values));
        compare(case, outputs.collect(), top_k);
    }
}
