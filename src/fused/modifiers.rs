//! What a spec adds to the kernels as text: the list of score modifiers, and the normaliser.

use super::domain::{Domain, Part, Pass, Words};
use super::score::{Normaliser, ScoreModifier};
use crate::error::PlanError;
use crate::kernel::source::{KernelSource, add_fragment};
use crate::kernel::template::{statements, template};

/// Writes `score_modify`: the list of modifiers, in order. Says whether the caller's must run checked.
pub(super) fn score(
    domain: &impl Domain,
    source: &mut KernelSource,
    part: &Part<'_>,
    pass: &Pass,
) -> Result<bool, PlanError> {
    let words = domain.words();
    let mut steps = Vec::new();
    let mut checked = false;
    for (index, modifier) in part.call.score.iter().enumerate() {
        if let ScoreModifier::Wgsl(snippet) = modifier {
            let (asked, prefix) = (domain.score_snippet(snippet), format!("score{index}_"));
            checked |= part.extra.snippet(source, asked, &prefix)?;
        }
        steps.push(step(domain, source, (part, pass), (index, modifier), &words));
    }
    if part.call.score_may_mask() {
        // Minus infinity is "no key"; the lowest finite scores, which some masks use, still are keys.
        steps.push("if (bitcast<u32>(s) == 0xff800000u) { return LOWEST; }".to_owned());
        steps.push("s = select(max(s, LOWEST_KEPT), s, s != s);".to_owned());
    }
    let text = template!(
        "fused/score_modify.wgsl",
        "QUERY" = words.query_type,
        "STEPS" = statements(steps)
    );
    source.fragment("score of the spec", text);
    Ok(checked)
}

/// One line of `score_modify`.
fn step(
    domain: &impl Domain,
    source: &mut KernelSource,
    (part, pass): (&Part<'_>, &Pass),
    (index, modifier): (usize, &ScoreModifier),
    Words { q, kv, has_place, .. }: &Words,
) -> String {
    let (value, of_place) = match modifier {
        ScoreModifier::Softcap(cap) => {
            source.params.f32(format!("softcap_{index}"), cap.into_inner());
            add_fragment!(source, "fused/score_softcap.wgsl");
            (format!("softcap(s, params.softcap_{index})"), false)
        }
        ScoreModifier::Alibi(name) => {
            domain.bind_extra(source, part, name);
            let by_batch = part.call.tensors[name].shape().len() == 2;
            let row = if by_batch { "b * params.q_heads + h" } else { "h" };
            let slope = format!("{}_get({row})", part.extra.id(name));
            (format!("s - {slope} * {}", domain.distance(pass)), true)
        }
        ScoreModifier::Bias(name) => {
            domain.bind_extra(source, part, name);
            (format!("s + {}_get({})", part.extra.id(name), domain.table_index(name)), true)
        }
        ScoreModifier::Wgsl(_) => (format!("score{index}_score_mod(s, b, h, {q}, {kv})"), true),
    };
    match has_place.filter(|_| of_place) {
        Some(has_place) => format!("if ({has_place}) {{ s = {value}; }}"),
        None => format!("s = {value};"),
    }
}

/// Writes what turns scores into weights.
pub(super) fn normaliser(domain: &impl Domain, source: &mut KernelSource, part: &Part<'_>) {
    match part.call.normaliser {
        Normaliser::Softmax { sink } => {
            source.const_bool("HAS_SINK", sink.is_some());
            let logit = sink.as_ref().map_or("0.0".to_owned(), |name| {
                domain.bind_extra(source, part, name);
                format!("{}_get(h)", part.extra.id(name))
            });
            source.accessor(&format!("fn sink_logit(h: u32) -> f32 {{ return {logit}; }}\n"));
            add_fragment!(source, "fused/normaliser_softmax.wgsl");
        }
        Normaliser::Sigmoid { bias } => {
            source.params.f32("sigmoid_bias", bias.into_inner());
            add_fragment!(source, "fused/normaliser_sigmoid.wgsl");
        }
    }
}
