//! The scratch buffers of a plan.

use crate::gpu::recording;
use crate::matmul::ByteRows;
use crate::moe::problem::MoeProblem;
use crate::moe::spec::MoeOutput;

/// Bytes of scratch that a kernel binds at least: what stands in for an empty tensor may not be both read and written.
pub(super) const LEAST_BOUND: u64 = 16;

/// Scratch buffers of a plan, by what they hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(usize)]
pub(super) enum Scratch {
    /// Words in [`Sections`].
    Routing,
    /// f32 `[pairs]`.
    Weights,
    /// f32 `[tokens, router columns]`.
    Logits,
    /// f32 `[rows, expert_dim or shared_dim]`.
    Hidden,
    /// f32 `[rows, model_dim]`.
    Given,
    /// f32 `[tokens, model_dim]`: what the shared expert gave.
    Shared,
    /// f32 `[tokens]`: the shared expert's gate before its sigmoid.
    SharedGate,
    /// f32 `[experts · slots, model_dim]`: inputs of a soft router's slots.
    Slots,
    /// Tokens or slots as bytes, where they are rounded.
    Rounded,
    /// Hidden rows as bytes.
    RoundedHidden,
    /// f32 pairs: maximum and inverse sum of slots, then of tokens; for losses of tokens, then a term an expert.
    Stats,
    /// Words: what shares a binding.
    Packed,
}

impl Scratch {
    /// Every buffer, in the order of their numbers.
    pub const ALL: [Self; 12] = [
        Self::Routing,
        Self::Weights,
        Self::Logits,
        Self::Hidden,
        Self::Given,
        Self::Shared,
        Self::SharedGate,
        Self::Slots,
        Self::Rounded,
        Self::RoundedHidden,
        Self::Stats,
        Self::Packed,
    ];

    /// A name for people.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Routing => "routing",
            Self::Weights => "weights",
            Self::Logits => "router logits",
            Self::Hidden => "hidden rows",
            Self::Given => "given rows",
            Self::Shared => "shared expert",
            Self::SharedGate => "shared gate",
            Self::Slots => "slots",
            Self::Rounded => "rounded tokens",
            Self::RoundedHidden => "rounded hidden rows",
            Self::Stats => "statistics",
            Self::Packed => "packed operands",
        }
    }

    /// What makes it smaller.
    pub const fn way_out(self) -> &'static str {
        match self {
            Self::Routing | Self::Weights | Self::Stats => "fewer tokens a call make it smaller",
            Self::Packed => "a device with more storage buffers a stage does without",
            Self::Given | Self::Slots | Self::Hidden | Self::RoundedHidden | Self::Rounded => {
                "fewer experts a call make it smaller: expert_range"
            }
            Self::Logits | Self::Shared | Self::SharedGate => {
                "a device with larger bindings takes it"
            }
        }
    }

    /// Whether it grows with the tokens that are computed together.
    pub fn is_by_token(self, problem: &MoeProblem) -> bool {
        let (soft, shared) = (problem.extents.slots > 0, problem.extents.shared_dim > 0);
        match self {
            Self::Logits | Self::Shared | Self::SharedGate => true,
            Self::Given => !soft,
            Self::Hidden | Self::Rounded | Self::RoundedHidden => !soft || shared,
            Self::Routing | Self::Weights | Self::Slots | Self::Stats | Self::Packed => false,
        }
    }

    /// Bytes that a problem needs, of which so many tokens are computed together, and whose routing and packed operands have so
    /// many words.
    fn bytes(
        self,
        problem: &MoeProblem,
        [routing_words, packed_words]: [u64; 2],
        span_tokens: u32,
    ) -> u64 {
        let e = &problem.extents;
        let [tokens, columns] = [span_tokens, e.router_columns()].map(u64::from);
        let rows = problem.most_rows_of(span_tokens);
        let (computes, shared, soft) =
            (problem.wants(MoeOutput::Out), e.shared_dim > 0, e.slots > 0);
        let model = u64::from(padded(e.model_dim));
        let floats =
            |has: bool, elements: u64| if has { (4 * elements).max(LEAST_BOUND) } else { 0 };
        match self {
            Self::Routing => 4 * routing_words,
            Self::Weights => 4 * u64::from(e.routed()) * u64::from(e.top_k),
            Self::Logits => {
                let computed = problem.has("router_w") || problem.has("phi");
                floats(computed && !problem.has("router_logits"), tokens * columns)
            }
            Self::Hidden => {
                let experts = rows * u64::from(padded(e.expert_dim));
                floats(computes, experts.max(tokens * u64::from(padded(e.shared_dim))))
            }
            Self::Given => floats(computes, rows * model),
            Self::Shared => floats(computes && shared, tokens * model),
            Self::SharedGate => floats(problem.has("shared_gate_w"), tokens),
            Self::Slots => floats(computes && soft, rows * model),
            Self::Rounded => {
                // The shared expert takes the tokens too.
                let slots = rounded_bytes(problem, rows, e.model_dim);
                let inputs = rounded_bytes(problem, tokens, e.model_dim);
                match (soft, shared) {
                    (true, true) => slots.max(inputs),
                    (true, false) => slots,
                    (false, _) => inputs,
                }
            }
            // The shared expert is done with its hidden rows before the others begin.
            Self::RoundedHidden => rounded_bytes(problem, rows, e.expert_dim).max(rounded_bytes(
                problem,
                tokens,
                e.shared_dim,
            )),
            Self::Stats => {
                let lines = columns + u64::from(e.tokens);
                floats(soft || problem.wants_losses(), 2 * lines)
            }
            Self::Packed => 4 * packed_words,
        }
    }
}

/// Bytes that rows take once they are rounded, where that is asked for.
fn rounded_bytes(problem: &MoeProblem, rows: u64, dim: u32) -> u64 {
    match problem.spec.quantise_activations {
        Some(_) if problem.wants(MoeOutput::Out) => ByteRows::size(rows, dim).max(LEAST_BOUND),
        _ => 0,
    }
}

/// Bytes of every buffer.
pub(super) fn scratch_bytes(
    problem: &MoeProblem,
    words: [u64; 2],
    span_tokens: u32,
) -> [u64; Scratch::ALL.len()] {
    Scratch::ALL.map(|scratch| scratch.bytes(problem, words, span_tokens))
}

/// The buffers of these sizes with names for people.
pub(super) fn scratch_buffers(bytes: [u64; Scratch::ALL.len()]) -> Vec<recording::Scratch> {
    let sized = |bytes: u64| if bytes == 0 { 0 } else { bytes.max(LEAST_BOUND) };
    let named = Scratch::ALL.into_iter().zip(bytes);
    let buffer = |(scratch, bytes): (Scratch, u64)| recording::Scratch {
        name: scratch.name(),
        bytes: sized(bytes),
    };
    named.map(buffer).collect()
}

/// Row lengths of scratch matrices: whole vectors of four.
pub(super) const fn padded(dim: u32) -> u32 {
    dim.next_multiple_of(4)
}
