//! What holds whatever the numbers are.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use tilewise::gpu::limits::GpuLimits;
use tilewise::operator::Operator;
use tilewise::tensor::{Dtype, HostTensor, Layout, TensorDesc};
use tilewise::{Engine, EngineOptions};

use crate::support::{
    Layer, Random, SMALL, Tensors, check, check_with, engine, f32s, i32s, problem, run, spec,
};

const ALL: &str =
    r#"["out", "topk_ids", "topk_weights", "counts", "dropped", "load_balancing_loss", "z_loss"]"#;

fn all() -> Value {
    serde_json::from_str(ALL).unwrap()
}

fn bits(values: &[f64]) -> Vec<u64> {
    values.iter().map(|value| value.to_bits()).collect()
}

#[test]
fn no_token_and_one_token_work() {
    for tokens in [0, 1] {
        let layer = Layer { tokens, ..SMALL };
        let inputs = layer.tensors(Dtype::F32, 1);
        check(&json!({"top_k": 2, "outputs": all()}), &inputs);
        let capacity = json!({"rows": 1, "sequences": 1, "priority": "score"});
        check(&json!({"top_k": 2, "outputs": all(), "capacity": capacity}), &inputs);
        no_token_of_other_routers(inputs, tokens);
    }
}

fn no_token_of_other_routers(mut inputs: Tensors, tokens: u64) {
    let choice = json!({"expert_choice": {"capacity": tokens}});
    check(&json!({"router": choice, "outputs": ["out", "token_ids", "token_weights"]}), &inputs);
    let rows = ["out", "counts", "expert_offsets", "row_tokens", "pair_rows"];
    check(&json!({"top_k": 2, "outputs": rows, "experts": 6, "expert_range": [0, 6]}), &inputs);
    for (name, shape) in
        [("shared_w_gate", [10, 20]), ("shared_w_up", [10, 20]), ("shared_w_down", [20, 10])]
    {
        inputs.insert(name.to_owned(), Random(2).tensor(Dtype::F32, &shape, 0.5));
    }
    check(&json!({"top_k": 2, "outputs": rows}), &inputs);
    inputs.insert("topk_ids".to_owned(), i32s(&[tokens, 2], &vec![3; 2 * tokens as usize]));
    let weights = vec![0.5; 2 * tokens as usize];
    inputs.insert("topk_weights".to_owned(), f32s(&[tokens, 2], &weights));
    check(&json!({"router": "external", "outputs": rows}), &inputs);
    inputs.insert("phi".to_owned(), Random(3).tensor(Dtype::F32, &[6, 3, 20], 0.6));
    check(&json!({"router": {"soft": {"slots": 3}}}), &inputs);
}

#[test]
fn ties_go_to_the_lower_index() {
    let mut inputs = SMALL.tensors(Dtype::F32, 2);
    inputs.insert("router_w".to_owned(), f32s(&[6, 20], &[0.0; 120]));
    let ids = &run(&json!({"top_k": 3, "outputs": ["topk_ids"]}), &inputs)["topk_ids"];
    assert!(ids.chunks(3).all(|row| row == [0.0, 1.0, 2.0]), "{ids:?}");
}

/// Equal logits everywhere: the first group, the first tokens.
#[test]
fn ties_of_groups_and_of_capacities_go_to_the_first() {
    let mut inputs = SMALL.tensors(Dtype::F32, 2);
    inputs.insert("router_w".to_owned(), f32s(&[6, 20], &[0.0; 120]));
    let groups = json!({"count": 3, "keep": 1, "by": "top2_sum"});
    let question = json!({
        "top_k": 2, "router": {"token_choice": {"score": "sigmoid", "groups": groups}},
        "capacity": {"rows": 4, "priority": "score"}, "outputs": ["topk_ids", "pair_rows"],
    });
    let got = run(&question, &inputs);
    assert!(got["topk_ids"].chunks(2).all(|row| row == [0.0, 1.0]));
    let kept = got["pair_rows"].iter().map(|row| *row >= 0.0);
    assert!(kept.enumerate().all(|(pair, kept)| kept == (pair < 8)));
    let question = json!({"router": {"expert_choice": {"capacity": 5}}, "outputs": ["token_ids"]});
    let ids = &run(&question, &inputs)["token_ids"];
    assert!(ids.chunks(5).all(|row| row == [0.0, 1.0, 2.0, 3.0, 4.0]), "{ids:?}");
}

#[test]
fn all_tokens_may_go_to_one_expert_and_some_get_none() {
    let mut inputs = Layer { tokens: 300, ..SMALL }.tensors(Dtype::F32, 3);
    inputs.remove("router_w");
    let logits: Vec<f64> =
        (0..1800).map(|i| if i % 6 == 4 { 9.0 } else { f64::from(i % 3) }).collect();
    inputs.insert("router_logits".to_owned(), f32s(&[300, 6], &logits));
    let question = json!({"top_k": 1, "outputs": ["out", "counts"]});
    check(&question, &inputs);
    assert_eq!(run(&question, &inputs)["counts"], [0.0, 0.0, 0.0, 0.0, 300.0, 0.0]);
}

#[test]
fn equal_gates_over_all_experts_are_the_dense_mean() {
    let mut inputs = SMALL.tensors(Dtype::F32, 4);
    let ids: Vec<i32> = (0..126).map(|pair| pair % 6).collect();
    inputs.insert("topk_ids".to_owned(), i32s(&[21, 6], &ids));
    inputs.insert("topk_weights".to_owned(), f32s(&[21, 6], &[1.0 / 6.0; 126]));
    let mean = run(&json!({"router": "external"}), &inputs);
    let mut sum = vec![0.0; 420];
    for expert in 0..6 {
        inputs.insert("topk_ids".to_owned(), i32s(&[21, 1], &[expert; 21]));
        inputs.insert("topk_weights".to_owned(), f32s(&[21, 1], &[1.0; 21]));
        let one = run(&json!({"router": "external"}), &inputs);
        sum.iter_mut().zip(&one["out"]).for_each(|(sum, value)| *sum += value / 6.0);
    }
    let worst = sum.iter().zip(&mean["out"]).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
    assert!(worst < 1e-6, "{worst}");
}

#[test]
fn to_the_experts_and_back_is_the_identity_to_the_bit() {
    // Experts that give back what they take: identities around a relu, and positive tokens.
    let (tokens, dim, experts) = (270, 12, 7);
    let identity: Vec<f64> = (0..experts * dim * dim)
        .map(|i| f64::from(u8::from(i % (dim * dim) % (dim + 1) == 0)))
        .collect();
    let mut random = Random(6);
    let x: Vec<f64> = (0..tokens * dim).map(|_| f64::from(random.number().abs() as f32)).collect();
    let ids: Vec<i32> = (0..tokens).map(|_| (random.number().abs() * 7.0) as i32 % 7).collect();
    let shape = [experts, dim, dim];
    let inputs: Tensors = [
        ("x", f32s(&[tokens, dim], &x)),
        ("w_up", f32s(&shape, &identity)),
        ("w_down", f32s(&shape, &identity)),
        ("topk_ids", i32s(&[tokens, 1], &ids)),
        ("topk_weights", f32s(&[tokens, 1], &[1.0; 270])),
    ]
    .into_iter()
    .map(|(name, tensor)| (name.to_owned(), tensor))
    .collect();
    let got = run(&json!({"router": "external", "activation": "relu"}), &inputs);
    assert_eq!(bits(&got["out"]), bits(&x));
}

#[test]
fn a_capacity_beyond_need_changes_nothing() {
    let inputs = SMALL.tensors(Dtype::F32, 5);
    let mut question = json!({"top_k": 2, "outputs": all()});
    let free = run(&question, &inputs);
    for rows in [21, 42] {
        question["capacity"] = json!({"rows": rows, "sequences": 1, "priority": "score"});
        let got = run(&question, &inputs);
        free.iter().for_each(|(name, values)| assert_eq!(bits(values), bits(&got[name]), "{name}"));
    }
}

#[test]
fn every_run_gives_the_same_bits() {
    let inputs = Layer { tokens: 300, ..SMALL }.tensors(Dtype::F32, 7);
    let mut soft = inputs.clone();
    soft.insert("phi".to_owned(), Random(3).tensor(Dtype::F32, &[6, 4, 20], 0.6));
    let capacity = json!({"rows": 80, "priority": "score"});
    for (question, inputs) in [
        (json!({"top_k": 3, "outputs": all()}), &inputs),
        (json!({"top_k": 3, "capacity": capacity, "outputs": all()}), &inputs),
        (json!({"router": {"expert_choice": {"capacity": 40}}}), &inputs),
        (json!({"router": {"soft": {"slots": 4}}}), &soft),
    ] {
        let first = run(&question, inputs);
        for _ in 0..3 {
            let again = run(&question, inputs);
            first
                .iter()
                .for_each(|(name, values)| assert_eq!(bits(values), bits(&again[name]), "{name}"));
        }
    }
}

#[test]
fn a_token_that_is_not_a_number_spoils_no_other() {
    let mut inputs = SMALL.tensors(Dtype::F32, 8);
    let question = json!({"top_k": 2, "outputs": ["out", "topk_ids"]});
    let whole = run(&question, &inputs);
    let mut x = inputs["x"].to_f64();
    x[5 * 20 + 3] = f64::NAN;
    inputs.insert("x".to_owned(), f32s(&[21, 20], &x));
    let got = run(&question, &inputs);
    for (index, (got, whole)) in got["out"].iter().zip(&whole["out"]).enumerate() {
        assert!(
            if index / 20 == 5 { got.is_nan() } else { got == whole },
            "{index}: {got} {whole}"
        );
    }
    assert!(got["topk_ids"].iter().all(|id| (0.0..6.0).contains(id)));
}

#[test]
fn every_tile_set_is_right() {
    for layer in [
        Layer { tokens: 150, ..SMALL },
        Layer { tokens: 33, model_dim: 70, experts: 3, expert_dim: 45 },
    ] {
        let inputs = layer.tensors(Dtype::F32, 9);
        let question = json!({"top_k": 2, "outputs": ["out", "topk_ids"]});
        let problem = problem(&question, &inputs);
        for tiles in problem.candidates(engine().limits()).unwrap() {
            check_with(engine(), &question, &inputs, &problem, Some(tiles));
        }
    }
}

#[test]
fn the_floor_of_webgpu_is_enough() {
    let engine = Engine::open(&EngineOptions { floor: true, ..EngineOptions::default() }).unwrap();
    let mut inputs = SMALL.tensors(Dtype::F16, 10);
    let mut random = Random(12);
    // All that a first matmul can bind: biases and weights on the input.
    for (name, shape) in [("b_gate", vec![6, 12]), ("b_up", vec![6, 12]), ("b_down", vec![6, 20])] {
        inputs.insert(name.to_owned(), random.tensor(Dtype::F16, &shape, 0.5));
    }
    inputs.insert("correction_bias".to_owned(), random.tensor(Dtype::F32, &[6], 0.5));
    let question = json!({"dtype": "f16", "top_k": 2, "weight_on": "input", "outputs": ["out", "topk_ids", "topk_weights"]});
    check_with(&engine, &question, &inputs, &problem(&question, &inputs), None);
}

#[test]
fn no_kernel_binds_more_than_the_floor_has() {
    let mut inputs = SMALL.tensors(Dtype::F32, 10);
    for (name, shape) in [
        ("b_gate", vec![6, 12]),
        ("b_up", vec![6, 12]),
        ("b_down", vec![6, 20]),
        ("correction_bias", vec![6]),
    ] {
        inputs.insert(name.to_owned(), Random(1).tensor(Dtype::F32, &shape, 0.5));
    }
    inputs.insert("token_top_k".to_owned(), i32s(&[21], &[2; 21]));
    inputs
        .insert("logit_mask".to_owned(), HostTensor::from_f64(Dtype::Bool, &[21, 6], &[1.0; 126]));
    let question = json!({"top_k": 2, "weight_on": "input", "outputs": all()});
    let problem = problem(&question, &inputs);
    let floor = GpuLimits::floor();
    for tiles in problem.candidates(&floor).unwrap() {
        for step in problem.plan(&floor, &tiles).unwrap().steps() {
            let (entry, count) = (step.shader().entry(), step.shader().bindings().len());
            assert!(count <= floor.storage_buffers as usize, "{entry} binds {count}");
            assert!(step.shader().workgroup_bytes() <= floor.workgroup_bytes, "{entry}");
            assert!(step.shader().workgroup_size() <= floor.workgroup_invocations, "{entry}");
        }
    }
}

/// Experts as slices of one dense block, gate and up interleaved, and NaN wherever no view looks.
#[test]
fn strided_views_cost_no_copy_and_gaps_are_never_read() {
    let layer = SMALL;
    let dense = layer.tensors(Dtype::F32, 13);
    let question = json!({"top_k": 2});
    let views: BTreeMap<&str, Layout> = [
        ("x", Layout::new(&[21, 20], &[28, 1], 4).unwrap()),
        ("w_up", Layout::new(&[6, 12, 20], &[24 * 20, 40, 1], 20).unwrap()),
        ("w_gate", Layout::new(&[6, 12, 20], &[24 * 20, 40, 1], 0).unwrap()),
        ("w_down", Layout::new(&[6, 20, 12], &[12, 77, 1], 3).unwrap()),
    ]
    .into();
    let mut descs = BTreeMap::new();
    let mut buffers = Vec::new();
    for (name, tensor) in &dense {
        let desc = match views.get(name.as_str()) {
            Some(layout) => TensorDesc { dtype: Dtype::F32, layout: layout.clone() },
            None => tensor.desc(),
        };
        let placed = spread(tensor, &desc.layout);
        buffers.push((name.clone(), engine().upload(name, &placed).unwrap()));
        descs.insert(name.clone(), desc);
    }
    let problem_of_views = tilewise::moe::MoeProblem::new(&spec(&question), &descs).unwrap();
    let out = engine().upload("out", &f32s(&[420], &[f64::NAN; 420])).unwrap();
    buffers.push(("out".to_owned(), out.clone()));
    let bound: Vec<(&str, &_)> =
        buffers.iter().map(|(name, buffer)| (name.as_str(), buffer)).collect();
    let prepared = engine().prepare(&problem_of_views, None).unwrap();
    let mut encoder = engine().device().create_command_encoder(&Default::default());
    prepared.record(&mut encoder, &bound).unwrap();
    engine().queue().submit([encoder.finish()]);
    let got = engine().download(&out, ..420 * 4).unwrap();
    let got = HostTensor { dtype: Dtype::F32, shape: vec![21, 20], bytes: got }.to_f64();
    // Scalar and vector loads add in the same order.
    assert_eq!(bits(&got), bits(&run(&question, &dense)["out"]));
}

fn spread(tensor: &HostTensor, layout: &Layout) -> HostTensor {
    let mut values = vec![f64::NAN; layout.end().unwrap() as usize + 8];
    for (index, value) in tensor.to_f64().into_iter().enumerate() {
        let mut left = index as u64;
        let mut at = layout.offset();
        for axis in (0..layout.shape().len()).rev() {
            at += left % layout.shape()[axis] * layout.strides()[axis];
            left /= layout.shape()[axis];
        }
        values[at as usize] = value;
    }
    f32s(&[values.len() as u64], &values)
}
