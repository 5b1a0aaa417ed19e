//! A mixture of experts on the CPU: the contract's formulas, literally, in f64; and the same as a plain implementation
//! in the storage type would compute it, whose error is the measure for the kernels'.

mod experts;
mod numbers;
mod routing;

use std::collections::BTreeMap;

use rayon::prelude::*;

use self::experts::Experts;
use self::numbers::Numbers;
use self::routing::{Routing, masked, route, router_logits, softmax};
use super::problem::{MoeProblem, is_expert_weights};
use super::routing::Router;
use super::spec::MoeOutput;
use crate::error::SpecError;
use crate::tensor::{Dtype, HostTensor};

/// What a mixture of experts gives, on the CPU.
#[derive(Clone, Debug, PartialEq)]
pub struct MoeReference {
    /// Every output that was asked for, by name.
    pub outputs: BTreeMap<&'static str, Vec<f64>>,
    /// `[tokens]`: the largest element that is summed into a token's row of `out`, 0 where no expert took it.
    pub row_scale: Vec<f64>,
}

/// The outputs asked for, by the formulas in f64. `inputs` are named and shaped as the problem says, without gaps.
///
/// # Errors
/// [`SpecError`] for an input that is missing or has another shape or type than the problem's.
pub fn reference(
    problem: &MoeProblem,
    inputs: &BTreeMap<String, HostTensor>,
) -> Result<MoeReference, SpecError> {
    compute(problem, inputs, None)
}

/// [`reference()`] as tensors of the problem's types.
///
/// # Errors
/// As [`reference()`].
pub fn reference_tensors(
    problem: &MoeProblem,
    inputs: &BTreeMap<String, HostTensor>,
) -> Result<BTreeMap<String, HostTensor>, SpecError> {
    let tensor = |(name, values): (&'static str, Vec<f64>)| {
        let desc = &problem.tensors[name];
        (name.to_owned(), HostTensor::from_f64(desc.dtype, desc.shape(), &values))
    };
    Ok(reference(problem, inputs)?.outputs.into_iter().map(tensor).collect())
}

/// As [`reference()`], as a plain implementation in the storage type computes it: sums and functions in f32, what
/// stands between two matmuls and each expert's result rounded to the type. The routing is the exact one.
///
/// # Errors
/// As [`reference()`].
pub fn plain(
    problem: &MoeProblem,
    inputs: &BTreeMap<String, HostTensor>,
) -> Result<MoeReference, SpecError> {
    compute(problem, inputs, Some(problem.spec.dtype))
}

/// Rows that each expert whose weights are here computes: the routing alone. `inputs` need no weights of experts.
///
/// # Errors
/// As [`reference()`].
pub fn expert_rows(
    problem: &MoeProblem,
    inputs: &BTreeMap<String, HostTensor>,
) -> Result<Vec<f64>, SpecError> {
    let e = &problem.extents;
    if let Router::Soft { slots } = problem.spec.router {
        return Ok(vec![f64::from(slots); e.local_experts() as usize]);
    }
    let mut routed = problem.clone();
    routed.spec.outputs = vec![MoeOutput::Counts];
    routed.tensors.retain(|name, _| !is_expert_weights(name) && !problem.gives(name));
    let counts = compute(&routed, inputs, None)?.outputs.remove("counts").unwrap_or_default();
    Ok(counts[e.expert_start as usize..e.expert_end as usize].to_vec())
}

/// Every output; results of matmuls are rounded to `stored`, where that is given.
fn compute(
    problem: &MoeProblem,
    inputs: &BTreeMap<String, HostTensor>,
    stored: Option<Dtype>,
) -> Result<MoeReference, SpecError> {
    let numbers = Numbers::new(problem, inputs)?;
    let logits = router_logits(problem, &numbers);
    let experts = Experts { problem, numbers: &numbers, stored };
    let routing = route(problem, &numbers, &logits);
    let rows = match problem.spec.router {
        _ if !problem.wants(MoeOutput::Out) => Vec::new(),
        Router::Soft { .. } => soft_rows(&experts, &masked(problem, &numbers, &logits)),
        _ => routed_rows(&experts, &routing),
    };
    let out_dtype = stored.map(|_| problem.out_dtype());
    let row_scale = rows.iter().map(|row| row.scale).collect();
    let out: Vec<f64> =
        rows.into_iter().flat_map(|row| row.sum).map(|v| experts::store(v, out_dtype)).collect();
    let values = |output: &MoeOutput| match output {
        MoeOutput::Out => out.clone(),
        MoeOutput::RouterLogits => logits.clone(),
        routed => routed_output(problem, *routed, &logits, &routing),
    };
    let outputs = problem.spec.outputs.iter().map(|output| (output.name(), values(output)));
    Ok(MoeReference { outputs: outputs.collect(), row_scale })
}

/// An output that the routing alone decides.
fn routed_output(
    problem: &MoeProblem,
    output: MoeOutput,
    logits: &[f64],
    routing: &Routing,
) -> Vec<f64> {
    let token = |pair| (pair / problem.extents.top_k as usize) as f64;
    match output {
        MoeOutput::Out | MoeOutput::RouterLogits => Vec::new(),
        MoeOutput::TopkIds => routing.ids.iter().map(|id| id_number(*id)).collect(),
        MoeOutput::TopkWeights => routing.weights.clone(),
        MoeOutput::Gates => routing.gates(&problem.extents),
        MoeOutput::Counts => routing.counts(problem),
        MoeOutput::ExpertOffsets => routing.offsets(problem),
        MoeOutput::RowTokens => routing.row_tokens(problem),
        MoeOutput::PairRows => routing.pair_rows(problem),
        MoeOutput::Dropped => vec![routing.dropped(problem)],
        MoeOutput::TokenIds => routing.token_lists(problem, -1.0, token),
        MoeOutput::TokenWeights => routing.token_lists(problem, 0.0, |pair| routing.weights[pair]),
        MoeOutput::LoadBalancingLoss => vec![load_balancing_loss(problem, logits, routing)],
        MoeOutput::ZLoss => vec![z_loss(problem, logits)],
    }
}

/// −1 for no expert.
fn id_number(id: Option<usize>) -> f64 {
    id.map_or(-1.0, |id| id as f64)
}

/// A token's row of out.
struct Row {
    sum: Vec<f64>,
    scale: f64,
}

impl Row {
    fn zero(length: usize) -> Self {
        Self { sum: vec![0.0; length], scale: 0.0 }
    }

    fn add(&mut self, weight: f64, values: &[f64]) {
        for (sum, value) in self.sum.iter_mut().zip(values) {
            *sum += weight * value;
            self.scale = self.scale.max((weight * value).abs());
        }
    }
}

/// Rows of out where tokens go to experts.
fn routed_rows(experts: &Experts<'_>, routing: &Routing) -> Vec<Row> {
    let e = &experts.problem.extents;
    let top_k = e.top_k as usize;
    let token_row = |token: usize| {
        let mut row = Row::zero(e.model_dim as usize);
        let x = experts.token(token);
        for pair in token * top_k..(token + 1) * top_k {
            if let Some(expert) = routing.computed(experts.problem, pair) {
                let (before, after) = experts.weights(routing.weights[pair]);
                row.add(after, &experts.expert(expert, x, before));
            }
        }
        if let Some((weight, values)) = experts.shared(x) {
            row.add(weight, &values);
        }
        row
    };
    (0..e.tokens as usize).into_par_iter().map(token_row).collect()
}

/// Every slot takes the softmax over tokens of the tokens, every token the softmax over slots of what they give.
fn soft_rows(experts: &Experts<'_>, logits: &[f64]) -> Vec<Row> {
    let e = &experts.problem.extents;
    let (tokens, dim, slots) =
        (e.tokens as usize, e.model_dim as usize, e.router_columns() as usize);
    let slot_output = |slot: usize| {
        let column: Vec<f64> = (0..tokens).map(|token| logits[token * slots + slot]).collect();
        let mut input = Row::zero(dim);
        let weights = softmax(&column).into_iter().enumerate();
        for (token, weight) in weights.filter(|(token, _)| column[*token] != f64::NEG_INFINITY) {
            input.add(weight, experts.token(token));
        }
        experts.expert(slot / e.slots as usize, &input.sum, 1.0)
    };
    let local = (e.expert_start * e.slots) as usize..(e.expert_end * e.slots) as usize;
    let given: Vec<Vec<f64>> = local.clone().into_par_iter().map(slot_output).collect();
    let token_row = |token: usize| {
        let mut row = Row::zero(dim);
        let line = &logits[token * slots..(token + 1) * slots];
        let weights = softmax(line);
        for (slot, values) in local.clone().zip(&given) {
            if line[slot] != f64::NEG_INFINITY {
                row.add(weights[slot], values);
            }
        }
        if let Some((weight, values)) = experts.shared(experts.token(token)) {
            row.add(weight, &values);
        }
        row
    };
    (0..tokens).into_par_iter().map(token_row).collect()
}

/// Switch Transformer's loss: fractions of pairs times mean probabilities.
fn load_balancing_loss(problem: &MoeProblem, logits: &[f64], routing: &Routing) -> f64 {
    let (tokens, experts) = (f64::from(problem.extents.tokens), problem.extents.choices() as usize);
    if tokens == 0.0 {
        return 0.0;
    }
    let mut probability = vec![0.0; experts];
    for row in logits.chunks_exact(experts) {
        for (sum, p) in probability.iter_mut().zip(softmax(row)) {
            *sum += p / tokens;
        }
    }
    let mut fraction = vec![0.0; experts];
    for id in routing.ids.iter().flatten() {
        fraction[*id] += 1.0 / tokens;
    }
    let sum: f64 = fraction.iter().zip(&probability).map(|(f, p)| f * p).sum();
    sum * experts as f64
}

/// The mean squared logsumexp of the logits.
fn z_loss(problem: &MoeProblem, logits: &[f64]) -> f64 {
    let tokens = f64::from(problem.extents.tokens);
    let rows = logits.chunks_exact(problem.extents.choices() as usize);
    let square = |row: &[f64]| {
        let most = row.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let power = |l: &f64| if *l == f64::NEG_INFINITY { 0.0 } else { (l - most).exp() };
        let lse = most + row.iter().map(power).sum::<f64>().ln();
        lse * lse
    };
    rows.map(square).sum::<f64>() / tokens.max(1.0)
}
