//! The two halves of neighborhood attention apart, for models that work on the scores between them.
//!
//! A window of `W0 × W1 × …` keys has that many slots, row-major. Slot `j` of an axis stands for key `start + j` of the
//! rule's text; a slot whose key the query does not see (what causal axes and clipped borders drop) has score −∞, and its
//! weight counts nothing. Scores, a softmax over the slots and the aggregate are fused neighborhood attention.
//!
//! Paper: Neighborhood Attention Transformer (Hassani et al., 2022), whose first implementations are these two.

mod context;
mod kernel;
mod plan;
mod problem;
#[cfg(feature = "reference")]
mod reference;
mod spec;

pub use plan::SlotTiles;
pub use problem::{NeighborhoodAggregateProblem, NeighborhoodScoresProblem};
#[cfg(feature = "reference")]
pub use reference::{AggregateReference, aggregate_reference, scores_reference};
pub use spec::{NeighborhoodAggregateSpec, NeighborhoodScoresSpec};
