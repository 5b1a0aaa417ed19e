//! Neighborhood attention in one, two and three dimensions: a query attends to the keys of a window around it.
//!
//! `out[x] = softmax(softmax_scale · q[x] · k[y]) v[y]` over the `y` that the window of `x` holds on every axis, and the
//! extra tokens, which every query sees. q, k, v and out are heads-last, `[batch, X0 (, X1 (, X2)), heads, dim]`.
//!
//! Each axis alone has an extent, a window, a stride, a dilation and may be causal. With window 5:
//!
//! ```text
//! stride 1            · ● ● ◉ ● ● · ·        the window slides with the query ◉
//! stride 1, border    ◉ ● ● ● ● · · ·        and shifts inward at borders (border "shift")
//! causal              ● ● ● ● ◉ · · ·        or ends at the query
//! dilation 2          ● · ● · ◉ · ● · ●      a query sees its own class of every second token
//! stride 5 = window   ● ◉ ● ● ● | · · ·      blocked attention: groups of 5 share a window
//! ```
//!
//! Papers: Neighborhood Attention Transformer (Hassani et al., 2022), Dilated Neighborhood Attention Transformer
//! (Hassani and Shi, 2022), Generalized Neighborhood Attention (Hassani et al., 2025), whose stride, leader and
//! simulator these are.

mod axes;
mod bind;
mod kernel;
mod modifiers;
mod plan;
mod problem;
mod reference;
mod score;
mod simulate;
mod slots;
mod snippets;
mod spec;
mod tiles;
mod window;

pub use crate::snippet::Snippet;
pub use problem::{NeighborhoodExtents, NeighborhoodProblem, TensorDescs};
pub use reference::{NeighborhoodReference, plain, reference};
pub use score::NeighborhoodScore;
pub use simulate::{BoxChoice, Simulation, StrideChoice, search_boxes, search_strides, simulate};
pub use slots::{
    AggregateReference, NeighborhoodAggregateProblem, NeighborhoodAggregateSpec,
    NeighborhoodScoresProblem, NeighborhoodScoresSpec, SlotTiles, aggregate_reference,
    scores_reference,
};
pub use spec::{Border, NeighborhoodOutput, NeighborhoodSpec};
pub use tiles::{NeighborhoodTiles, TileBox};
pub use window::Axis;
