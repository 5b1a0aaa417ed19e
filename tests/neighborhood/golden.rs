//! Results of other software (NATTEN 0.21.7 in float64), each in `golden/NAME`.

use std::path::Path;

use safetensors::SafeTensors;
use tilewise::neighborhood::NeighborhoodSpec;
use tilewise::tensor::read_safetensors;

use crate::harness::{engine, numbers, problem};

fn check(name: &str) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/neighborhood/golden").join(name);
    let json = |file: &str| -> serde_json::Value {
        serde_json::from_str(&std::fs::read_to_string(folder.join(file)).unwrap()).unwrap()
    };
    let mut spec = json("spec.json");
    spec.as_object_mut().unwrap().remove("op");
    let spec: NeighborhoodSpec = serde_json::from_value(spec).unwrap();
    let bounds = json("case.json");
    let inputs = read_safetensors(&folder.join("inputs.safetensors")).unwrap();
    let got = numbers(engine().run(&problem(&spec, &inputs), None, &inputs).unwrap());
    let raw = std::fs::read(folder.join("expected.safetensors")).unwrap();
    for (tensor, view) in SafeTensors::deserialize(&raw).unwrap().tensors() {
        let Some(got) = got.get(&tensor) else { continue };
        let bound = bounds["bound"][&tensor].as_f64().unwrap();
        let words = view.data().chunks_exact(8).map(|word| word.try_into().unwrap());
        let expected: Vec<f64> = words.map(f64::from_le_bytes).collect();
        assert_eq!(got.len(), expected.len(), "{name} {tensor}");
        for (index, (got, expected)) in got.iter().zip(&expected).enumerate() {
            let error = (got - expected).abs();
            assert!(error <= bound, "{name} {tensor}[{index}]: got {got}, expected {expected}");
        }
    }
}

#[test]
fn causal_pair() {
    check("na1d_min_l3_k2_d1_causal");
}

#[test]
fn even_windows_on_an_image() {
    check("na2d_even_6x8_k2x4");
}

#[test]
fn odd_windows_on_a_volume() {
    check("na3d_odd_4x5x6_k3");
}
