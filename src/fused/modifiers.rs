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
        // The lowest finite scores, which some masks use, still are keys.
        steps.push("s = select(max(s, LOWEST_KEPT), s, is_nan(s));".to_owned());
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
    let value = match modifier {
        ScoreModifier::Softcap(cap) => {
            source.params.f32(format!("softcap_{index}"), cap.into_inner());
            add_fragment!(source, "fused/score_softcap.wgsl");
            return format!("s = softcap(s, params.softcap_{index});");
        }
        ScoreModifier::Alibi(name) => {
            domain.bind_extra(source, part, name);
            let by_batch = part.call.tensors[name].shape().len() == 2;
            let row = if by_batch { "b * params.q_heads + h" } else { "h" };
            let slope = format!("{}_get({row})", part.extra.id(name));
            format!("s = s - {slope} * {};", domain.distance(pass))
        }
        ScoreModifier::Bias(name) => {
            domain.bind_extra(source, part, name);
            let bias = format!("{}_get({})", part.extra.id(name), domain.table_index(name));
            let id = format!("bias_{index}");
            template!("fused/score_bias.wgsl", "BIAS" = id, "VALUE" = bias)
        }
        ScoreModifier::Wgsl(_) => {
            let call = format!("score{index}_score_mod(s, b, h, {q}, {kv})");
            template!("fused/score_caller.wgsl", "CALL" = call)
        }
    };
    match has_place {
        Some(has_place) => format!("if ({has_place}) {{ {value} }}"),
        None => value,
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
