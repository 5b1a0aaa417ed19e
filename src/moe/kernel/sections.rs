//! Where the parts of the routing buffer begin.

use super::context::lists_candidates;
use super::cuts::Cuts;
use crate::error::PlanError;
use crate::matmul::MatmulTiles;
use crate::moe::extents::MoeExtents;
use crate::moe::problem::MoeProblem;

/// Pairs of token and expert that a workgroup counts and places.
pub(super) const BLOCK_PAIRS: u32 = 256;

/// Where the parts of the routing buffer begin, in words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Sections {
    /// `[dispatches, parts, 4]`: workgroups of the experts' first matmuls.
    pub up_grid: u32,
    /// `[dispatches, parts, 4]`: of the second ones.
    pub down_grid: u32,
    /// `[choices]`: rows; of a null expert its pairs.
    pub counts: u32,
    /// `[experts + 1]`: first rows.
    pub offsets: u32,
    /// `[experts + 1]`: first tiles.
    pub tile_first: u32,
    /// `[selectors · sequences]`: pairs dropped.
    pub drops: u32,
    /// `[pairs]`: the chosen expert.
    pub ids: u32,
    /// `[pairs]`: the same where the capacity has room; without a capacity the same words.
    pub experts: u32,
    /// `[pairs]`: a pair's row.
    pub pair_rows: u32,
    /// `[rows]`: a row's pair, of a part of the tokens or of all.
    pub row_pairs: u32,
    /// `[choices, blocks]`: counts, then pairs in the blocks before.
    pub table: u32,
    /// `[tiles, 3]`: expert, first row, end of rows.
    pub tiles: u32,
    /// Words in all.
    pub words: u64,
}

impl Sections {
    /// The parts of a problem that is cut so.
    pub fn of(problem: &MoeProblem, cuts: Cuts, tiles: MatmulTiles) -> Result<Self, PlanError> {
        let MoeExtents { experts, top_k, .. } = problem.extents;
        let [experts, choices] = [experts, problem.extents.choices()].map(u64::from);
        let pairs = u64::from(problem.extents.routed()) * u64::from(top_k);
        let local = u64::from(problem.extents.local_experts());
        let most_tiles = problem.most_tiles(tiles.tile_rows(), local, cuts.span_tokens);
        let capacity = problem.capacity();
        let listed = listed(problem, cuts);
        let parts = cuts.parts(problem).map(|parts| u64::from(cuts.count()) * u64::from(parts));
        let mut words = 0_u64;
        let mut section = |length: u64| {
            let first = words;
            words = words.saturating_add(length);
            first as u32
        };
        let up_grid = section(4 * parts[0]);
        let down_grid = section(4 * parts[1]);
        let counts = section(choices);
        let offsets = section(experts + 1);
        let tile_first = section(experts + 1);
        let drops = section(capacity.map_or(0, |c| u64::from(c.sequences) * choices));
        let ids = section(pairs);
        let all = Self {
            up_grid,
            down_grid,
            counts,
            offsets,
            tile_first,
            drops,
            ids,
            experts: if capacity.is_some() { section(pairs) } else { ids },
            pair_rows: section(pairs),
            row_pairs: section(listed.rows),
            table: section(choices.saturating_mul(listed.pairs.div_ceil(u64::from(BLOCK_PAIRS)))),
            tiles: section(most_tiles.saturating_mul(3)),
            words: 0,
        };
        check_words(words)?;
        Ok(Self { words, ..all })
    }
}

/// What is given places at once, at most.
struct Listed {
    rows: u64,
    pairs: u64,
}

/// The most of it: all pairs where their places are asked for, or where a capacity looks them up, else those of a part.
fn listed(problem: &MoeProblem, cuts: Cuts) -> Listed {
    let e = &problem.extents;
    let pairs = u64::from(e.routed()) * u64::from(e.top_k);
    let tokens = cuts.span_tokens.min(e.tokens);
    if lists_candidates(problem) {
        return Listed { rows: pairs, pairs };
    }
    if tokens == e.tokens || e.slots > 0 || problem.lists_places() {
        return Listed { rows: problem.most_rows(), pairs };
    }
    Listed { rows: problem.most_rows_of(tokens), pairs: u64::from(tokens) * u64::from(e.top_k) }
}

/// Kernels address the buffer by u32.
fn check_words(words: u64) -> Result<(), PlanError> {
    if words <= u64::from(u32::MAX) {
        return Ok(());
    }
    Err(PlanError::Limit {
        what: "the routing of all tokens (fewer a call make it smaller)".to_owned(),
        limit: "words that kernels can address",
        needed: words,
        available: u64::from(u32::MAX),
    })
}
