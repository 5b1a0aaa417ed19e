//! What the spec adds to the kernels as text: the caller's functions and the list of score modifiers.

use super::plan::Context;
use super::score::NeighborhoodScore;
use super::snippets;
use crate::error::PlanError;
use crate::kernel::source::{KernelSource, add_fragment};

/// A token in the caller's coordinates, of as many axes as there are.
fn coordinates(context: &Context<'_>, token: &str) -> String {
    let axes = ["z", "yz", "xyz"][context.problem.axes.len() - 1];
    format!("{token}.{axes}")
}

/// Writes `mask_keeps`: the window, and the caller's mask where there is one, which extra tokens are not asked about.
/// Says whether it must run checked.
pub(super) fn mask(context: &Context<'_>, source: &mut KernelSource) -> Result<bool, PlanError> {
    let Some(asked) = snippets::mask(&context.problem.spec, context.problem.axes.len()) else {
        let text = "fn mask_keeps(b: u32, h: u32, q: Query, key: u32) -> bool { return window_keeps(q, key); }\n";
        source.fragment("mask of the spec", text);
        return Ok(false);
    };
    let checked = context.sides.snippet(source, asked, "mask_")?;
    let (q, kv) = (coordinates(context, "q.token"), coordinates(context, "key_token(q, key)"));
    let text = format!(
        "fn mask_keeps(b: u32, h: u32, q: Query, key: u32) -> bool {{\n    if (!window_keeps(q, key)) {{ return false; }}\n    if (HAS_EXTRA && key >= EXTRA_FIRST) {{ return true; }}\n    return mask_mask_mod(b, h, {q}, {kv});\n}}\n"
    );
    source.fragment("mask of the spec", text);
    Ok(checked)
}

/// Writes `score_modify`: the list of modifiers, in order. Says whether the caller's must run checked.
pub(super) fn score(
    context: &Context<'_>,
    source: &mut KernelSource,
    may_mask: bool,
) -> Result<bool, PlanError> {
    let rank = context.problem.axes.len();
    let (q, kv) = (coordinates(context, "q.token"), coordinates(context, "key_token(q, key)"));
    let mut body = String::new();
    let mut checked = false;
    for (index, modifier) in context.problem.spec.score.iter().enumerate() {
        let line = match modifier {
            NeighborhoodScore::Softcap(cap) => {
                source.params.f32(format!("softcap_{index}"), cap.into_inner());
                add_fragment!(source, "fused/score_softcap.wgsl");
                format!("s = softcap(s, params.softcap_{index});")
            }
            NeighborhoodScore::Wgsl(snippet) => {
                let prefix = format!("score{index}_");
                checked |=
                    context.sides.snippet(source, snippets::score(snippet, rank), &prefix)?;
                format!("if (!extra) {{ s = {prefix}score_mod(s, b, h, {q}, {kv}); }}")
            }
        };
        body.push_str(&format!("    {line}\n"));
    }
    if may_mask {
        // Minus infinity is "no key"; the lowest finite scores, which some masks use, still are keys.
        body.push_str("    if (bitcast<u32>(s) == 0xff800000u) { return LOWEST; }\n    s = select(max(s, LOWEST_KEPT), s, s != s);\n");
    }
    let text = format!(
        "fn score_modify(score: f32, b: u32, h: u32, q: Query, key: u32) -> f32 {{\n    let extra = HAS_EXTRA && key >= EXTRA_FIRST;\n    var s = score;\n{body}    return s;\n}}\n"
    );
    source.fragment("score of the spec", text);
    Ok(checked)
}
