//! What a case asks.

use serde::de::DeserializeOwned;
use serde_json::Value;

use super::case::{Case, Placement};
use super::place;
use crate::attention::{AttentionProblem, AttentionSpec, MergeProblem, TensorDescs};
use crate::error::{Error, SpecError};
use crate::moe::{MoeProblem, MoeSpec};
use crate::neighborhood::{NeighborhoodProblem, NeighborhoodSpec};
use crate::operator::Operator;
use crate::tensor::TensorDesc;

/// A case's question, checked.
#[derive(Clone, Debug)]
pub enum Question {
    /// An attention.
    Attention(Box<AttentionProblem>),
    /// A neighborhood attention.
    Neighborhood(Box<NeighborhoodProblem>),
    /// A mixture of experts.
    Moe(Box<MoeProblem>),
    /// A merge of partial results.
    Merge(MergeProblem),
}

impl Question {
    /// Checks what a case asks.
    ///
    /// # Errors
    /// [`SpecError`] when the case asks a wrong question.
    pub fn new(case: &Case) -> Result<Self, Error> {
        Ok(match case.spec["op"].as_str() {
            Some("attention_merge") => {
                Self::Merge(MergeProblem::new(&spec_of(case)?, &placed(case, TensorDescs::new()))?)
            }
            Some("neighborhood") => {
                let spec = spec_of::<NeighborhoodSpec>(case)?;
                let tensors = placed(case, spec.assumed_tensors()?);
                let whole = NeighborhoodProblem::new(&spec, &tensors)?;
                // Outputs that the problem laid out are placed too.
                let tensors = placed(case, whole.tensors);
                Self::Neighborhood(Box::new(NeighborhoodProblem::new(&spec, &tensors)?))
            }
            Some("moe") => {
                let spec = spec_of::<MoeSpec>(case)?;
                let tensors = placed(case, spec.assumed_tensors()?);
                let mut whole = MoeProblem::new(&spec, &tensors)?;
                // Of the outputs only out may have gaps.
                whole.tensors.retain(|name, _| name == "out" || tensors.contains_key(name));
                let tensors = placed(case, whole.tensors);
                Self::Moe(Box::new(MoeProblem::new(&spec, &tensors)?))
            }
            _ => Self::Attention(Box::new(attention_problem(case)?)),
        })
    }
}

/// The spec without the operator's name.
fn spec_of<S: DeserializeOwned>(case: &Case) -> Result<S, SpecError> {
    let mut spec = case.spec.clone();
    if let Value::Object(fields) = &mut spec {
        fields.remove("op");
    }
    serde_json::from_value(spec).map_err(|error| SpecError::value("spec", "a spec", error))
}

/// Tensors where the case's placement wants them, those that the case adds among them.
fn placed(case: &Case, mut tensors: TensorDescs) -> TensorDescs {
    for (name, dtype, shape) in &case.tensors {
        tensors.insert((*name).to_owned(), TensorDesc::contiguous(*dtype, shape));
    }
    for (name, desc) in &mut tensors {
        desc.layout = place::layout(case.placement, name, &desc.layout.shape);
    }
    tensors
}

/// The problem with every tensor where the case's placement wants it.
fn attention_problem(case: &Case) -> Result<AttentionProblem, Error> {
    let spec = spec_of::<AttentionSpec>(case)?;
    let mut dense = spec.assumed_tensors()?;
    for (name, dtype, shape) in &case.tensors {
        dense.insert((*name).to_owned(), TensorDesc::contiguous(*dtype, shape));
    }
    let whole = AttentionProblem::new(&spec, &dense)?;
    let mut placed: TensorDescs = whole
        .tensors()
        .into_iter()
        .map(|(name, TensorDesc { dtype, layout })| {
            let layout = place::layout(case.placement, name, &layout.shape);
            (name.to_owned(), TensorDesc { dtype, layout })
        })
        .collect();
    if case.placement == Placement::Packed {
        let shape = |name: &str| placed[name].shape().to_vec();
        let layouts = place::packed(&shape("q"), &shape("k"), &shape("v"));
        for (name, layout) in ["q", "k", "v"].into_iter().zip(layouts) {
            placed.insert(name.to_owned(), TensorDesc { dtype: spec.dtype, layout });
        }
    }
    AttentionProblem::new(&spec, &placed)
}
