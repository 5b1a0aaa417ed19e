//! The kernel of a capacity: which pairs of an expert and a sequence stay.

use std::ops::Range;

use super::bindings::bind_routing;
use super::context::Context;
use super::launch::{close, in_spans, kernel};
use super::place::{self, Purpose};
use super::scratch::Scratch;
use crate::error::PlanError;
use crate::gpu::recording::Step;
use crate::kernel::source::add_fragment;
use crate::moe::routing::{Capacity, Priority, Router};

/// What a capacity binds, of what is computed here: experts with weights, and null ones where experts choose.
pub(super) fn selectors(context: &Context<'_>) -> Range<u32> {
    let e = &context.problem.extents;
    match context.problem.spec.router {
        Router::ExpertChoice { .. } => e.expert_start..e.local_end(),
        _ => e.expert_start..e.expert_end,
    }
}

/// Sequences that have a capacity of their own; 0 without a capacity.
pub(super) fn sequences(context: &Context<'_>) -> u32 {
    context.problem.capacity().map_or(0, |capacity| capacity.sequences)
}

/// What the capacity leaves of every expert and sequence.
pub(super) fn select(context: &Context<'_>) -> Result<Vec<Step>, PlanError> {
    let sequences = sequences(context).max(1);
    let selections = selectors(context).len() as u64 * u64::from(sequences);
    let lists = context.lists_candidates();
    let mut steps = match lists {
        true => place::apart(&context.of_candidates(), Purpose::Lists)?,
        false => Vec::new(),
    };
    // Six walks over the candidates of a sequence.
    let shared = if lists { f64::from(context.problem.extents.choices()) } else { 1.0 };
    let flops = 6.0 * 8.0 * f64::from(context.pairs()) / f64::from(sequences) / shared;
    steps.extend(in_spans(context, "capacity", selections, flops, |first, grid| {
        select_span(context, first, grid)
    })?);
    Ok(steps)
}

/// One dispatch of it.
fn select_span(context: &Context<'_>, first: u32, grid: [u32; 3]) -> Result<Step, PlanError> {
    /// Lanes of a workgroup, more where it looks at the pairs of every expert.
    const LANES: [u32; 2] = [256, 64];
    let e = &context.problem.extents;
    let lists = context.lists_candidates();
    let lanes = LANES[usize::from(lists)];
    let every = matches!(context.problem.spec.router, Router::ExpertChoice { .. });
    let capacity = context.problem.capacity().unwrap_or(Capacity {
        rows: u32::MAX,
        sequences: 1,
        priority: Priority::TokenOrder,
    });
    let (by_slot, by_score) = match capacity.priority {
        Priority::TokenOrder => (false, false),
        Priority::ChoiceOrder => (true, false),
        Priority::Score => (false, true),
        Priority::BestScore => (true, true),
    };
    let sequence_tokens = e.tokens / capacity.sequences;
    let mut source = kernel(lanes);
    bind_routing(context, &mut source, true)?;
    source.bind("weights", "f32", false, context.scratch(Scratch::Weights)?);
    let selectors = selectors(context);
    source.const_u32("CHOICES", e.choices());
    source.const_u32("TOP_K", e.top_k);
    source.const_bool("EVERY", every);
    source.const_bool("LISTED", lists);
    source.const_bool("BY_SLOT", by_slot);
    source.const_bool("BY_SCORE", by_score);
    source.params.u32("place_first", first);
    source.params.u32("capacity", capacity.rows);
    source.params.u32("sequence_tokens", sequence_tokens);
    source.params.u32("selectors", selectors.len() as u32);
    source.params.u32("selections", selectors.len() as u32 * capacity.sequences);
    source.params.u32("candidates", sequence_tokens * if every { 1 } else { e.top_k });
    add_fragment!(source, "moe/sort_key.wgsl");
    add_fragment!(source, "moe/scan.wgsl");
    add_fragment!(source, "moe/select.wgsl");
    Ok(close(source, "moe_select", lanes, 4 * (256 + lanes + 5), grid))
}
