//! What the spec adds to the kernels as text: the caller's functions, the list of score modifiers, the normaliser.

use super::kernel::Pass;
use super::mask_wgsl::{side, side_index};
use super::plan::Context;
use super::score::{Normaliser, ScoreModifier};
use super::side::SideTensor;
use super::snippets;
use crate::error::PlanError;
use crate::kernel::source::{KernelSource, add_fragment};

impl Context<'_> {
    /// Binds what the mask names and adds the caller's functions; says whether they must run checked.
    pub fn mask_sides(&self, source: &mut KernelSource) -> Result<bool, PlanError> {
        let p = self.problem;
        for SideTensor { name, field, .. } in p.side_tensors() {
            if field.starts_with("mask.") {
                self.bind_side(source, &name);
            }
        }
        let mut checked = false;
        for (index, asked) in snippets::of_mask(&p.spec.mask).into_iter().enumerate() {
            checked |= self.sides.snippet(source, asked, &format!("mask{index}_"))?;
        }
        Ok(checked)
    }

    /// Writes `score_modify`: the list of modifiers, in order.
    pub fn score(&self, source: &mut KernelSource, pass: &Pass) -> Result<bool, PlanError> {
        let p = self.problem;
        let mut body = String::new();
        let mut checked = false;
        for (index, modifier) in p.spec.score.iter().enumerate() {
            let line = match modifier {
                ScoreModifier::Softcap(cap) => {
                    source.params.f32(format!("softcap_{index}"), cap.into_inner());
                    add_fragment!(source, "fused/score_softcap.wgsl");
                    format!("softcap(s, params.softcap_{index})")
                }
                ScoreModifier::Alibi(name) => {
                    self.bind_side(source, name);
                    let row = if p.tensors[name].shape().len() == 2 {
                        "b * params.q_heads + h"
                    } else {
                        "h"
                    };
                    let shift = if pass.prefix { " - i32(params.prefix_len)" } else { "" };
                    format!(
                        "s - {}_get({row}) * abs(f32(pos_q(b, q) - (i32(kv){shift})))",
                        side(p, name)
                    )
                }
                ScoreModifier::Bias(name) => {
                    self.bind_side(source, name);
                    format!("s + {}_get({})", side(p, name), side_index(p, name, "q", "kv"))
                }
                ScoreModifier::Wgsl(snippet) => {
                    let prefix = format!("score{index}_");
                    let asked = (&snippets::SCORE_MOD, snippet, snippets::SCORE_FIELD);
                    checked |= self.sides.snippet(source, asked, &prefix)?;
                    format!("{prefix}score_mod(s, b, h, q, kv)")
                }
            };
            body.push_str(&format!("    s = {line};\n"));
        }
        if self.score_may_mask() {
            // Minus infinity is "no key"; the lowest finite scores, which some masks use, still are keys.
            body.push_str("    if (bitcast<u32>(s) == 0xff800000u) { return LOWEST; }\n    s = select(max(s, LOWEST_KEPT), s, s != s);\n");
        }
        let text = format!(
            "fn score_modify(score: f32, b: u32, h: u32, q: u32, kv: u32) -> f32 {{\n    var s = score;\n{body}    return s;\n}}\n"
        );
        source.fragment("score of the spec", text);
        Ok(checked)
    }

    pub fn score_may_mask(&self) -> bool {
        let may = |m: &ScoreModifier| matches!(m, ScoreModifier::Bias(_) | ScoreModifier::Wgsl(_));
        self.problem.spec.score.iter().any(may)
    }

    pub fn normaliser(&self, source: &mut KernelSource) {
        let p = self.problem;
        match &p.spec.normaliser {
            Normaliser::Softmax { sink } => {
                source.const_bool("HAS_SINK", sink.is_some());
                let logit = sink.as_ref().map_or("0.0".to_owned(), |name| {
                    self.bind_side(source, name);
                    format!("{}_get(h)", side(p, name))
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

    /// Weights stand alone: there is no lse.
    pub fn is_sigmoid(&self) -> bool {
        matches!(self.problem.spec.normaliser, Normaliser::Sigmoid { .. })
    }
}
