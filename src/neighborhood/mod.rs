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
//! group_offset 2      ● ◉ | · · · · · | ·    the same, groups beginning at 2, border "clip": Swin's shifted windows
//! ```
//!
//! # The rule, for each axis
//!
//! Extent X, window W, stride s, group_offset o (from 0 to below s), dilation d, causal:
//!
//! ```text
//! token x lies in class g = x mod d with in-class index i = x div d; class length L = ceil((X - g) / d)
//! a query sees only keys of its own class; below all are in-class indices
//! group  = o + floor((i - o) / s) * s         may begin before 0: the border cuts it
//! causal:     leader = min(group + s - 1, L - 1)
//!             start  = max(leader - (W - 1), 0);              keys [start, min(i + 1, L))
//! shift:      leader = clamp(group + s div 2, 0, L - 1)
//!             start  = clamp(leader - W div 2, 0, L - W);     keys [start, start + W)
//! clip:       leader = group + s div 2                        may lie outside
//!             start  = leader - W div 2;                      keys [max(start, 0), min(start + W, L))
//! key position = g + d * j
//! ```
//!
//! `shift` and `clip` are the two borders of an axis that is not causal. `shift` gives every query W keys, so that W · d is
//! at most X. `clip` keeps the window around its leader and drops what lies outside. Groups are laid as if the tensor went
//! on: the middle of one that the border cuts is not moved inside. So blocks (s = W) stay aligned with `clip`, and with o > 0
//! are exactly Swin's shifted windows (o is its `shift_size`), with the smaller groups at both borders that its masked roll
//! makes. Causal and clipped windows may reach beyond the axis: they are what there is of them.
//!
//! With windows by head (`head_windows`) the rule is applied with each head's W.
//!
//! # Functions of the caller
//!
//! ```wgsl
//! fn mask_mod(b: u32, h: u32, q: vec2<u32>, kv: vec2<u32>) -> bool {         // a circle within the window
//!     let away = vec2<i32>(kv) - vec2<i32>(q);
//!     return dot(away, away) <= 36;
//! }
//! fn score_mod(score: f32, b: u32, h: u32, q: vec2<u32>, kv: vec2<u32>) -> f32 {   // relative position bias
//!     let at = kv + 6u - q;                                                  // window 7: 0 to 12 along each axis
//!     return score + rel[(h * 13u + at.x) * 13u + at.y];
//! }
//! ```
//!
//! `q` and `kv` are tokens (not in-class indices), with a coordinate for each axis in the order of the tensor's: u32
//! with one axis, `vec2<u32>` with two, `vec3<u32>` with three. `h` is the query head. They are asked about keys of the
//! window alone; extra tokens, which lie nowhere, are always seen and only a softcap changes their scores. A query that
//! sees no key gives out 0 and lse −∞.
//!
//! Sinks, a bias, gates by head, and sigmoid weights are those of [`attention`](crate::attention).
//!
//! # Papers
//!
//! Neighborhood Attention Transformer (Hassani et al., 2022), Dilated Neighborhood Attention Transformer
//! (Hassani and Shi, 2022), Generalized Neighborhood Attention (Hassani et al., 2025), whose stride, leader and
//! simulator these are. Swin Transformer (Liu et al., 2021), the shifted windows.

mod axes;
mod bind;
mod extents;
mod kernel;
mod operator;
mod problem;
#[cfg(feature = "reference")]
mod reference;
mod roles;
mod shapes;
mod simulate;
mod slots;
mod snippets;
mod spec;
mod tiles;
mod window;

pub use crate::fused::{Normaliser, ScoreModifier};
pub use crate::snippet::Snippet;
pub use extents::NeighborhoodExtents;
pub use problem::{NeighborhoodProblem, TensorDescs};
#[cfg(feature = "reference")]
pub use reference::{NeighborhoodReference, plain, reference};
pub use simulate::{BoxChoice, Simulation, StrideChoice, search_boxes, search_strides, simulate};
#[cfg(feature = "reference")]
pub use slots::{AggregateReference, aggregate_reference, scores_reference};
pub use slots::{
    NeighborhoodAggregateProblem, NeighborhoodAggregateSpec, NeighborhoodScoresProblem,
    NeighborhoodScoresSpec, SlotTiles,
};
pub use spec::{NeighborhoodOutput, NeighborhoodSpec};
pub use tiles::{NeighborhoodTiles, TileBox};
pub use window::{Axis, Border};
