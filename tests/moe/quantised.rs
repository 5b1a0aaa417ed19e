//! Weights in blocks, as files hold them.

use std::mem::discriminant;

use serde_json::{Value, json};
use tilewise::matmul::MatmulTiles;
use tilewise::moe::MoeProblem;
use tilewise::operator::Operator;
use tilewise::tensor::{BlockFormat, Dtype, HostTensor, Layout, TensorDesc};

use crate::support::{
    Layer, Random, SMALL, Tensors, check_with, engine, f32s, problem, spec, try_problem,
};

const LAYER: Layer = Layer { tokens: 21, model_dim: 64, experts: 6, expert_dim: 96 };

/// Kernels read blocks of a range of experts, and slices of them, where those lie.
#[test]
fn a_range_of_experts_and_slices_of_them_read_their_own_blocks() {
    for (weights, pair) in [("mxfp4", true), ("mxfp4", false)] {
        let mut inputs = LAYER.tensors(Dtype::F32, 9);
        in_blocks(&mut inputs, weights, pair);
        let question =
            json!({"top_k": 2, "weights": weights, "experts": 6, "expert_range": [2, 5]});
        for (name, tensor) in &mut inputs {
            if name.starts_with("w_") {
                let expert = tensor.bytes.len() / 6;
                tensor.bytes = tensor.bytes[2 * expert..5 * expert].to_vec();
                tensor.shape[0] = 3;
            }
        }
        let problem = problem(&question, &inputs);
        check_with(engine(), &question, &inputs, &problem, None);
    }
}

fn block_format(weights: &str) -> BlockFormat {
    match weights {
        "q8_0" => BlockFormat::Q8_0,
        "q4_0" => BlockFormat::Q4_0,
        _ => BlockFormat::Mxfp4,
    }
}

/// The same weights in blocks; a `pair` as gpt-oss checkpoints hold them.
fn in_blocks(inputs: &mut Tensors, weights: &str, pair: bool) {
    let format = block_format(weights);
    let names: Vec<String> = inputs.keys().cloned().collect();
    for name in names.iter().filter(|name| name.contains("w_") && !name.starts_with("router")) {
        if name == "shared_gate_w" {
            continue;
        }
        let tensor = &inputs[name];
        let values: Vec<f32> = tensor.to_f64().iter().map(|value| *value as f32).collect();
        let (inner, outer) = tensor.shape.split_last().unwrap();
        let (blocks, outer) = (inner / 32, outer.to_vec());
        let bytes = format.quantise(&values).unwrap();
        let host = |shape: Vec<u64>, bytes| HostTensor { dtype: Dtype::U8, shape, bytes };
        if !pair {
            let shape = [&outer[..], &[blocks * format.bytes() as u64]].concat();
            inputs.insert(name.clone(), host(shape, bytes));
            continue;
        }
        let scales: Vec<u8> = bytes.chunks(17).map(|block| block[0]).collect();
        // Any nibbles are numbers: their order need not be that of the values.
        let nibbles: Vec<u8> = bytes.chunks(17).flat_map(|block| block[1..].to_vec()).collect();
        inputs.insert(name.clone(), host([&outer[..], &[blocks, 16]].concat(), nibbles));
        let scales = host([&outer[..], &[blocks]].concat(), scales);
        inputs.insert(format!("{name}_scales"), scales);
    }
}

fn with_shared_and_biases(layer: Layer, dtype: Dtype) -> Tensors {
    let mut inputs = layer.tensors(dtype, 5);
    let mut random = Random(6);
    let Layer { model_dim, experts, expert_dim, .. } = layer;
    for (name, shape) in [
        ("b_gate", vec![experts, expert_dim]),
        ("b_up", vec![experts, expert_dim]),
        ("b_down", vec![experts, model_dim]),
        ("shared_w_gate", vec![32, model_dim]),
        ("shared_w_up", vec![32, model_dim]),
        ("shared_w_down", vec![model_dim, 32]),
        ("shared_gate_w", vec![1, model_dim]),
    ] {
        inputs.insert(name.to_owned(), random.tensor(dtype, &shape, 0.2));
    }
    inputs
}

/// A tile set of each family: the sets of a family read weights by the same functions.
fn families(problem: &MoeProblem) -> Vec<MatmulTiles> {
    let mut families: Vec<MatmulTiles> = Vec::new();
    for tiles in problem.candidates(engine().limits()).unwrap() {
        if families.iter().all(|known| discriminant(known) != discriminant(&tiles)) {
            families.push(tiles);
        }
    }
    families
}

#[test]
fn every_format_is_right_with_every_family_of_tiles() {
    for (weights, pair) in [("q8_0", false), ("q4_0", false), ("mxfp4", false), ("mxfp4", true)] {
        let mut inputs = with_shared_and_biases(LAYER, Dtype::F32);
        in_blocks(&mut inputs, weights, pair);
        for activations in [None, Some("mxint8")] {
            let question =
                json!({"top_k": 2, "weights": weights, "quantise_activations": activations});
            let problem = problem(&question, &inputs);
            for tiles in families(&problem) {
                check_with(engine(), &question, &inputs, &problem, Some(tiles));
            }
        }
    }
}

/// Rounded tokens and hidden rows: weights on inputs, slots of a soft router beside a shared expert, a range of experts.
#[test]
fn rounded_activations_go_wherever_rows_do() {
    for (dtype, other) in [
        (Dtype::F16, json!({"top_k": 2, "weight_on": "input"})),
        (Dtype::F32, json!({"router": {"soft": {"slots": 3}}})),
        (Dtype::Bf16, json!({"router": {"expert_choice": {"capacity": 5}}})),
    ] {
        let mut inputs = with_shared_and_biases(LAYER, dtype);
        if other["router"].get("soft").is_some() {
            let router = inputs.remove("router_w").unwrap().to_f64();
            let phi: Vec<f64> = router.iter().cycle().take(6 * 3 * 64).copied().collect();
            inputs.insert("phi".to_owned(), HostTensor::from_f64(dtype, &[6, 3, 64], &phi));
        }
        in_blocks(&mut inputs, "q4_0", false);
        let mut question =
            json!({"dtype": dtype, "weights": "q4_0", "quantise_activations": "mxint8"});
        for (name, value) in other.as_object().unwrap() {
            question[name] = value.clone();
        }
        let problem = problem(&question, &inputs);
        for tiles in families(&problem) {
            check_with(engine(), &question, &inputs, &problem, Some(tiles));
        }
    }
}

#[test]
fn blocks_go_with_every_type_of_x_and_with_few_tokens() {
    for (dtype, weights) in [(Dtype::F16, "q4_0"), (Dtype::Bf16, "mxfp4"), (Dtype::F16, "q8_0")] {
        for tokens in [1, 3] {
            let mut inputs = Layer { tokens, ..LAYER }.tensors(dtype, 7);
            inputs.remove("w_gate");
            in_blocks(&mut inputs, weights, false);
            let question =
                json!({"top_k": 3, "weights": weights, "dtype": dtype, "activation": "relu2"});
            let problem = problem(&question, &inputs);
            check_with(engine(), &question, &inputs, &problem, None);
        }
    }
}

/// gpt-oss holds gate and up as even and odd rows of one tensor.
#[test]
fn gate_and_up_may_be_interleaved_rows_of_one_checkpoint_tensor() {
    let [experts, dim, inner] = [LAYER.experts, LAYER.model_dim, LAYER.expert_dim];
    let mut inputs = LAYER.tensors(Dtype::F32, 8);
    in_blocks(&mut inputs, "mxfp4", true);
    let question = json!({"top_k": 2, "weights": "mxfp4"});
    let split = problem(&question, &inputs);
    let mut whole = inputs.clone();
    let mut descs = split.descs().clone();
    for (suffix, row) in [("", dim / 2), ("_scales", dim / 32)] {
        let rows = |name: &str| inputs[&format!("{name}{suffix}")].bytes.chunks(row as usize);
        let bytes: Vec<u8> =
            rows("w_gate").zip(rows("w_up")).flat_map(|(gate, up)| [gate, up].concat()).collect();
        for (index, name) in ["w_gate", "w_up"].into_iter().enumerate() {
            let name = format!("{name}{suffix}");
            let desc = &split.descs()[&name];
            let mut strides = desc.layout.strides().to_vec();
            strides[..2].copy_from_slice(&[2 * inner * row, 2 * row]);
            let layout = Layout::new(desc.shape(), &strides, index as u64 * row).unwrap();
            descs.insert(name.clone(), TensorDesc { dtype: Dtype::U8, layout });
            let shape = vec![experts * 2 * inner * row];
            whole.insert(name, HostTensor { dtype: Dtype::U8, shape, bytes: bytes.clone() });
        }
    }
    let strided = MoeProblem::new(&spec(&question), &descs).unwrap();
    for tiles in families(&strided) {
        let got = engine().run(&strided, Some(tiles), &whole).unwrap();
        let want = engine().run(&split, Some(tiles), &inputs).unwrap();
        assert_eq!(got, want, "{tiles}");
    }
}

#[test]
fn what_does_not_fit_blocks_is_named() {
    let error =
        |question: Value, inputs: &Tensors| try_problem(&question, inputs).unwrap_err().to_string();
    let mut inputs = LAYER.tensors(Dtype::F32, 1);
    assert_eq!(
        error(json!({"top_k": 2, "weights": "q4_0"}), &inputs),
        "w_up: expected shape [6, 96, 36], got [6, 96, 64]"
    );
    in_blocks(&mut inputs, "q8_0", false);
    assert_eq!(
        error(json!({"top_k": 2}), &inputs),
        "w_up: expected shape [6, 96, 64], got [6, 96, 68]"
    );
    assert!(error(json!({"top_k": 2, "weights": "mxfp4"}), &inputs).contains("[6, 96, 34]"));
    let question = json!({"top_k": 2, "weights": "q8_0"});
    let dim = inputs["w_down"].shape[1];
    inputs.insert("w_down".to_owned(), f32s(&[6, dim, 102], &vec![0.0; 6 * 64 * 102]));
    assert_eq!(error(question, &inputs), "w_down: expected dtype u8, got f32");
    let floats = LAYER.tensors(Dtype::F32, 1);
    assert_eq!(
        error(json!({"top_k": 2, "quantise_activations": "mxint8"}), &floats),
        "quantise_activations: expected none (f32 weights are not in blocks), got mxint8"
    );
    let small = SMALL.tensors(Dtype::F32, 1);
    assert_eq!(
        error(json!({"top_k": 2, "weights": "q4_0"}), &small),
        "model_dim: expected a multiple of 32 (q4_0 weights come in blocks of as many), got 20"
    );
    let mut pair = LAYER.tensors(Dtype::F32, 1);
    in_blocks(&mut pair, "mxfp4", true);
    pair.remove("w_down_scales");
    let got = error(json!({"top_k": 2, "weights": "mxfp4"}), &pair);
    assert_eq!(got, "w_down: expected shape [6, 64, 51], got [6, 64, 3, 16]");
}

#[test]
fn blocks_at_bytes_that_kernels_cannot_read_are_refused() {
    let mut inputs = LAYER.tensors(Dtype::F32, 1);
    in_blocks(&mut inputs, "q4_0", false);
    let question = spec(&json!({"top_k": 2, "weights": "q4_0"}));
    let mut descs = problem(&json!({"top_k": 2, "weights": "q4_0"}), &inputs).descs().clone();
    let w_up = descs.get_mut("w_up").unwrap();
    w_up.layout = Layout::new(w_up.shape(), w_up.layout.strides(), 1).unwrap();
    let error = MoeProblem::new(&question, &descs).unwrap_err().to_string();
    assert!(
        error.starts_with("w_up: expected offset and strides of multiples of 2 bytes"),
        "{error}"
    );
}
