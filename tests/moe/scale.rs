//! Many tokens, small devices: grids fold, weights are bound in slices, what does not fit is refused with both numbers.

use serde_json::json;
use tilewise::gpu::limits::GpuLimits;
use tilewise::moe::reference;
use tilewise::operator::Operator;
use tilewise::tensor::{Dtype, HostTensor};

use crate::support::{Layer, check, check_with, engine, f32s, i32s, problem, run, small_device};

#[test]
fn weights_larger_than_a_binding_are_bound_in_slices() {
    let layer = Layer { tokens: 10, model_dim: 24, experts: 11, expert_dim: 28 };
    // Two experts' matrices of 2688 bytes fit beside the start's alignment, three do not.
    let engine = small_device(8192);
    for (dtype, name) in [(Dtype::F32, "f32"), (Dtype::Bf16, "bf16")] {
        let mut inputs = layer.tensors(dtype, 1);
        for (name, columns) in [("b_gate", 28), ("b_up", 28), ("b_down", 24)] {
            let bias: Vec<f64> = (0..11 * columns).map(|i| f64::from(i) / 99.0 - 1.0).collect();
            inputs.insert(name.to_owned(), f32s(&[11, columns as u64], &bias));
        }
        let question = json!({"dtype": name, "top_k": 2, "outputs": ["out", "counts"]});
        let problem = problem(&question, &inputs);
        let tiles = problem.candidates(engine.limits()).unwrap()[0];
        let plan = problem.plan(engine.limits(), &tiles).unwrap();
        let matmuls =
            plan.steps().iter().filter(|step| step.shader().entry().starts_with("matmul")).count();
        assert_eq!(matmuls, if name == "f32" { 1 + 2 * 6 } else { 1 + 2 * 3 }, "{name}");
        check_with(&engine, &question, &inputs, &problem, None);
    }
}

#[test]
fn four_gigabytes_of_weights_fit_bindings_of_the_floor() {
    use tilewise::moe::{MoeProblem, MoeSpec};
    use tilewise::tensor::TensorDesc;
    let shapes: [(&str, &[u64]); 5] = [
        ("x", &[8, 2048]),
        ("router_w", &[128, 2048]),
        ("w_gate", &[128, 4096, 2048]),
        ("w_up", &[128, 4096, 2048]),
        ("w_down", &[128, 2048, 4096]),
    ];
    let descs =
        shapes.map(|(name, shape)| (name.to_owned(), TensorDesc::contiguous(Dtype::F32, shape)));
    let spec = MoeSpec { top_k: Some(8), ..MoeSpec::default() };
    let problem = MoeProblem::new(&spec, &descs.into()).unwrap();
    let floor = GpuLimits { buffer_bytes: 8 << 30, ..GpuLimits::floor() };
    let plan = problem.plan(&floor, &problem.candidates(&floor).unwrap()[0]).unwrap();
    let bindings = plan.steps().iter().flat_map(|step| step.bindings());
    assert!(bindings.clone().all(|bound| bound.size <= floor.storage_binding_bytes));
    // Beyond u32 in elements too.
    assert!(bindings.clone().any(|bound| bound.offset > 3 << 30));
}

#[test]
fn what_fits_one_workgroup_is_placed_by_one_and_what_does_not_by_many() {
    let outputs = json!(["out", "counts", "expert_offsets", "row_tokens", "pair_rows"]);
    let question = json!({"router": "external", "outputs": outputs});
    for (tokens, at_once) in [(1, true), (127, true), (128, true), (129, false), (300, false)] {
        let layer = Layer { tokens, model_dim: 8, experts: 70, expert_dim: 4 };
        let mut inputs = layer.tensors(Dtype::F32, 5);
        let ids: Vec<i32> = (0..2 * tokens as i32).map(|pair| (pair * pair % 91) - 3).collect();
        inputs.insert("topk_ids".to_owned(), i32s(&[tokens, 2], &ids));
        let weights: Vec<f64> = ids.iter().map(|id| f64::from(*id) / 70.0).collect();
        inputs.insert("topk_weights".to_owned(), f32s(&[tokens, 2], &weights));
        let problem = problem(&question, &inputs);
        for limits in [
            engine().limits().clone(),
            GpuLimits { storage_buffers: 7, ..engine().limits().clone() },
        ] {
            let tiles = problem.candidates(&limits).unwrap()[0];
            let plan = problem.plan(&limits, &tiles).unwrap();
            let entries: Vec<_> = plan.steps().iter().map(|step| step.shader().entry()).collect();
            let one = at_once && limits.storage_buffers >= 8;
            assert_eq!(entries[0], if one { "moe_place" } else { "moe_given" }, "{entries:?}");
            assert_eq!(entries.contains(&"moe_permute"), !one, "{entries:?}");
        }
        check(&question, &inputs);
    }
}

#[test]
fn a_hundred_thousand_tokens_are_placed() {
    let layer = Layer { tokens: 100_000, model_dim: 4, experts: 8, expert_dim: 4 };
    let inputs = layer.tensors(Dtype::F32, 3);
    let outputs = json!(["out", "topk_ids", "topk_weights", "counts", "dropped", "z_loss"]);
    check(&json!({"top_k": 2, "outputs": outputs}), &inputs);
    let capacity = json!({"rows": 20_000, "priority": "score"});
    check(&json!({"top_k": 2, "capacity": capacity, "outputs": outputs}), &inputs);
    let choice = json!({"expert_choice": {"capacity": 30_000}});
    check(&json!({"router": choice, "outputs": ["out", "token_ids"]}), &inputs);
}

#[test]
fn a_hundred_thousand_tokens_of_one_expert_are_placed() {
    let layer = Layer { tokens: 100_000, model_dim: 4, experts: 3, expert_dim: 4 };
    let mut inputs = layer.tensors(Dtype::F32, 4);
    inputs.insert("topk_ids".to_owned(), i32s(&[100_000, 1], &[1; 100_000]));
    inputs.insert("topk_weights".to_owned(), f32s(&[100_000, 1], &[0.5; 100_000]));
    let question = json!({"router": "external", "outputs": ["out", "counts", "pair_rows"]});
    check(&question, &inputs);
    let got = run(&question, &inputs);
    assert_eq!(got["counts"], [0.0, 100_000.0, 0.0]);
    assert!(got["pair_rows"].iter().enumerate().all(|(pair, row)| pair as f64 == *row));
    assert!(engine().limits().workgroups_per_dimension < 100_000);
}

/// What lies between an expert's matmuls may leave the range of halves; the matrices' tiles are scaled then.
#[test]
fn hidden_numbers_beyond_halves_give_what_they_should_with_every_tile_set() {
    let layer = Layer { tokens: 9, model_dim: 32, experts: 2, expert_dim: 40 };
    let mut inputs = layer.tensors(Dtype::F16, 3);
    inputs.remove("w_gate");
    for (name, scale) in [("x", 60.0), ("w_up", 300.0), ("w_down", 1.0 / 256.0)] {
        let tensor = inputs.get_mut(name).unwrap();
        // The first token is a common one.
        let row = |i: usize| if name == "x" && i < 32 { 1e-3 } else { 1.0 };
        let signed = name == "w_down";
        let scaled =
            tensor.to_f64().into_iter().enumerate().map(|(i, value)| {
                (if signed { value } else { value.abs() + 0.2 }) * scale * row(i)
            });
        let values: Vec<f64> = scaled.collect();
        *tensor = HostTensor::from_f64(Dtype::F16, &tensor.shape, &values);
    }
    let question = json!({"dtype": "f16", "top_k": 1, "activation": "relu", "outputs": ["out"]});
    let problem = problem(&question, &inputs);
    let want = reference(&problem, &inputs).unwrap().outputs["out"].clone();
    for tiles in problem.candidates(engine().limits()).unwrap() {
        let got = engine().run(&problem, Some(tiles), &inputs).unwrap()["out"].to_f64();
        for (got, want) in got.chunks(32).zip(want.chunks(32)) {
            let most = want.iter().fold(0.0_f64, |most, out| most.max(out.abs()));
            let off = got.iter().zip(want).map(|(got, want)| (got - want).abs());
            // NaN is none of these either.
            assert!(off.fold(0.0, f64::max) <= most / 512.0, "{tiles}: {got:?}, expected {want:?}");
            assert!(got.iter().all(|out| out.is_finite()), "{tiles}: {got:?}");
        }
    }
}
