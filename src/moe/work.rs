//! How much a problem asks for, at most: rows, tiles and operations.

use super::problem::MoeProblem;
use super::routing::{Capacity, Priority, Router};
use super::spec::MoeOutput;

impl MoeProblem {
    /// Rows that an expert takes of a sequence, of whatever router.
    pub(super) fn capacity(&self) -> Option<Capacity> {
        match self.spec.router {
            Router::ExpertChoice { capacity: rows } => {
                Some(Capacity { rows, sequences: 1, priority: Priority::Score })
            }
            _ => self.spec.capacity,
        }
    }

    /// Whether anything is asked for that depends on which row a pair is given.
    pub(super) fn places(&self) -> bool {
        self.wants(MoeOutput::Out) || self.lists_places()
    }

    /// Whether anything beside `out` is.
    pub(super) fn lists_places(&self) -> bool {
        let placed = |output: &MoeOutput| match output {
            MoeOutput::Counts
            | MoeOutput::ExpertOffsets
            | MoeOutput::RowTokens
            | MoeOutput::PairRows
            | MoeOutput::Dropped
            | MoeOutput::TokenIds
            | MoeOutput::TokenWeights => true,
            MoeOutput::Out
            | MoeOutput::TopkIds
            | MoeOutput::TopkWeights
            | MoeOutput::Gates
            | MoeOutput::RouterLogits
            | MoeOutput::LoadBalancingLoss
            | MoeOutput::ZLoss => false,
        };
        self.spec.outputs.iter().any(placed)
    }

    /// Whether a loss is asked for.
    pub(super) fn wants_losses(&self) -> bool {
        self.wants(MoeOutput::LoadBalancingLoss) || self.wants(MoeOutput::ZLoss)
    }

    /// Rows that all experts compute together, at most.
    pub(super) fn most_rows(&self) -> u64 {
        self.most_rows_of(self.extents.tokens)
    }

    /// The same of so many tokens.
    pub(super) fn most_rows_of(&self, tokens: u32) -> u64 {
        let e = &self.extents;
        let local = e.local_experts();
        let pairs = match self.spec.router {
            Router::Soft { .. } => u64::from(local) * u64::from(e.slots),
            Router::External => u64::from(tokens) * u64::from(e.top_k),
            // No token chooses an expert twice.
            _ => u64::from(tokens) * u64::from(e.top_k.min(local)),
        };
        self.capacity().map_or(pairs, |Capacity { rows, sequences, .. }| {
            let places = u64::from(local) * u64::from(sequences);
            pairs.min(places.saturating_mul(rows.into()))
        })
    }

    /// Row tiles that `experts` experts have at most, of so many tokens.
    pub(super) fn most_tiles(&self, tile_rows: u32, experts: u64, tokens: u32) -> u64 {
        let rows = self.most_rows_of(tokens);
        rows / u64::from(tile_rows) + experts.min(rows)
    }

    /// Multiply-adds times two of a row's first matmul, the larger one.
    pub(super) fn row_flops(&self) -> f64 {
        let e = &self.extents;
        let parts = if self.spec.activation.is_gated() { 2.0 } else { 1.0 };
        2.0 * parts * f64::from(e.model_dim) * f64::from(e.expert_dim)
    }
}
