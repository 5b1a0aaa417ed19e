//! Plans, computed without a device: what is bound, cut, folded and refused.

use std::collections::BTreeMap;

use proptest::prelude::*;
use serde_json::{Value, json};
use tilewise::attention::{AttentionProblem, AttentionSpec, TensorDescs};
use tilewise::error::PlanError;
use tilewise::fused::{FusedShape, FusedTiles};
use tilewise::gpu::limits::{GpuLimits, SubgroupSizes};
use tilewise::gpu::recording::{Bound, Plan, Slot, Step};
use tilewise::operator::Operator;
use tilewise::tensor::{Dtype, Layout, TensorDesc};

fn asked(spec: &Value) -> AttentionProblem {
    let spec: AttentionSpec = serde_json::from_value(spec.clone()).unwrap();
    AttentionProblem::new(&spec, &spec.assumed_tensors().unwrap()).unwrap()
}

fn extents([batch, q_heads, kv_heads, q, kv, dim]: [u64; 6]) -> Value {
    json!({
        "batch": batch, "q_heads": q_heads, "kv_heads": kv_heads, "seq_len_q": q, "seq_len_kv": kv,
        "head_dim": dim, "outputs": ["out", "lse"],
    })
}

fn planned(problem: &AttentionProblem, limits: &GpuLimits, splits: u32) -> Plan {
    let tiles = problem.candidates(limits).unwrap()[0].with_kv_splits(splits);
    problem.plan(limits, &tiles).unwrap()
}

fn forwards(plan: &Plan) -> Vec<&Step> {
    plan.steps().iter().filter(|step| step.shader().entry().starts_with("fused_forward")).collect()
}

/// A kernel's params by name: the struct in its header gives the order.
fn params(step: &Step) -> BTreeMap<String, u32> {
    let header = &step.shader().parts()[0].text;
    let fields = header.split("struct Params {").nth(1).unwrap().split('}').next().unwrap();
    let names = fields.lines().filter_map(|line| line.trim().split_once(": "));
    let words = step.params().chunks_exact(4);
    names
        .filter(|(_, kind)| !kind.starts_with("array"))
        .zip(words)
        .map(|((name, _), word)| (name.to_owned(), u32::from_le_bytes(word.try_into().unwrap())))
        .collect()
}

/// A number that the header fixes.
fn constant(step: &Step, name: &str) -> u64 {
    let header = &step.shader().parts()[0].text;
    let text = header.split(&format!("const {name}: u32 = ")).nth(1).unwrap();
    text.split('u').next().unwrap().parse().unwrap()
}

fn bound<'a>(step: &'a Step, name: &str) -> &'a Bound {
    let index = step.shader().bindings().iter().position(|declared| declared.name == name).unwrap();
    &step.bindings()[index]
}

#[test]
fn every_dim_has_tiles_at_the_floor() {
    for dim in 1..=576 {
        for rows in [1, 1000] {
            for (head_dim, value_dim) in [(dim, dim), (dim, 1), (1, dim), (576, dim)] {
                let shape = FusedShape { head_dim, value_dim, dtype: Dtype::F32 };
                let tiles = FusedTiles::candidates(shape, rows, 1e9, &GpuLimits::floor());
                assert!(!tiles.is_empty(), "{head_dim} {value_dim}");
                for tiles in tiles {
                    tiles.check(shape, &GpuLimits::floor()).unwrap();
                }
            }
        }
    }
}

/// The stage of each workgroup tile set, in order: true for halves.
fn stages(dtype: Dtype, limits: &GpuLimits) -> Vec<bool> {
    let shape = FusedShape { head_dim: 64, value_dim: 64, dtype };
    let tiles = FusedTiles::candidates(shape, 1000, 1e12, limits);
    let stage = |tiles: FusedTiles| match tiles {
        FusedTiles::Workgroup { half, .. } => Some(half),
        _ => None,
    };
    tiles.into_iter().filter_map(stage).collect()
}

#[test]
fn half_stages_are_for_halves_and_first_where_they_cost_nothing() {
    let of = |f16: bool, most: u32| GpuLimits {
        f16,
        subgroup: Some(SubgroupSizes { least: 32, most }),
        ..GpuLimits::floor()
    };
    let (wide, narrow) = (stages(Dtype::F16, &of(true, 64)), stages(Dtype::F16, &of(true, 32)));
    for (stages, half_first) in [(wide, true), (narrow, false)] {
        assert!(stages.contains(&true) && stages.contains(&false), "{stages:?}");
        assert_eq!(stages[0], half_first, "{stages:?}");
    }
    for (dtype, f16) in [(Dtype::F16, false), (Dtype::F32, true), (Dtype::Bf16, true)] {
        assert!(!stages(dtype, &of(f16, 64)).contains(&true));
    }
}

#[test]
fn tensors_larger_than_a_binding_are_bound_by_slices() {
    let problem = asked(&extents([4, 4, 2, 64, 64, 64]));
    let limits = GpuLimits { storage_binding_bytes: 40 << 10, ..GpuLimits::floor() };
    let plan = planned(&problem, &limits, 1);
    assert_eq!(forwards(&plan).len(), 8, "a slice for each batch and key head");
    for step in plan.steps() {
        for bound in step.bindings() {
            assert!(
                bound.size <= limits.storage_binding_bytes && bound.offset % 256 == 0,
                "{bound:?}"
            );
        }
    }
}

#[test]
fn a_row_larger_than_a_binding_is_refused_with_both_numbers() {
    let problem = asked(&extents([4, 4, 2, 64, 64, 64]));
    let limits = GpuLimits { storage_binding_bytes: 400, ..GpuLimits::floor() };
    let tiles = problem.candidates(&limits).unwrap()[0];
    let error = problem.plan(&limits, &tiles).unwrap_err();
    let PlanError::Limit { needed, available, .. } = &error else { panic!("{error}") };
    // A row, or a tile's keys, and what bindings are aligned by.
    assert!(*needed >= 64 * 4, "{error}");
    assert_eq!(*available, 400);
    let text = error.to_string();
    assert!(text.contains(&needed.to_string()) && text.contains("400"), "{text}");
}

#[test]
fn extra_inputs_share_a_binding_where_a_device_has_few() {
    let mut spec = extents([1, 2, 2, 5, 7, 8]);
    spec["score"] = json!([{"bias": "a"}, {"bias": "b"}, {"alibi": "c"}, {"bias": "d"}]);
    spec["mask"] = json!({"and": [{"dense": "e"}, {"documents": {"q": "f", "kv": "g"}}]});
    let problem = asked(&spec);
    for (most, packs) in [(8, true), (16, false)] {
        let limits = GpuLimits { storage_buffers: most, ..GpuLimits::floor() };
        let plan = planned(&problem, &limits, 1);
        assert_eq!(plan.steps().iter().any(|step| step.shader().entry() == "common_pack"), packs);
        for step in plan.steps() {
            assert!(
                step.bindings().len() <= most as usize,
                "{}: {}",
                step.shader().entry(),
                step.bindings().len()
            );
        }
    }
    let limits = GpuLimits { storage_buffers: 6, ..GpuLimits::floor() };
    let tiles = problem.candidates(&limits).unwrap()[0];
    let error = problem.plan(&limits, &tiles).unwrap_err().to_string();
    assert!(error.contains("needs 7 storage buffers") && error.contains("has 6"), "{error}");
}

#[test]
fn more_workgroups_than_a_dimension_holds_are_folded() {
    let problem = asked(&extents([70_000, 1, 1, 1, 4, 8]));
    let plan = planned(&problem, &GpuLimits::floor(), 1);
    let [step] = forwards(&plan)[..] else { panic!("{} dispatches", plan.steps().len()) };
    let tilewise::gpu::recording::Grid::Direct([x, y, z]) = *step.grid() else {
        panic!("{:?}", step.grid())
    };
    assert!(x <= 65_535 && y > 1 && z == 1 && x * y >= 70_000, "{:?}", step.grid());
    assert_eq!(params(step)["workgroups"], 70_000);
}

#[test]
fn long_work_is_cut_into_dispatches_that_follow_each_other() {
    let problem = asked(&extents([1, 8, 8, 1 << 15, 1 << 15, 64]));
    let limits = GpuLimits { storage_binding_bytes: 1 << 30, ..GpuLimits::floor() };
    let plan = planned(&problem, &limits, 1);
    let steps = forwards(&plan);
    assert!(steps.len() > 4, "{}", steps.len());
    let mut next = 0;
    for step in &steps {
        let params = params(step);
        assert_eq!(params["workgroup_first"], next);
        next = params["workgroups"];
        let rows = f64::from(next - params["workgroup_first"]) * constant(step, "TILE_Q") as f64;
        assert!(rows * f64::from(1 << 15) * 256.0 <= 1.01e11);
    }
    let last = params(steps[steps.len() - 1]);
    assert_eq!(u64::from(next), u64::from(last["q_tiles"]) * 8);
    let cpu = GpuLimits { is_cpu: true, ..limits };
    assert_eq!(forwards(&planned(&problem, &cpu, 1)).len(), 1);
}

#[test]
fn scratch_is_what_partial_results_take() {
    let spec = extents([2, 4, 2, 70, 131, 42]);
    let none = planned(&asked(&spec), &GpuLimits::floor(), 1);
    assert_eq!(none.scratch_bytes(), 0);
    let split = planned(&asked(&spec), &GpuLimits::floor(), 3);
    let rows = 3 * 2 * 4 * 70;
    let bytes: Vec<u64> = split.scratch().iter().map(|scratch| scratch.bytes).collect();
    assert_eq!(bytes, [0, rows * 44 * 4, rows * 4, 0]);
    assert_eq!(split.steps().last().unwrap().shader().entry(), "fused_merge");
}

#[test]
fn batches_and_heads_share_a_map_of_tiles_where_the_mask_is_the_same() {
    let maps = |mask: Value, keep: Option<[u64; 2]>, lens: bool| {
        let mut spec = extents([2, 4, 2, 70, 131, 42]);
        spec["mask"] = mask;
        let spec: AttentionSpec = serde_json::from_value(spec).unwrap();
        let mut tensors = spec.assumed_tensors().unwrap();
        if let Some([batch, heads]) = keep {
            let layout = Layout::contiguous(&[batch, heads, 70, 131]);
            tensors.insert("keep".to_owned(), TensorDesc { dtype: Dtype::Bool, layout });
        }
        if lens {
            let layout = Layout::contiguous(&[2]);
            tensors.insert("kv_lens".to_owned(), TensorDesc { dtype: Dtype::I32, layout });
        }
        let problem = AttentionProblem::new(&spec, &tensors).unwrap();
        let plan = planned(&problem, &GpuLimits::floor(), 1);
        assert_eq!(plan.steps()[0].shader().entry(), "fused_classify");
        plan.scratch()[0].bytes / 8 / u64::from(params(forwards(&plan)[0])["q_tiles"])
    };
    let wgsl = |test: &str| json!({"wgsl": format!("fn mask_mod(b: u32, h: u32, q: u32, kv: u32) -> bool {{ return {test}; }}")});
    let dense = || json!({"dense": "keep"});
    assert_eq!(maps(dense(), Some([2, 4]), false), 8);
    assert_eq!(maps(dense(), Some([2, 1]), false), 2);
    assert_eq!(maps(dense(), Some([1, 4]), false), 4);
    assert_eq!(maps(dense(), Some([1, 1]), false), 1);
    assert_eq!(maps(dense(), Some([1, 1]), true), 2);
    assert_eq!(maps(wgsl("q >= kv"), None, false), 1);
    assert_eq!(maps(wgsl("pos_q(b, q) >= i32(kv)"), None, false), 2);
    assert_eq!(maps(wgsl("q + h >= kv"), None, false), 4);
    assert_eq!(maps(json!({"documents": {"q": "a", "kv": "c"}}), None, false), 2);
    let by_head = json!({"band": {"left": [1, 2, 3, 4]}});
    assert_eq!(maps(json!({"and": [wgsl("q >= kv"), by_head]}), None, false), 4);
}

#[test]
fn nothing_to_do_is_no_dispatch() {
    for spec in [extents([0, 2, 2, 5, 7, 8]), extents([1, 2, 2, 0, 7, 8])] {
        assert!(planned(&asked(&spec), &GpuLimits::floor(), 1).steps().is_empty());
    }
    assert_eq!(
        planned(&asked(&extents([1, 2, 2, 5, 0, 8])), &GpuLimits::floor(), 1).steps().len(),
        1
    );
}

#[test]
fn numbers_that_change_at_runtime_share_a_kernel() {
    let shader =
        |spec: &Value| planned(&asked(spec), &GpuLimits::floor(), 1).steps()[0].shader().clone();
    let mut spec = extents([2, 4, 2, 70, 131, 64]);
    spec["mask"] = json!({"band": {"left": 3, "right": 0}});
    let first = shader(&spec);
    spec["mask"] = json!({"band": {"left": 64, "right": 9}});
    spec["softmax_scale"] = json!(0.7);
    (spec["batch"], spec["seq_len_q"], spec["seq_len_kv"]) = (json!(5), json!(90), json!(1000));
    assert_eq!(shader(&spec), first);
}

/// A tensor of four axes with gaps behind its rows, heads and batches.
fn gapped(dtype: Dtype, shape: [u64; 4], offset: u64, gaps: [u64; 3]) -> TensorDesc {
    let row = shape[3] + gaps[0];
    let head = row * shape[2] + gaps[1];
    let strides = vec![head * shape[1] + gaps[2], head, row, 1];
    TensorDesc { dtype, layout: Layout::new(&shape, &strides, offset).unwrap() }
}

/// Holds every corner of a tensor's rows, as a kernel would find them from its params, against its binding.
fn rows_lie_in_their_binding(problem: &AttentionProblem, step: &Step, name: &str) {
    let params = params(step);
    let group = u64::from(problem.extents().group_size());
    let groups = u64::from(params["head_groups"]);
    let per_batch = u64::from(params["q_tiles"]) * groups * u64::from(params["kv_splits"]);
    let batches = u64::from(params["workgroups"]) / per_batch;
    let (first, first_batch) = (u64::from(params["head_first"]), u64::from(params["batch_first"]));
    let last = first + groups * constant(step, "GROUP_ROWS") - 1;
    let (heads, rows) = match name {
        "k" | "v" => ([first / group, last / group], [params["key_first"], params["key_end"]]),
        _ => ([first, last], [params["query_first"], params["query_end"]]),
    };
    let (desc, bound) = (&problem.descs()[name], bound(step, name));
    assert_eq!(bound.slot, Slot::Tensor(name.to_owned()));
    let (layout, size) = (&desc.layout, desc.dtype.bytes());
    for batch in [first_batch, first_batch + batches - 1] {
        for head in heads {
            for row in [u64::from(rows[0]), u64::from(rows[1]) - 1] {
                let stride = |axis: &str| params[&format!("{name}_{axis}_stride")];
                let index = params[&format!("{name}_first")]
                    .wrapping_add((batch as u32).wrapping_mul(stride("batch")))
                    .wrapping_add((head as u32).wrapping_mul(stride("head")))
                    .wrapping_add((row as u32).wrapping_mul(stride("seq")));
                let place = layout.offset()
                    + batch * layout.strides()[0]
                    + head * layout.strides()[1]
                    + row * layout.strides()[2];
                assert_eq!(
                    bound.offset / size + u64::from(index),
                    place,
                    "{name} {batch} {head} {row}"
                );
                let width = if name == "lse" { 1 } else { layout.shape()[3] };
                assert!(
                    (u64::from(index) + width) * size <= bound.size,
                    "{name} {batch} {head} {row}"
                );
            }
        }
    }
    let end = layout.end().unwrap() * size;
    assert!(bound.offset + bound.size <= end.next_multiple_of(4), "{name} ends behind its buffer");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn every_row_lies_in_its_binding(
        (batch, kv_heads, group, q, kv) in (1_u64..5, 1_u64..5, 1_u64..4, 1_u64..40, 1_u64..40),
        (head_dim, value_dim) in (1_u64..70, 1_u64..70),
        offset in prop_oneof![0_u64..40, (1_u64 << 33)..(1 << 33) + 40],
        gaps in (0_u64..30, 0_u64..300, prop_oneof![0_u64..300, (1_u64 << 34)..(1 << 34) + 9]),
        dtype in prop_oneof![Just(Dtype::F32), Just(Dtype::F16), Just(Dtype::Bf16)],
        (most, alignment) in (9_u64..22, prop_oneof![Just(16_u32), Just(64), Just(256)]),
        splits in 1_u32..3,
    ) {
        let tensor = |heads, seq, dim| gapped(dtype, [batch, heads, seq, dim], offset, gaps.into());
        let q_heads = kv_heads * group;
        let tensors = TensorDescs::from([
            ("q".to_owned(), tensor(q_heads, q, head_dim)),
            ("k".to_owned(), tensor(kv_heads, kv, head_dim)),
            ("v".to_owned(), tensor(kv_heads, kv, value_dim)),
            ("out".to_owned(), tensor(q_heads, q, value_dim)),
        ]);
        let spec = AttentionSpec { dtype, ..AttentionSpec::default() };
        let problem = AttentionProblem::new(&spec, &tensors).unwrap();
        let limits = GpuLimits {
            storage_binding_bytes: 1 << most,
            storage_alignment: alignment,
            subgroup: Some(SubgroupSizes { least: 8, most: 8 }),
            is_cpu: true,
            ..GpuLimits::floor()
        };
        let tiles = problem.candidates(&limits).unwrap()[0].with_kv_splits(splits);
        // What does not fit even by single heads is refused; that has a test of its own.
        if let Ok(plan) = problem.plan(&limits, &tiles) {
            for step in forwards(&plan) {
                for name in ["q", "k", "v", "out"] {
                    if step.shader().bindings().iter().any(|declared| declared.name == name) {
                        rows_lie_in_their_binding(&problem, step, name);
                    }
                }
                for bound in step.bindings() {
                    prop_assert!(bound.size <= limits.storage_binding_bytes);
                    prop_assert!(bound.offset % u64::from(alignment) == 0 && bound.size % 4 == 0);
                }
            }
        }
    }
}
