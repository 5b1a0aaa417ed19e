//! Every case of the shared suite, by group; every tile set; every kind of engine.

use tilewise::Engine;
use tilewise::any::AnyProblem;
use tilewise::verify::{Case, CaseTiles, Trial, cases, find_cases, run_case};

use crate::known_issues::{self, Outcome};
use crate::support::{checked_engine, engine, floor_engine};

/// Runs cases and fails with every failure's text.
fn all_right(engine: &Engine, cases: &[Case]) {
    assert!(!cases.is_empty());
    let outcomes = cases.iter().map(|case| Outcome {
        name: case.name.clone(),
        failure: run_case(engine, case, None).err().map(|failure| failure.to_string()),
    });
    known_issues::settle(known_issues::KNOWN, &outcomes.collect::<Vec<_>>())
        .unwrap_or_else(|text| panic!("{text}"));
}

fn group(name: &str) {
    all_right(engine(), &find_cases(&format!("{name}/*")));
}

#[test]
fn every_group_has_its_test() {
    let mut groups: Vec<String> = cases().iter().map(|case| case.group().to_owned()).collect();
    groups.dedup();
    let tested = [
        "length",
        "heads",
        "dims",
        "half",
        "layout",
        "magnitude",
        "output",
        "mask",
        "kv_lens",
        "score",
        "normaliser",
        "splits",
        "prefix",
        "merge",
        "neighborhood",
        "moe",
        "matmul",
        "gate",
        "packed",
        "paged",
    ];
    groups.iter().for_each(|group| assert!(tested.contains(&group.as_str()), "{group}"));
}

#[test]
fn every_length_is_right() {
    group("length");
}

#[test]
fn every_head_ratio_is_right() {
    group("heads");
}

#[test]
fn every_dim_is_right() {
    group("dims");
}

#[test]
fn halves_are_right() {
    group("half");
}

#[test]
fn every_layout_is_right() {
    group("layout");
}

#[test]
fn every_gate_is_right() {
    group("gate");
}

#[test]
fn packed_sequences_are_right() {
    group("packed");
}

#[test]
fn paged_keys_are_right() {
    group("paged");
}

#[test]
fn every_magnitude_is_right() {
    group("magnitude");
}

#[test]
fn every_choice_of_outputs_is_right() {
    group("output");
}

#[test]
fn every_mask_is_right() {
    group("mask");
}

#[test]
fn every_kv_lens_is_right() {
    group("kv_lens");
}

#[test]
fn every_score_modifier_is_right() {
    group("score");
}

#[test]
fn every_normaliser_is_right() {
    group("normaliser");
}

#[test]
fn every_split_is_right() {
    group("splits");
}

#[test]
fn every_shared_prefix_is_right() {
    group("prefix");
}

#[test]
fn every_merge_is_right() {
    group("merge");
}

#[test]
fn every_neighborhood_is_right() {
    group("neighborhood");
}

#[test]
fn every_mixture_of_experts_is_right() {
    group("moe");
}

#[test]
fn every_matmul_is_right() {
    group("matmul");
}

/// Runs every tile set that a device takes for these cases.
fn every_tile_set(engine: &Engine, pattern: &str) {
    let mut failures = Vec::new();
    for case in find_cases(pattern) {
        let trial = Trial::new(&case).unwrap_or_else(|error| panic!("{}: {error}", case.name));
        let candidates = trial.candidates(engine.limits()).unwrap();
        assert!(!candidates.is_empty(), "{}", case.name);
        for tiles in candidates {
            failures
                .extend(trial.run(engine, Some(tiles)).err().map(|failure| failure.to_string()));
        }
    }
    assert!(failures.is_empty(), "{} failures\n{}", failures.len(), failures.join("\n"));
}

#[test]
fn every_tile_set_is_right_at_dim_40() {
    every_tile_set(engine(), "length/causal_q131_kv131");
}

#[test]
fn every_tile_set_is_right_at_dim_64() {
    every_tile_set(engine(), "heads/6_of_2_q37");
}

#[test]
fn every_tile_set_is_right_in_halves() {
    every_tile_set(engine(), "half/f16_64_64");
}

/// Halves in all that a problem can have beside them; pairs of columns, which no candidate has, write half a vector.
#[test]
fn half_stages_are_right() {
    let pair = r#"{"family": "workgroup", "tile_q": 32, "tile_kv": 16, "rows": 4, "cols": 2, "head_chunk": 16, "key_chunk": 8, "half": true}"#;
    let pair = CaseTiles::Attention(serde_json::from_str(pair).unwrap());
    let patterns = [
        "half/f16_7_7",
        "half/f16_80_40",
        "half/f16_odd_splits",
        "layout/odd_bshd_f16_7",
        "magnitude/*_f16",
        "gate/f16_*",
        "score/sides_f16_odd",
        "packed/f16_sides",
        "paged/f16_*",
        "splits/f16_causal",
        "neighborhood/f16*",
    ];
    let mut failures = Vec::new();
    let cases = patterns.iter().flat_map(|pattern| find_cases(pattern));
    for (index, case) in cases.enumerate().filter(|_| engine().limits().f16) {
        let trial = Trial::new(&case).unwrap_or_else(|error| panic!("{}: {error}", case.name));
        let mut tiles = trial.candidates(engine().limits()).unwrap();
        tiles.retain(|tiles| tiles.to_string().contains(r#""half":true"#));
        assert!(!tiles.is_empty(), "{}", case.name);
        if matches!(trial.problem, AnyProblem::Attention(_)) {
            tiles.push(pair);
        }
        let tiles = Some(tiles[index % tiles.len()]);
        failures.extend(trial.run(engine(), tiles).err().map(|failure| failure.to_string()));
    }
    assert!(failures.is_empty(), "{} failures\n{}", failures.len(), failures.join("\n"));
}

#[test]
fn every_tile_set_is_right_for_wide_heads() {
    every_tile_set(engine(), "dims/256_256");
    every_tile_set(engine(), "dims/576_512");
}

#[test]
fn every_tile_set_is_right_with_a_map_of_tiles_and_a_bias() {
    every_tile_set(engine(), "mask/documents_and_causal");
    every_tile_set(engine(), "score/bias_many_rows");
}

#[test]
fn checked_kernels_are_right() {
    let patterns = [
        "mask/causal",
        "mask/wgsl",
        "half/f16_7_7",
        "splits/decode_3",
        "prefix/decode",
        "score/alibi_bias_softcap_wgsl",
    ];
    let cases: Vec<Case> = patterns.iter().flat_map(|pattern| find_cases(pattern)).collect();
    all_right(checked_engine(), &cases);
}

#[test]
fn at_the_floor_of_webgpu_all_is_right() {
    let engine = floor_engine();
    assert_eq!((engine.limits().workgroup_bytes, engine.limits().storage_buffers), (16 << 10, 8));
    assert_eq!(engine.limits().subgroup, None);
    let cases: Vec<Case> =
        cases().into_iter().filter(|case| case.core && case.group() != "merge").collect();
    all_right(engine, &cases);
}

#[test]
fn at_the_floor_every_tile_set_is_right() {
    every_tile_set(floor_engine(), "length/causal_q131_kv131");
}
