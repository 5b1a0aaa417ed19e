//! The suite with all runtime checks on. Its small cases run every kernel between them.

use std::collections::BTreeMap;

use super::case::Case;
use super::cases::find_cases;
use super::run::Trial;
use super::tiles::CaseTiles;
use crate::error::Error;
use crate::gpu::limits::GpuLimits;

/// Cases whose tile sets are all run. An operator has one for each type of operands that its tiles depend on.
const OF_TILES: [&str; 10] = [
    "length/causal_q131_kv131",
    "half/f16_64_64",
    "neighborhood/two_axes",
    "neighborhood/f16",
    "matmul/bias",
    "matmul/f16_bias",
    "matmul/mxint8_q8_0_70x96",
    "moe/mixtral",
    "moe/f16",
    "moe/mxint8",
];

/// Cases that bring other fragments and other kernels, with a tile set each.
const OF_FRAGMENTS: [&str; 40] = [
    "splits/decode_3",
    "splits/f16_causal",
    "mask/sinks_and_window",
    "mask/prefix_or_causal",
    "mask/counts_by_tensor",
    "mask/packed_per_head",
    "mask/documents_and_causal",
    "mask/blocks_causal",
    "mask/wgsl_shared_decode",
    "kv_lens/causal",
    "score/alibi_bias_softcap_wgsl",
    "normaliser/sink_splits",
    "normaliser/sigmoid",
    "prefix/queries",
    "gate/every_side",
    "packed/by_map",
    "packed/f16_splits",
    "paged/window",
    "paged/sides",
    "layout/bshd_odd_bf16_7",
    "merge/f32_64",
    "merge/bf16_odd",
    "neighborhood/extra",
    "neighborhood/circle_bias_softcap",
    "neighborhood/all",
    "neighborhood/blocks_idle_rows",
    "neighborhood/scores_clip",
    "neighborhood/aggregate_bf16",
    "matmul/q4_0_3x96",
    "matmul/mxfp4_pair_70",
    "matmul/bf16_q8_0",
    "moe/deepseek_v3",
    "moe/gpt_oss",
    "moe/expert_choice_masked",
    "moe/soft",
    "moe/external_capacity",
    "moe/null_experts_capacity",
    "moe/router_alone",
    "moe/f16_odd",
    "moe/shared_gate",
];

/// How many of a case's tile sets are run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TileSets {
    /// Every one.
    Every,
    /// The smallest of each family.
    OneOfFamily,
}

/// A case of those with checks, and the tiles that it runs with.
#[derive(Clone, Debug)]
pub struct CheckedTrial {
    /// The case with its inputs and outputs.
    pub trial: Trial,
    /// Its tile sets. `None` is for an operator that has but one.
    pub tiles: Vec<Option<CaseTiles>>,
}

/// The small cases for a device with these limits, with inputs of a seed.
///
/// # Errors
/// As [`Trial::new`] and [`Trial::candidates`].
pub fn checked_trials(
    limits: &GpuLimits,
    sets: TileSets,
    seed: u64,
) -> Result<Vec<CheckedTrial>, Error> {
    let of_tiles = OF_TILES.into_iter().map(|name| (name, true));
    let of_fragments = OF_FRAGMENTS.into_iter().map(|name| (name, false));
    let mut trials = Vec::new();
    for (index, (name, all)) in of_tiles.chain(of_fragments).enumerate() {
        for case in find_cases(name) {
            let trial = Trial::new(&Case { seed, ..case })?;
            let candidates = trial.candidates(limits)?;
            let families = smallest_of_families(&candidates);
            let tiles = match (all, sets) {
                _ if candidates.is_empty() => vec![None],
                (true, TileSets::Every) => candidates.into_iter().map(Some).collect(),
                (true, TileSets::OneOfFamily) => families.into_iter().map(Some).collect(),
                // Families in turn, so that fragments meet all of them between the cases.
                (false, _) => vec![Some(families[index % families.len()])],
            };
            trials.push(CheckedTrial { trial, tiles });
        }
    }
    Ok(trials)
}

/// Of each family the set of fewest rows, which compiles fastest.
fn smallest_of_families(candidates: &[CaseTiles]) -> Vec<CaseTiles> {
    let mut smallest: BTreeMap<&str, CaseTiles> = BTreeMap::new();
    for tiles in candidates {
        let known = smallest.entry(tiles.family()).or_insert(*tiles);
        if tiles.rows() < known.rows() {
            *known = *tiles;
        }
    }
    smallest.into_values().collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::gpu::limits::SubgroupSizes;
    use crate::verify::cases::cases;
    use crate::verify::tiles::candidates;

    #[test]
    fn every_name_is_one_of_a_case_and_every_operator_has_one() {
        let names = OF_TILES.iter().chain(&OF_FRAGMENTS);
        let operators: BTreeSet<&str> = names
            .map(|name| {
                let [case] = &find_cases(name)[..] else { panic!("{name}") };
                case.problem().unwrap().operator()
            })
            .collect();
        let all = cases();
        let all = all.iter().map(|case| case.problem().unwrap().operator());
        assert_eq!(operators, all.collect());
    }

    #[test]
    fn the_cases_of_tiles_have_every_family_that_any_case_has() {
        let gpu = GpuLimits {
            workgroup_bytes: 64 << 10,
            workgroup_invocations: 1024,
            subgroup: Some(SubgroupSizes { least: 32, most: 32 }),
            f16: true,
            matrix: Some(16),
            ..GpuLimits::floor()
        };
        let of_tiles: Vec<Case> = OF_TILES.iter().flat_map(|name| find_cases(name)).collect();
        for limits in [GpuLimits::floor(), gpu] {
            let families = |case: &Case| {
                let problem = case.problem().unwrap();
                let tiles = candidates(&problem, &limits).unwrap().into_iter();
                tiles.map(move |tiles| (problem.operator(), tiles.family())).collect::<Vec<_>>()
            };
            let of = |cases: &[Case]| -> BTreeSet<(&str, &str)> {
                cases.iter().flat_map(families).collect()
            };
            assert_eq!(of(&of_tiles), of(&cases()));
        }
    }
}
