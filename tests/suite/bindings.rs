//! Calls whose tensors outgrow a binding: on a device of small bindings every case is right, or is refused by name.

use std::ptr;

use serde_json::{Value, json};
use tilewise::any::{AnyProblem, AnySpec};
use tilewise::gpu::limits::GpuLimits;
use tilewise::gpu::recording::Plan;
use tilewise::gpu::shader::Shader;
use tilewise::operator::Operator;
use tilewise::tensor::{Dtype, TensorDesc, TensorDescs};
use tilewise::verify::{Failure, Trial, find_cases};
use tilewise::{Engine, Error, PlanError};

/// The first adapter as a device that binds no more than so many bytes.
fn small_bindings(bytes: u64, features: wgpu::Features) -> Engine {
    let descriptor = wgpu::InstanceDescriptor::new_without_display_handle();
    let adapters = wgpu::Instance::new(descriptor).enumerate_adapters(wgpu::Backends::all());
    let adapter = pollster::block_on(adapters).into_iter().next().expect("an adapter");
    let opened = adapter.request_device(&wgpu::DeviceDescriptor {
        required_features: adapter.features() & features,
        required_limits: wgpu::Limits {
            max_storage_buffer_binding_size: bytes,
            ..wgpu::Limits::default()
        },
        ..wgpu::DeviceDescriptor::default()
    });
    let (device, queue) = pollster::block_on(opened).expect("a device");
    Engine::from_device(device, queue)
}

/// Runs cases on a device of so small bindings, each in the plan's tiles; says how many dispatches each right one took, and
/// which were refused.
fn run(engine: &Engine, patterns: &[&str]) -> (Vec<usize>, Vec<String>) {
    let (mut dispatches, mut refused, mut wrong) = (Vec::new(), Vec::new(), Vec::new());
    for case in patterns.iter().flat_map(|pattern| find_cases(pattern)) {
        let trial = Trial::new(&case).unwrap_or_else(|error| panic!("{}: {error}", case.name));
        match trial.run(engine, None) {
            Ok(report) => dispatches.push(report.kernels.len()),
            Err(failure) => match &failure.failure {
                Failure::Call(Error::Plan(PlanError::Limit { .. })) => {
                    refused.push(failure.to_string());
                }
                _ => wrong.push(failure.to_string()),
            },
        }
    }
    assert!(wrong.is_empty(), "{} wrong\n{}", wrong.len(), wrong.join("\n"));
    (dispatches, refused)
}

/// As many cases are cut as said at least, and no more are refused.
fn hold(
    patterns: &[&str],
    bytes: u64,
    features: wgpu::Features,
    least_cut: usize,
    most_refused: usize,
) {
    let engine = small_bindings(bytes, features);
    assert_eq!(engine.limits().storage_binding_bytes, bytes);
    let (dispatches, refused) = run(&engine, patterns);
    let cut = dispatches.iter().filter(|count| **count > 3).count();
    assert!(cut >= least_cut, "{cut} cut of {dispatches:?}");
    assert!(refused.len() <= most_refused, "{} refused\n{}", refused.len(), refused.join("\n"));
}

const NO_FEATURES: wgpu::Features = wgpu::Features::empty();
const ALL_FEATURES: wgpu::Features = wgpu::Features::SUBGROUP.union(wgpu::Features::SHADER_F16);

#[test]
fn sequences_are_cut_in_every_layout() {
    let long = ["length/full_q131_kv65", "length/causal_q5_kv131", "length/causal_q9_kv300"];
    hold(&long, 11 << 10, NO_FEATURES, 1, 1);
    let layouts =
        ["layout/bshd_odd_f16_64", "layout/bshd_dense_bf16_64", "layout/bshd_exact_f32_7"];
    hold(&layouts, 5 << 10, ALL_FEATURES, 1, 1);
}

#[test]
fn masks_and_score_tables_are_cut_with_the_rows() {
    let masks = [
        "mask/blocks_7_13",
        "mask/dense_2_4_70_131",
        "mask/documents_and_causal",
        "mask/counts_by_list",
        "mask/wgsl_and_causal",
        "mask/offset_-5",
    ];
    hold(&masks, 12 << 10, NO_FEATURES, 2, 2);
    hold(&["score/alibi_bias_softcap_wgsl", "score/bias_neg_inf_f32"], 22 << 10, NO_FEATURES, 1, 1);
}

#[test]
fn pages_and_packed_sequences_are_cut() {
    let packed = ["packed/f16_sides", "packed/by_map", "packed/rows_of_none_sink_splits"];
    hold(&packed, 12 << 10, NO_FEATURES, 1, 2);
    hold(&["paged/*"], 6 << 10, ALL_FEATURES, 5, 10);
}

#[test]
fn parts_of_cut_keys_are_merged_with_those_of_prefixes_and_splits() {
    let cases =
        ["prefix/causal*", "splits/f16_causal", "gate/decode_splits", "gate/sigmoid_splits"];
    hold(&cases, 17 << 10, NO_FEATURES, 1, 3);
}

#[test]
fn images_are_cut_along_their_axes() {
    let images = [
        "neighborhood/all",
        "neighborhood/three_axes",
        "neighborhood/dilation",
        "neighborhood/clip_blocks",
        "neighborhood/causal_beyond",
        "neighborhood/swin",
        "neighborhood/bias",
        "neighborhood/sigmoid_splits",
        "neighborhood/scores",
        "neighborhood/aggregate",
    ];
    hold(&images, 7 << 10, NO_FEATURES, 4, 4);
    hold(&images[..8], 3 << 10, ALL_FEATURES, 4, 3);
}

/// A call's plan with the floor's bindings, on a device whose buffers hold its tensors, or why there is none.
fn on_the_floor(spec: &Value, others: &[(&str, Dtype, &[u64])]) -> Result<Plan, PlanError> {
    let limits = GpuLimits { buffer_bytes: 1 << 40, ..GpuLimits::floor() };
    let mut tensors = TensorDescs::new();
    let mut add = |name: &str, dtype, shape: &[u64]| {
        tensors.insert(name.to_owned(), TensorDesc::contiguous(dtype, shape));
    };
    others.iter().for_each(|(name, dtype, shape)| add(name, *dtype, shape));
    let spec: AnySpec = serde_json::from_value(spec.clone()).unwrap();
    fn of<O: Operator>(problem: &O, limits: &GpuLimits) -> Result<Plan, PlanError> {
        problem.plan(limits, &problem.candidates(limits)?[0])
    }
    match spec.ask(&tensors).unwrap() {
        AnyProblem::Attention(problem) => of(&*problem, &limits),
        AnyProblem::Neighborhood(problem) => of(&*problem, &limits),
        AnyProblem::NeighborhoodScores(problem) => of(&*problem, &limits),
        AnyProblem::NeighborhoodAggregate(problem) => of(&*problem, &limits),
        _ => panic!("another operator"),
    }
}

#[test]
fn long_caches_prefills_pools_and_images_are_planned_on_the_floor() {
    use Dtype::{Bool, F16, F32, I32};
    let attention = json!({"op": "attention", "dtype": "f16", "layout": "bshd"});
    let [q, cache] = [[1, 1, 32, 128], [1, 131_072, 8, 128]];
    let decode: &[(&str, Dtype, &[u64])] =
        &[("q", F16, &q), ("k", F16, &cache), ("v", F16, &cache)];
    let heads_first = json!({"op": "attention", "dtype": "f16"});
    let (long, keys) = ([1, 16, 65_536, 128], [1, 1, 65_536, 128]);
    let grouped: &[(&str, Dtype, &[u64])] =
        &[("q", F16, &long), ("k", F16, &keys), ("v", F16, &keys)];
    let prompt = [1, 32_768, 32, 128];
    let masked =
        json!({"op": "attention", "dtype": "f16", "layout": "bshd", "mask": {"dense": "keep"}});
    let prefill: &[(&str, Dtype, &[u64])] = &[
        ("q", F16, &prompt),
        ("k", F16, &[1, 32_768, 8, 128]),
        ("v", F16, &[1, 32_768, 8, 128]),
        ("keep", Bool, &[1, 1, 32_768, 32_768]),
        ("bias", F32, &[1, 1, 32_768, 32_768]),
    ];
    let pool = [16_384, 16, 8, 128];
    let paged: &[(&str, Dtype, &[u64])] = &[
        ("q", F16, &[8, 1, 32, 128]),
        ("k_pages", F16, &pool),
        ("v_pages", F16, &pool),
        ("block_table", I32, &[8, 2048]),
        ("kv_lens", I32, &[8]),
    ];
    let packed: &[(&str, Dtype, &[u64])] = &[
        ("q", F16, &[65_536, 32, 128]),
        ("k", F16, &[65_536, 16, 128]),
        ("v", F16, &[65_536, 16, 128]),
        ("cu_seqlens_q", I32, &[9]),
        ("cu_seqlens_kv", I32, &[9]),
    ];
    let image = [1, 256, 256, 16, 72];
    let window = json!({"op": "neighborhood", "dtype": "f16", "window": [15, 15]});
    let photo: &[(&str, Dtype, &[u64])] =
        &[("q", F16, &image), ("k", F16, &image), ("v", F16, &image)];
    let video = [1, 64, 64, 64, 16, 64];
    let all_frames = json!({"op": "neighborhood", "dtype": "f16", "window": [64, 7, 7]});
    let film: &[(&str, Dtype, &[u64])] =
        &[("q", F16, &video), ("k", F16, &video), ("v", F16, &video)];
    let scores = json!({"op": "neighborhood_scores", "dtype": "f16", "window": [15, 15]});
    let halves: &[(&str, Dtype, &[u64])] = &[("q", F16, &image), ("k", F16, &image)];
    let aggregate = json!({"op": "neighborhood_aggregate", "dtype": "f16", "window": [15, 15]});
    let weights: &[(&str, Dtype, &[u64])] =
        &[("weights", F32, &[1, 256, 256, 16, 225]), ("v", F16, &image)];
    for (name, spec, tensors, most) in [
        ("heads-last cache", &attention, decode, 8),
        ("large group", &heads_first, grouped, 3000),
        ("masked prefill", &masked, prefill, 3000),
        ("pool of pages", &attention, paged, 16),
        ("packed prefill", &attention, packed, 3000),
        ("image", &window, photo, 64),
        ("video", &all_frames, film, 3000),
        ("scores", &scores, halves, 64),
        ("aggregate", &aggregate, weights, 64),
    ] {
        let plan = on_the_floor(spec, tensors).unwrap_or_else(|error| panic!("{name}: {error}"));
        let steps = plan.steps().len();
        assert!((2..=most).contains(&steps), "{name}: {steps} steps");
    }
}

/// Steps of one kernel hold its text once, however many slices and dispatches they are.
#[test]
fn a_long_plan_holds_few_texts() {
    let tensor = [1_048_576, 8, 32];
    let shape: &[u64] = &[1, tensor[0], tensor[1], tensor[2]];
    let spec = json!({"op": "attention", "dtype": "f16", "layout": "bshd"});
    let tensors = ["q", "k", "v"].map(|name| (name, Dtype::F16, shape));
    let plan = on_the_floor(&spec, &tensors).unwrap();
    let mut texts: Vec<*const Shader> =
        plan.steps().iter().map(|it| ptr::from_ref(it.shader())).collect();
    texts.sort_unstable();
    texts.dedup();
    assert!(
        plan.steps().len() > 1000 && texts.len() < 10,
        "{} of {}",
        texts.len(),
        plan.steps().len()
    );
}

#[test]
fn more_work_than_a_call_has_is_refused_at_once() {
    for window in [1 << 29, 1 << 20] {
        let shape: &[u64] = &[1, 1 << 29, 1, 64];
        let tensors = ["q", "k", "v"].map(|name| (name, Dtype::F32, shape));
        let spec = json!({"op": "neighborhood", "window": [window], "causal": [true]});
        let error = on_the_floor(&spec, &tensors).unwrap_err().to_string();
        assert!(error.contains("dispatches of one call, the device has 16384"), "{error}");
    }
}
