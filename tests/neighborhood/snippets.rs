//! The caller's own WGSL on top of the window.

use tilewise::Engine;
use tilewise::neighborhood::{
    NeighborhoodProblem, NeighborhoodSpec, ScoreModifier, Snippet, TensorDescs, simulate,
};
use tilewise::operator::Operator;
use tilewise::tensor::{Dtype, HostTensor, descs};

use crate::harness::{Case, Inputs, check, check_with, engine, floor_engine, problem, random};

fn snippet(wgsl: &str, aux: &[&str]) -> Snippet {
    Snippet { wgsl: wgsl.to_owned(), aux: aux.iter().map(|name| (*name).to_owned()).collect() }
}

const CIRCLE: &str = "
fn mask_mod(b: u32, h: u32, q: vec2<u32>, kv: vec2<u32>) -> bool {
    let away = vec2<i32>(kv) - vec2<i32>(q);
    return dot(away, away) <= 9;
}";

const BIAS: &str = "
fn score_mod(score: f32, b: u32, h: u32, q: vec2<u32>, kv: vec2<u32>) -> f32 {
    let place = kv + 6u - q; // 0 to 12 along each axis of a window of 7
    return score + rel[(h * 13u + place.x) * 13u + place.y];
}";

/// Windows of 7 by 7, cut to circles, with a relative position bias.
fn circle_with_bias(extra: u64, heads: u64) -> (NeighborhoodSpec, Inputs) {
    let mut case = Case::new(&[14, 17], &[7, 7]).with(|spec| {
        spec.mask = Some(snippet(CIRCLE, &[]));
        spec.score = vec![ScoreModifier::Wgsl(snippet(BIAS, &["rel"]))];
    });
    case.heads = [heads, heads];
    case.extra = extra;
    let mut inputs = case.inputs(3);
    let table = HostTensor::from_f64(Dtype::F32, &[heads, 13, 13], &random(9, heads * 169));
    inputs.insert("rel".to_owned(), table);
    (case.spec, inputs)
}

#[test]
fn circles_and_relative_position_bias() {
    let (spec, inputs) = circle_with_bias(0, 2);
    check_with(engine(), &spec, &inputs, None);
    check_with(floor_engine(), &spec, &inputs, None);
}

#[test]
fn every_candidate_is_right_with_all_of_it() {
    let (mut spec, inputs) = circle_with_bias(5, 2);
    (spec.head_windows, spec.stride) = (vec![vec![7, 7], vec![4, 5]], vec![4, 1]);
    spec.group_offset = vec![2, 0];
    let problem = problem(&spec, &inputs);
    for tiles in problem.candidates(engine().limits()).unwrap() {
        check_with(engine(), &spec, &inputs, Some(tiles));
    }
}

/// Seven tensors of the problem's own, two of the caller's: at the floor they share a binding.
#[test]
fn aux_tensors_share_a_binding_where_a_device_has_few() {
    let (mut spec, mut inputs) = circle_with_bias(3, 2);
    let text = "fn score_mod(score: f32, b: u32, h: u32, q: vec2<u32>, kv: vec2<u32>) -> f32 { return score + f32(steps[q.y]) * gains[h]; }";
    spec.score.push(ScoreModifier::Wgsl(snippet(text, &["steps", "gains"])));
    let steps: Vec<f64> = (0..17).map(|x| f64::from(x % 5 - 2)).collect();
    inputs.insert("steps".to_owned(), HostTensor::from_f64(Dtype::I32, &[17], &steps));
    inputs.insert("gains".to_owned(), HostTensor::from_f64(Dtype::F16, &[2], &[0.25, -0.5]));
    check_with(floor_engine(), &spec, &inputs, None);
    check_with(engine(), &spec, &inputs, None);
    // The map of tiles, too, wants a binding: without one, elements are tested.
    let problem = problem(&spec, &inputs);
    let first_kernel = |engine: &Engine| {
        let tiles = problem.candidates(engine.limits()).unwrap()[0];
        let plan = problem.plan(engine.limits(), &tiles).unwrap();
        plan.steps()
            .iter()
            .map(|step| step.shader().entry())
            .find(|entry| *entry != "common_pack")
            .unwrap()
    };
    assert_ne!(first_kernel(floor_engine()), "fused_classify");
    assert_eq!(first_kernel(engine()), "fused_classify");
}

/// Every second run of 64 tokens is masked and holds NaN: tiles of 64 keys there are neither read nor computed.
#[test]
fn tiles_that_the_mask_empties_are_skipped() {
    let text = "fn mask_mod(b: u32, h: u32, q: u32, kv: u32) -> bool { return kv / 64u % 2u == 0u && (kv >= 64u || kv <= q); }";
    let case = Case::new(&[256], &[256]).with(|spec| spec.mask = Some(snippet(text, &[])));
    let mut inputs = case.inputs(5);
    for (_, host) in inputs.iter_mut().filter(|(name, _)| *name != "q") {
        let mut values = host.to_f64();
        let row = values.len() / 256;
        for (token, row) in values.chunks_mut(row).enumerate() {
            if token / 64 % 2 == 1 {
                row.fill(f64::NAN);
            }
        }
        *host = HostTensor::from_f64(host.dtype, &host.shape, &values);
    }
    let problem = problem(&case.spec, &inputs);
    for engine in [engine(), floor_engine()] {
        let mut candidates = problem.candidates(engine.limits()).unwrap();
        candidates.retain(|tiles| tiles.key_box.0 == [1, 1, 64]);
        assert!(candidates.len() > 2);
        for tiles in candidates {
            let plan = problem.plan(engine.limits(), &tiles).unwrap();
            assert_eq!(plan.steps()[0].shader().entry(), "fused_classify");
            // The mask asks neither for the batch nor the head: they share a map, two words for each box of queries.
            let map = plan.scratch().iter().find(|it| it.name == "map of tiles").unwrap();
            assert_eq!(map.bytes, simulate(&problem, &tiles).blocks * 8);
            check_with(engine, &case.spec, &inputs, Some(tiles));
        }
    }
}

#[test]
fn softcap_and_order() {
    let double = "fn score_mod(score: f32, b: u32, h: u32, q: u32, kv: u32) -> f32 { return 2.0 * score + f32(kv) - f32(q); }";
    let mods = [ScoreModifier::Softcap(1.5.into()), ScoreModifier::Wgsl(snippet(double, &[]))];
    for order in [[0, 1], [1, 0]] {
        let mut case = Case::new(&[40], &[9]);
        case.spec.score = order.map(|index: usize| mods[index].clone()).to_vec();
        case.extra = 4;
        check(engine(), &case, None);
    }
    let softcap = Case::new(&[6, 7], &[3, 3]);
    check(engine(), &softcap.with(|spec| spec.score = mods[..1].to_vec()), None);
}

/// Rows without a key give 0 and minus infinity; coordinates are tokens, whatever the dilation.
#[test]
fn rows_that_see_nothing() {
    let text = "fn mask_mod(b: u32, h: u32, q: vec3<u32>, kv: vec3<u32>) -> bool { return q.x != 1u && (kv.y + kv.z + h + b) % 3u != 0u; }";
    let mut case = Case::new(&[3, 8, 7], &[1, 3, 2]).with(|spec| {
        spec.dilation = vec![1, 2, 3];
        spec.mask = Some(snippet(text, &[]));
    });
    case.batch = 2;
    check(engine(), &case, None);
    let masks = "fn score_mod(score: f32, b: u32, h: u32, q: vec3<u32>, kv: vec3<u32>) -> f32 { if (q.x == 1u || kv.y == 2u) { return bitcast<f32>(0xff800000u + (b & 0u)); } return score; }";
    case.spec.score = vec![ScoreModifier::Wgsl(snippet(masks, &[]))];
    check(engine(), &case, None);
    case.extra = 2; // which are always seen
    check(engine(), &case, None);
}

#[test]
fn loops_run_checked() {
    let text = "fn score_mod(score: f32, b: u32, h: u32, q: u32, kv: u32) -> f32 {
        var table = array<f32, 3>(0.5, -1.0, 2.0);
        var s = score;
        for (var i = 0u; i < 3u; i++) { s += table[(i + kv) % 3u]; }
        return s;
    }";
    let case = Case::new(&[25], &[6]).with(|spec| {
        spec.score = vec![ScoreModifier::Wgsl(snippet(text, &[]))];
    });
    check(engine(), &case, None);
}

fn refusal(change: impl FnOnce(&mut NeighborhoodSpec)) -> String {
    let (mut spec, inputs) = circle_with_bias(0, 2);
    change(&mut spec);
    let descs: TensorDescs = descs(&inputs);
    NeighborhoodProblem::new(&spec, &descs).expect_err("a wrong question").to_string()
}

#[test]
fn mistakes_are_found_in_the_callers_text() {
    let mask = |text: &str| refusal(|spec| spec.mask = Some(snippet(text, &[])));
    let typo = CIRCLE.replace("dot(away, away)", "dot(away, awya)");
    let got = mask(&typo);
    assert!(got.starts_with("mask.wgsl: line 4, column 22: "), "{got}");
    assert!(got.contains("awya"), "{got}");
    let got = mask("fn mask_mod(b: u32, h: u32, q: u32, kv: u32) -> bool { return true; }");
    let signature = "fn mask_mod(b: u32, h: u32, q: vec2<u32>, kv: vec2<u32>) -> bool";
    assert!(got.contains(&format!("mask_mod must be {signature}")), "{got}");
    let got = mask(&CIRCLE.replace("dot(away, away)", "pos_q(b, q.x)"));
    assert!(got.contains("line 4, column 12") && got.contains("pos_q"), "{got}");
    let got = refusal(|spec| {
        spec.score = vec![ScoreModifier::Wgsl(snippet(BIAS, &["rle"]))];
    });
    assert_eq!(got, "tensor rle is missing (asked for by score.aux)");
    let got = refusal(|spec| spec.mask = Some(snippet(CIRCLE, &["k"])));
    assert_eq!(got, "mask.aux: expected a name other than those of the core tensors, got k");
    let got = refusal(|spec| spec.score = vec![ScoreModifier::Softcap(0.0.into())]);
    assert_eq!(got, "score.softcap: expected a finite number above 0, got 0");
}
