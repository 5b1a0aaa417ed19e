//! What a case asks.

use super::case::{Case, Placement};
use super::place;
use crate::any::{AnyProblem, AnySpec, with_problem};
use crate::attention::AttentionProblem;
use crate::error::{Error, SpecError};
use crate::moe::MoeProblem;
use crate::neighborhood::NeighborhoodProblem;
use crate::operator::Operator;
use crate::tensor::{TensorDesc, TensorDescs};

impl Case {
    /// What the case asks, checked.
    ///
    /// # Errors
    /// [`SpecError`] when the case asks a wrong problem.
    pub fn problem(&self) -> Result<AnyProblem, Error> {
        let spec: AnySpec = serde_json::from_value(self.spec.clone())
            .map_err(|error| SpecError::value("spec", "a spec", error))?;
        let problem = self.asked(&spec)?;
        if !self.one_buffer {
            return Ok(problem);
        }
        let tensors = with_problem!(&problem, problem => Operator::tensors(problem));
        spec.ask(&place::in_one_buffer(self.placement, tensors)?)
    }

    /// What the case asks of tensors in buffers of their own.
    fn asked(&self, spec: &AnySpec) -> Result<AnyProblem, Error> {
        Ok(match spec {
            AnySpec::Attention(spec) => {
                let tensors = placed(self, spec.assumed_tensors()?);
                let whole = AttentionProblem::new(spec, &tensors)?;
                // As the caller gives them: the problem's own are turned heads first.
                let whole = Operator::tensors(&whole).into_iter();
                let whole = whole.map(|(name, desc)| (name.to_owned(), desc)).collect();
                let tensors = attention_tensors(self, whole);
                AnyProblem::Attention(Box::new(AttentionProblem::new(spec, &tensors)?))
            }
            AnySpec::Neighborhood(spec) => {
                let tensors = placed(self, spec.assumed_tensors()?);
                let whole = NeighborhoodProblem::new(spec, &tensors)?;
                // Outputs that the problem laid out are placed too.
                let tensors = placed(self, whole.tensors);
                AnyProblem::Neighborhood(Box::new(NeighborhoodProblem::new(spec, &tensors)?))
            }
            AnySpec::Moe(spec) => {
                let tensors = placed(self, spec.assumed_tensors()?);
                let mut whole = MoeProblem::new(spec, &tensors)?;
                // Of the outputs only out may have gaps.
                whole.tensors.retain(|name, _| name == "out" || tensors.contains_key(name));
                let tensors = placed(self, whole.tensors);
                AnyProblem::Moe(Box::new(MoeProblem::new(spec, &tensors)?))
            }
            other => other.ask(&placed(self, other.assumed_tensors()?))?,
        })
    }
}

/// Tensors where the case's placement wants them, those that the case adds among them.
fn placed(case: &Case, mut tensors: TensorDescs) -> TensorDescs {
    for (name, dtype, shape) in &case.tensors {
        tensors.insert((*name).to_owned(), TensorDesc::contiguous(*dtype, shape));
    }
    for (name, desc) in &mut tensors {
        desc.layout = place::layout(case.placement, name, desc.layout.shape());
    }
    tensors
}

/// Tensors that the problem laid out, outputs among them, where the case wants them. Packed q, k and v share a buffer.
fn attention_tensors(case: &Case, whole: TensorDescs) -> TensorDescs {
    let mut tensors = placed(case, whole);
    if case.placement == Placement::Packed {
        let shape = |name: &str| tensors[name].shape().to_vec();
        let layouts = place::packed(&shape("q"), &shape("k"), &shape("v"));
        for (name, layout) in ["q", "k", "v"].into_iter().zip(layouts) {
            if let Some(desc) = tensors.get_mut(name) {
                desc.layout = layout;
            }
        }
    }
    tensors
}
