//! Who goes where, in f64.

use std::cmp::Ordering;

use super::numbers::Numbers;
use crate::moe::extents::MoeExtents;
use crate::moe::problem::MoeProblem;
use crate::moe::routing::{
    Capacity, GroupScore, Groups, Priority, Router, Score, TokenChoice, Weight,
};

/// Pairs of tokens and experts, `[tokens, top_k]`.
pub(super) struct Routing {
    /// The expert, if any.
    pub ids: Vec<Option<usize>>,
    pub weights: Vec<f64>,
    /// Whether the capacity had room; true where there is no expert.
    pub kept: Vec<bool>,
}

impl Routing {
    /// What a pair goes to, where there is room for it and it is computed here.
    pub(super) fn computed(&self, problem: &MoeProblem, pair: usize) -> Option<usize> {
        let e = &problem.extents;
        let local = e.expert_start as usize..e.local_end() as usize;
        self.ids[pair].filter(|id| self.kept[pair] && local.contains(id))
    }

    /// Rows of every choice that is computed here; of a null expert its pairs.
    pub(super) fn counts(&self, problem: &MoeProblem) -> Vec<f64> {
        let mut counts = vec![0.0; problem.extents.choices() as usize];
        for id in (0..self.ids.len()).filter_map(|pair| self.computed(problem, pair)) {
            counts[id] += 1.0;
        }
        counts
    }

    /// `[tokens, choices]`: the weight where a token chose the expert, else 0.
    pub(super) fn gates(&self, extents: &MoeExtents) -> Vec<f64> {
        let (experts, top_k) = (extents.choices() as usize, extents.top_k as usize);
        let mut gates = vec![0.0; extents.tokens as usize * experts];
        for (pair, (id, weight)) in self.ids.iter().zip(&self.weights).enumerate() {
            if let Some(id) = id {
                gates[pair / top_k * experts + id] = *weight;
            }
        }
        gates
    }

    /// The pairs that have rows here, expert by expert, each expert's in token order.
    fn rows(&self, problem: &MoeProblem) -> Vec<usize> {
        let has_row = |pair: &usize| {
            self.computed(problem, *pair).is_some_and(|id| id < problem.extents.experts as usize)
        };
        let mut rows: Vec<usize> = (0..self.ids.len()).filter(has_row).collect();
        rows.sort_by_key(|pair| self.ids[*pair]); // stable
        rows
    }

    /// The first row of every expert, and their number.
    pub(super) fn offsets(&self, problem: &MoeProblem) -> Vec<f64> {
        let counts = self.counts(problem);
        let first = |expert: usize| counts[..expert].iter().sum();
        (0..=problem.extents.experts as usize).map(first).collect()
    }

    /// The token of every row, −1 behind the last.
    pub(super) fn row_tokens(&self, problem: &MoeProblem) -> Vec<f64> {
        let top_k = problem.extents.top_k as usize;
        let rows = self.rows(problem);
        let mut tokens: Vec<f64> = rows.iter().map(|pair| (pair / top_k) as f64).collect();
        tokens.resize(self.ids.len(), -1.0);
        tokens
    }

    /// The row of every pair, −1 where there is none.
    pub(super) fn pair_rows(&self, problem: &MoeProblem) -> Vec<f64> {
        let mut rows = vec![-1.0; self.ids.len()];
        for (row, pair) in self.rows(problem).into_iter().enumerate() {
            rows[pair] = row as f64;
        }
        rows
    }

    /// Pairs that no capacity was left for.
    pub(super) fn dropped(&self, problem: &MoeProblem) -> f64 {
        let e = &problem.extents;
        let local = e.expert_start as usize..e.local_end() as usize;
        let is_local = |id: &Option<usize>| id.is_some_and(|id| local.contains(&id));
        let pairs = self.ids.iter().zip(&self.kept);
        pairs.filter(|(id, kept)| !**kept && is_local(id)).count() as f64
    }

    /// Of expert choice: something of every pair that an expert took, expert by expert; `none` where an expert found no
    /// token, or is not here.
    pub(super) fn token_lists(
        &self,
        problem: &MoeProblem,
        none: f64,
        value: impl Fn(usize) -> f64,
    ) -> Vec<f64> {
        let capacity = problem.capacity().map_or(0, |capacity| capacity.rows as usize);
        let mut list = vec![none; problem.extents.experts as usize * capacity];
        let mut taken = vec![0; problem.extents.experts as usize];
        for pair in self.rows(problem) {
            let Some(expert) = self.ids[pair] else { continue };
            list[expert * capacity + taken[expert]] = value(pair);
            taken[expert] += 1;
        }
        list
    }
}

/// `[tokens, columns]`: x · router_wᵀ + router_b, x · phi, or the logits given; a masked one is minus infinity.
pub(super) fn router_logits(problem: &MoeProblem, numbers: &Numbers) -> Vec<f64> {
    let e = &problem.extents;
    let (dim, columns) = (e.model_dim as usize, e.router_columns() as usize);
    if problem.has("router_w") || problem.has("phi") {
        let name = if problem.has("phi") { "phi" } else { "router_w" };
        let mut logits = Vec::new();
        for x in numbers.get("x").chunks_exact(dim) {
            for (column, w) in numbers.get(name).chunks_exact(dim).enumerate() {
                let dot: f64 = x.iter().zip(w).map(|(x, w)| x * w).sum();
                logits.push(dot + numbers.row("router_b", column, 1).map_or(0.0, |b| b[0]));
            }
        }
        debug_assert_eq!(logits.len(), e.tokens as usize * columns);
        return logits;
    }
    numbers.get("router_logits").to_vec()
}

/// 0 for what is masked, minus infinity; NaN for all others where one of them is NaN or infinite.
pub(super) fn softmax(logits: &[f64]) -> Vec<f64> {
    let most = logits.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let power = |logit: &f64| match *logit {
        f64::NEG_INFINITY => 0.0,
        logit => (logit - most).exp(),
    };
    let sum: f64 = logits.iter().map(power).sum();
    let share = |logit: &f64| if *logit == f64::NEG_INFINITY { 0.0 } else { power(logit) / sum };
    logits.iter().map(share).collect()
}

fn sigmoid(value: f64) -> f64 {
    1.0 / (1.0 + (-value).exp())
}

/// The experts of every pair, their weights, and what the capacity leaves.
pub(super) fn route(problem: &MoeProblem, numbers: &Numbers, logits: &[f64]) -> Routing {
    let experts = problem.extents.choices() as usize;
    let mut routing = match &problem.spec.router {
        Router::Soft { .. } => {
            return Routing { ids: Vec::new(), weights: Vec::new(), kept: Vec::new() };
        }
        Router::External => {
            let ids = numbers.get("topk_ids").iter();
            let id = |id: &f64| (*id >= 0.0 && *id < experts as f64).then_some(*id as usize);
            let top_k = problem.extents.top_k as usize;
            let own = |pair: usize| match numbers.row("token_top_k", pair / top_k, 1) {
                Some(own) => (pair % top_k) < own[0].max(0.0) as usize,
                None => true,
            };
            let ids: Vec<Option<usize>> =
                ids.enumerate().map(|(pair, i)| id(i).filter(|_| own(pair))).collect();
            let kept = vec![true; ids.len()];
            Routing { ids, weights: numbers.get("topk_weights").to_vec(), kept }
        }
        Router::ExpertChoice { .. } => {
            let rows = masked(problem, numbers, logits);
            let weights: Vec<f64> = rows.chunks_exact(experts).flat_map(softmax).collect();
            let open = |pair: &usize| rows[*pair] != f64::NEG_INFINITY;
            let id = |pair| Some(pair).filter(open).map(|pair| pair % experts);
            let ids = (0..weights.len()).map(id).collect();
            Routing { ids, kept: vec![true; weights.len()], weights }
        }
        Router::TokenChoice(choice) => token_choice(problem, numbers, logits, choice),
    };
    // Null experts take no rows, which alone are bounded; only where experts choose, they choose as many tokens.
    let bounded = match problem.spec.router {
        Router::ExpertChoice { .. } => experts,
        _ => problem.extents.experts as usize,
    };
    if let Some(capacity) = problem.capacity() {
        let top_k = problem.extents.top_k as usize;
        drop_beyond(capacity, [bounded, top_k], &mut routing);
    }
    routing
}

/// The logits, minus infinity where they are masked.
pub(super) fn masked(problem: &MoeProblem, numbers: &Numbers, logits: &[f64]) -> Vec<f64> {
    if !problem.has("logit_mask") {
        return logits.to_vec();
    }
    let mask = numbers.get("logit_mask");
    let slots = problem.extents.slots.max(1) as usize;
    let logit = |(i, l): (usize, &f64)| if mask[i / slots] != 0.0 { *l } else { f64::NEG_INFINITY };
    logits.iter().enumerate().map(logit).collect()
}

fn token_choice(
    problem: &MoeProblem,
    numbers: &Numbers,
    logits: &[f64],
    choice: &TokenChoice,
) -> Routing {
    let (experts, top_k) = (problem.extents.choices() as usize, problem.extents.top_k as usize);
    let bias = choice.correction_bias.as_ref().map(|name| numbers.get(name));
    let mut routing = Routing { ids: Vec::new(), weights: Vec::new(), kept: Vec::new() };
    let logits = masked(problem, numbers, logits);
    for (token, row) in logits.chunks_exact(experts).enumerate() {
        let own = numbers.row("token_top_k", token, 1).map_or(top_k, |k| k[0].max(0.0) as usize);
        let (ids, weights) = choose(choice, row, bias, own.min(top_k));
        routing.ids.extend(ids.iter().map(|id| Some(*id)));
        routing.weights.extend(weights);
        routing.ids.resize((token + 1) * top_k, None);
        routing.weights.resize((token + 1) * top_k, 0.0);
    }
    routing.kept = vec![true; routing.ids.len()];
    routing
}

/// Larger numbers first; what is no number comes after all of them.
fn descending(a: f64, b: f64) -> Ordering {
    let numbers = || b.partial_cmp(&a).unwrap_or(Ordering::Equal);
    a.is_nan().cmp(&b.is_nan()).then_with(numbers)
}

/// The best `top_k` experts of a token, best first, and their weights; fewer where fewer may be chosen.
fn choose(
    choice: &TokenChoice,
    logits: &[f64],
    bias: Option<&[f64]>,
    top_k: usize,
) -> (Vec<usize>, Vec<f64>) {
    let TokenChoice { score, correction_bias: _, groups, weight, scale, epsilon } = choice;
    let scores: Vec<f64> = match score {
        Score::Softmax => softmax(logits),
        Score::Sigmoid => logits.iter().map(|l| sigmoid(*l)).collect(),
        Score::SqrtSoftplus => {
            logits.iter().map(|l| (l.max(0.0) + (-l.abs()).exp().ln_1p()).sqrt()).collect()
        }
        Score::Logit => logits.to_vec(),
    };
    let mut left: Vec<usize> = (0..logits.len()).collect();
    left.retain(|expert| logits[*expert] != f64::NEG_INFINITY);
    // Every score grows with its logit, which tells apart what rounding makes equal.
    let by = |expert: usize| match bias {
        Some(bias) => scores[expert] + bias[expert],
        None if scores[expert].is_nan() => f64::NAN,
        None => logits[expert],
    };
    if let Some(groups) = groups {
        let kept = best_groups(groups, &left, logits.len(), |expert| match (groups.by, bias) {
            (GroupScore::Top2Sum, None) => scores[expert],
            _ => by(expert),
        });
        left.retain(|expert| kept.contains(&(expert * groups.count as usize / logits.len())));
    }
    left.sort_by(|a, b| descending(by(*a), by(*b)).then(a.cmp(b)));
    left.truncate(top_k);
    let chosen = left.iter().map(|expert| scores[*expert]);
    let mut weights: Vec<f64> = match weight {
        Weight::Score => chosen.collect(),
        Weight::Renormalized => {
            let sum = chosen.clone().sum::<f64>() + f64::from(epsilon.0);
            chosen.map(|score| score / sum).collect()
        }
        Weight::Softmax => softmax(&left.iter().map(|e| logits[*e]).collect::<Vec<_>>()),
        Weight::Sigmoid => left.iter().map(|expert| sigmoid(logits[*expert])).collect(),
    };
    weights.iter_mut().for_each(|weight| *weight *= f64::from(scale.0));
    (left, weights)
}

/// The groups that are kept, judged by those of their experts that may be chosen; a group without any comes last.
fn best_groups(
    groups: &Groups,
    open: &[usize],
    experts: usize,
    by: impl Fn(usize) -> f64,
) -> Vec<usize> {
    let size = experts / groups.count as usize;
    let value = |group: usize| {
        let own = open.iter().filter(|expert| *expert / size == group);
        let mut values: Vec<f64> = own.map(|expert| by(*expert)).collect();
        values.sort_by(|a, b| descending(*a, *b));
        let first = values.first().copied();
        match (groups.by, values.get(1)) {
            (GroupScore::Top2Sum, Some(second)) if *second > f64::NEG_INFINITY => {
                first.map(|first| first + second)
            }
            _ => first,
        }
    };
    let values: Vec<Option<f64>> = (0..groups.count as usize).map(value).collect();
    let mut order: Vec<usize> = (0..values.len()).collect();
    order.sort_by(|a, b| match (values[*a], values[*b]) {
        (Some(one), Some(other)) => descending(one, other).then(a.cmp(b)),
        (one, other) => one.is_none().cmp(&other.is_none()).then(a.cmp(b)),
    });
    order.truncate(groups.keep as usize);
    order
}

/// Of each expert and sequence, the first `rows` pairs in priority order stay.
fn drop_beyond(capacity: Capacity, [experts, top_k]: [usize; 2], routing: &mut Routing) {
    let Capacity { rows, sequences, priority } = capacity;
    let best = match priority {
        Priority::BestScore => best_weights(routing, top_k),
        Priority::TokenOrder | Priority::ChoiceOrder | Priority::Score => Vec::new(),
    };
    let weights = &routing.weights;
    let (slot, token) = (|pair: &usize| pair % top_k, |pair: &usize| pair / top_k);
    let by_priority = |a: &usize, b: &usize| match priority {
        Priority::TokenOrder => Ordering::Equal,
        Priority::ChoiceOrder => slot(a).cmp(&slot(b)),
        Priority::Score => descending(weights[*a], weights[*b]),
        Priority::BestScore => {
            slot(a).cmp(&slot(b)).then(descending(best[token(a)], best[token(b)]))
        }
    };
    let pairs = routing.ids.len() / sequences as usize;
    for sequence in 0..sequences as usize {
        for expert in 0..experts {
            let mut of_expert: Vec<usize> = (sequence * pairs..(sequence + 1) * pairs)
                .filter(|pair| routing.ids[*pair] == Some(expert))
                .collect();
            of_expert.sort_by(|a, b| by_priority(a, b).then(a.cmp(b)));
            for pair in of_expert.into_iter().skip(rows as usize) {
                routing.kept[pair] = false;
            }
        }
    }
}

/// Every token's largest weight for an expert that it chose.
fn best_weights(routing: &Routing, top_k: usize) -> Vec<f64> {
    let tokens = routing.ids.chunks(top_k).zip(routing.weights.chunks(top_k));
    let best = |(ids, weights): (&[Option<usize>], &[f64])| {
        let chosen = ids.iter().zip(weights).filter(|(id, _)| id.is_some());
        chosen.map(|(_, weight)| *weight).min_by(|a, b| descending(*a, *b)).unwrap_or(f64::NAN)
    };
    tokens.map(best).collect()
}
