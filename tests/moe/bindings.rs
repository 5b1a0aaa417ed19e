//! What is larger than a binding, or more tensors than a stage binds: cut along tokens or rows, packed, or refused.

use serde_json::{Value, json};
use tilewise::gpu::limits::GpuLimits;
use tilewise::matmul::MatmulTiles;
use tilewise::moe::MoeProblem;
use tilewise::operator::Operator;
use tilewise::tensor::{Dtype, HostTensor, TensorDesc};
use tilewise::{Engine, EngineOptions};

use crate::support::{
    Layer, Random, SMALL, Tensors, add_biases_and_a_shared_expert, check_with, f32s, i32s, problem,
    small_device, spec,
};

/// The largest binding and the number of steps.
fn sizes(problem: &MoeProblem, limits: &GpuLimits, tiles: MatmulTiles) -> (u64, usize) {
    let plan = problem.plan(limits, &tiles).unwrap();
    let sizes = plan.steps().iter().flat_map(|step| step.bindings()).map(|bound| bound.size);
    (sizes.max().unwrap(), plan.steps().len())
}

/// Runs what is larger than a binding of the engine's device.
fn check_cut(engine: &Engine, question: &Value, inputs: &Tensors) {
    let problem = problem(question, inputs);
    let tiles = problem.candidates(engine.limits()).unwrap()[0];
    let (largest, steps) = sizes(&problem, engine.limits(), tiles);
    let (uncut, least) = sizes(&problem, &GpuLimits::floor(), tiles);
    let available = engine.limits().storage_binding_bytes;
    assert!(largest <= available && uncut > available, "{largest}, {uncut} uncut");
    assert!(steps > least, "{steps} steps, {least} uncut");
    check_with(engine, question, inputs, &problem, None);
}

/// 400 tokens' rows of x, logits and hidden numbers are ten times as large as a binding.
#[test]
fn long_prefills_are_cut_along_their_tokens() {
    let engine = small_device(24 << 10);
    let layer = Layer { tokens: 400, model_dim: 36, experts: 12, expert_dim: 20 };
    let placed = json!([
        "out",
        "topk_ids",
        "counts",
        "dropped",
        "expert_offsets",
        "pair_rows",
        "row_tokens"
    ]);
    let losses = json!(["out", "router_logits", "gates", "load_balancing_loss", "z_loss"]);
    let capacity = json!({"rows": 40, "sequences": 2, "priority": "best_score"});
    for (dtype, name) in [(Dtype::F32, "f32"), (Dtype::F16, "f16")] {
        let mut inputs = layer.tensors(dtype, 1);
        for (name, shape) in [
            ("shared_w_gate", [24, 36]),
            ("shared_w_up", [24, 36]),
            ("shared_w_down", [36, 24]),
            ("shared_gate_w", [1, 36]),
        ] {
            let tensor = if name == "shared_gate_w" { Dtype::F32 } else { dtype };
            inputs.insert(name.to_owned(), Random(9).tensor(tensor, &shape, 0.3));
        }
        for question in [
            json!({"dtype": name, "top_k": 3, "outputs": placed}),
            json!({"dtype": name, "top_k": 3, "outputs": losses, "null_experts": {"zero": 1, "identity": 2}, "experts": 9, "expert_range": [0, 9]}),
            json!({"dtype": name, "top_k": 2, "outputs": placed, "capacity": capacity}),
        ] {
            let mut inputs = inputs.clone();
            if question.get("null_experts").is_some() {
                for name in ["w_gate", "w_up", "w_down"] {
                    let tensor = inputs.get_mut(name).unwrap();
                    let size = tensor.bytes.len() / 12;
                    tensor.bytes.truncate(9 * size);
                    tensor.shape[0] = 9;
                }
            }
            check_cut(&engine, &question, &inputs);
        }
    }
}

#[test]
fn every_router_s_tokens_are_cut() {
    let engine = small_device(32 << 10);
    let layer = Layer { tokens: 400, model_dim: 36, experts: 6, expert_dim: 20 };
    let mut inputs = layer.tensors(Dtype::F32, 1);
    let mask: Vec<f64> = (0..2400).map(|i| f64::from(u8::from(i % 7 != 3))).collect();
    inputs.insert("logit_mask".to_owned(), HostTensor::from_f64(Dtype::Bool, &[400, 6], &mask));
    let taken = json!({"router": {"expert_choice": {"capacity": 30}}, "outputs": ["out", "token_ids", "token_weights"]});
    check_cut(&engine, &taken, &inputs);
    inputs.remove("router_w");
    inputs.insert("phi".to_owned(), Random(3).tensor(Dtype::F32, &[6, 5, 36], 0.3));
    check_cut(&engine, &json!({"router": {"soft": {"slots": 5}}}), &inputs);
    check_cut(
        &engine,
        &json!({"router": {"soft": {"slots": 5}}, "outputs": ["out", "router_logits"]}),
        &inputs,
    );
    inputs.remove("phi");
    inputs.remove("logit_mask");
    let ids: Vec<i32> = (0..800).map(|pair| (pair * pair) % 8 - 1).collect();
    inputs.insert("topk_ids".to_owned(), i32s(&[400, 2], &ids));
    inputs.insert("topk_weights".to_owned(), Random(4).tensor(Dtype::F32, &[400, 2], 1.0));
    for weight_on in ["output", "input"] {
        check_cut(&engine, &json!({"router": "external", "weight_on": weight_on}), &inputs);
    }
}

#[test]
fn rounded_rows_of_long_prefills_are_cut() {
    let engine = small_device(32 << 10);
    let (tokens, dim, experts) = (300_u64, 64_u64, 4_u64);
    let weights = json!({"weights": "q8_0", "quantise_activations": "mxint8", "top_k": 2});
    let mut descs = tilewise::tensor::TensorDescs::new();
    for (name, dtype, shape) in [
        ("x", Dtype::F32, vec![tokens, dim]),
        ("router_w", Dtype::F32, vec![experts, dim]),
        ("w_gate", Dtype::U8, vec![experts, 64, 68]),
        ("w_up", Dtype::U8, vec![experts, 64, 68]),
        ("w_down", Dtype::U8, vec![experts, 64, 68]),
        ("shared_w_gate", Dtype::U8, vec![32, 68]),
        ("shared_w_up", Dtype::U8, vec![32, 68]),
        ("shared_w_down", Dtype::U8, vec![64, 34]),
    ] {
        descs.insert(name.to_owned(), TensorDesc::contiguous(dtype, &shape));
    }
    let inputs = MoeProblem::new(&spec(&weights), &descs).unwrap().sample(1);
    check_cut(&engine, &weights, &inputs);
}

/// A single expert's matrices are twice as large as a binding; so are the shared expert's.
#[test]
fn single_matrices_are_cut_along_their_rows() {
    for (dtype, name, bytes) in [(Dtype::F32, "f32", 40 << 10), (Dtype::Bf16, "bf16", 20 << 10)] {
        let engine = small_device(bytes);
        let layer = Layer { tokens: 9, model_dim: 130, experts: 3, expert_dim: 140 };
        let mut inputs = layer.tensors(dtype, 1);
        for (name, shape) in [
            ("shared_w_gate", [150, 130]),
            ("shared_w_up", [150, 130]),
            ("shared_w_down", [130, 150]),
        ] {
            inputs.insert(name.to_owned(), Random(9).tensor(dtype, &shape, 0.2));
        }
        for (name, columns) in [("b_gate", 140), ("b_up", 140), ("b_down", 130)] {
            inputs.insert(name.to_owned(), Random(8).tensor(Dtype::F32, &[3, columns], 0.5));
        }
        let question = json!({"dtype": name, "top_k": 2});
        let problem = problem(&question, &inputs);
        let mut ran = 0;
        for tiles in problem.candidates(engine.limits()).unwrap() {
            // Others have tiles of rows that are larger than a binding.
            if tiles.part_columns(1) > 64 {
                continue;
            }
            let (largest, steps) = sizes(&problem, engine.limits(), tiles);
            let (_, least) = sizes(&problem, &GpuLimits::floor(), tiles);
            assert!(largest <= bytes && steps > least + 6, "{largest}, {steps} steps");
            check_with(&engine, &question, &inputs, &problem, Some(tiles));
            ran += 1;
        }
        assert!(ran > 0);
    }
}

#[test]
fn what_no_cut_makes_fit_is_refused_with_both_numbers_and_the_way_out() {
    let inputs = SMALL.tensors(Dtype::F32, 1);
    let problem = problem(&json!({"top_k": 2}), &inputs);
    let limits = GpuLimits { storage_binding_bytes: 300, ..GpuLimits::floor() };
    let tiles = problem.candidates(&limits).unwrap()[0];
    let error = problem.plan(&limits, &tiles).unwrap_err().to_string();
    assert!(error.contains("300") && error.contains("max_storage_buffer_binding_size"), "{error}");
    assert!(error.contains("larger bindings"), "{error}");
}

#[test]
fn what_no_buffer_holds_is_refused_with_both_numbers_and_the_way_out() {
    let inputs = SMALL.tensors(Dtype::F32, 1);
    let problem = problem(&json!({"top_k": 2}), &inputs);
    let refused = |buffer_bytes| {
        let limits = GpuLimits { buffer_bytes, ..GpuLimits::floor() };
        let tiles = problem.candidates(&limits).unwrap()[0];
        problem.plan(&limits, &tiles).unwrap_err().to_string()
    };
    let error = refused(5000);
    assert!(error.contains("5760 bytes of one buffer") && error.contains("has 5000"), "{error}");
    assert!(error.contains("fewer experts a call make it smaller: expert_range"), "{error}");
    let error = refused(1000);
    assert!(error.contains("x (fewer tokens a call make it smaller)"), "{error}");
}

/// gpt-oss as its checkpoints hold it.
fn gpt_oss(weight_on: &str) -> (Value, Tensors) {
    let question = json!({
        "weights": "mxfp4", "top_k": 2, "weight_on": weight_on, "router": {"token_choice": {"score": "logit", "weight": "softmax"}},
        "activation": {"clamped_swiglu": {"alpha": 1.702, "limit": 7.0}}, "outputs": ["out", "counts"],
    });
    let mut descs = tilewise::tensor::TensorDescs::new();
    let floats = [
        ("x", vec![11, 64]),
        ("router_w", vec![5, 64]),
        ("router_b", vec![5]),
        ("b_gate", vec![5, 32]),
        ("b_up", vec![5, 32]),
        ("b_down", vec![5, 64]),
    ];
    for (name, shape) in floats {
        descs.insert(name.to_owned(), TensorDesc::contiguous(Dtype::F32, &shape));
    }
    for (name, shape) in [
        ("w_gate", vec![5, 32, 2, 16]),
        ("w_gate_scales", vec![5, 32, 2]),
        ("w_up", vec![5, 32, 2, 16]),
        ("w_up_scales", vec![5, 32, 2]),
        ("w_down", vec![5, 64, 1, 16]),
        ("w_down_scales", vec![5, 64, 1]),
    ] {
        descs.insert(name.to_owned(), TensorDesc::contiguous(Dtype::U8, &shape));
    }
    let inputs = MoeProblem::new(&spec(&question), &descs).unwrap().sample(1);
    (question, inputs)
}

#[test]
fn gpt_oss_as_its_checkpoint_lies_runs_with_eight_storage_buffers() {
    let engine = Engine::open(&EngineOptions { floor: true, ..EngineOptions::default() }).unwrap();
    assert_eq!(engine.limits().storage_buffers, 8);
    for weight_on in ["output", "input"] {
        let (question, inputs) = gpt_oss(weight_on);
        let problem = problem(&question, &inputs);
        for tiles in problem.candidates(engine.limits()).unwrap() {
            check_with(&engine, &question, &inputs, &problem, Some(tiles));
        }
    }
}

#[test]
fn experts_of_a_range_find_their_packed_biases() {
    let engine = Engine::open(&EngineOptions { floor: true, ..EngineOptions::default() }).unwrap();
    let (mut question, mut inputs) = gpt_oss("input");
    question["experts"] = json!(5);
    question["expert_range"] = json!([2, 4]);
    for (name, tensor) in &mut inputs {
        if name.starts_with("w_") || (name.starts_with("b_") && name != "router_b") {
            let size = tensor.bytes.len() / 5;
            tensor.bytes = tensor.bytes[2 * size..4 * size].to_vec();
            tensor.shape[0] = 2;
        }
    }
    let problem = problem(&question, &inputs);
    check_with(&engine, &question, &inputs, &problem, None);
}

#[test]
fn a_router_with_all_its_inputs_and_outputs_binds_eight_buffers() {
    let engine = Engine::open(&EngineOptions { floor: true, ..EngineOptions::default() }).unwrap();
    let mut inputs = SMALL.tensors(Dtype::F32, 3);
    add_biases_and_a_shared_expert(&mut inputs, 4);
    let mask: Vec<f64> = (0..126).map(|i| f64::from(u8::from(i % 5 != 0))).collect();
    inputs.insert("logit_mask".to_owned(), HostTensor::from_f64(Dtype::Bool, &[21, 6], &mask));
    let own: Vec<i32> = (0..21).map(|token| token % 4).collect();
    inputs.insert("token_top_k".to_owned(), i32s(&[21], &own));
    inputs.insert("correction_bias".to_owned(), f32s(&[6], &[0.1, 0.2, 0.0, -0.1, 0.3, 0.05]));
    let question = json!({
        "top_k": 3, "router": {"token_choice": {"score": "sigmoid"}}, "weight_on": "input",
        "outputs": ["out", "topk_ids", "topk_weights", "gates", "counts"],
    });
    let problem = problem(&question, &inputs);
    check_with(&engine, &question, &inputs, &problem, None);
}
