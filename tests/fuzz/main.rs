//! Problems, devices and tiles drawn at random: whatever is asked for, a plan fits its device or is refused by name.
//!
//! `TILEWISE_FUZZ_CASES` sets how many problems of each operator are drawn; without it they are few and always the same.

mod attention;
mod check;
mod device;
mod draw;
mod limits;
mod matmul;
mod moe;
mod neighborhood;

use proptest::prelude::*;
use proptest::test_runner::RngSeed;

use crate::check::hold_plans;
use crate::draw::{Asked, Draw};

/// Problems of each operator where nothing else is asked for.
const FEW: u32 = 150;

fn config() -> ProptestConfig {
    let asked = std::env::var("TILEWISE_FUZZ_CASES").ok().and_then(|cases| cases.parse().ok());
    ProptestConfig {
        cases: asked.unwrap_or(FEW),
        rng_seed: if asked.is_some() { RngSeed::Random } else { RngSeed::Fixed(20) },
        failure_persistence: None,
        max_shrink_iters: 400,
        ..ProptestConfig::default()
    }
}

/// Numbers that a draw takes one after the other, zeros behind them: what shrinks is simpler.
fn tape() -> impl Strategy<Value = Vec<u32>> {
    prop::collection::vec(any::<u32>(), 160)
}

fn hold(tape: &[u32], question: fn(&mut Draw<'_>) -> Asked) {
    let mut draw = Draw::new(tape);
    let asked = question(&mut draw);
    hold_plans(&mut draw, &asked);
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn every_plan_of_attention_fits_or_is_refused(tape in tape()) {
        hold(&tape, attention::attention);
    }

    #[test]
    fn every_plan_of_a_merge_fits_or_is_refused(tape in tape()) {
        hold(&tape, attention::merge);
    }

    #[test]
    fn every_plan_of_a_neighborhood_fits_or_is_refused(tape in tape()) {
        hold(&tape, neighborhood::fused);
    }

    #[test]
    fn every_plan_of_a_neighborhoods_halves_fits_or_is_refused(tape in tape()) {
        hold(&tape, neighborhood::halves);
    }

    #[test]
    fn every_plan_of_a_matmul_fits_or_is_refused(tape in tape()) {
        hold(&tape, matmul::matmul);
    }

    #[test]
    fn every_plan_of_a_mixture_fits_or_is_refused(tape in tape()) {
        hold(&tape, moe::mixture);
    }
}
