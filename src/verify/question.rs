//! What a case asks.

use serde::de::DeserializeOwned;
use serde_json::Value;

use super::case::{Case, Placement};
use super::place;
use crate::attention::{AttentionProblem, AttentionSpec, MergeProblem, TensorDescs};
use crate::error::{Error, SpecError};
use crate::operator::Operator;
use crate::tensor::{Dtype, TensorDesc};

/// A case's question, checked.
#[derive(Clone, Debug)]
pub enum Question {
    /// An attention.
    Attention(Box<AttentionProblem>),
    /// A merge of partial results.
    Merge(MergeProblem),
}

impl Question {
    /// Checks what a case asks.
    ///
    /// # Errors
    /// [`SpecError`] when the case asks a wrong question.
    pub fn new(case: &Case) -> Result<Self, Error> {
        if case.spec["op"] == "attention_merge" {
            let problem = MergeProblem::new(&spec_of(case)?, &merge_descs(case))?;
            return Ok(Self::Merge(problem));
        }
        Ok(Self::Attention(Box::new(attention_problem(case)?)))
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

/// The tensors of a merge where the case's placement wants them.
fn merge_descs(case: &Case) -> TensorDescs {
    let placed = |(name, dtype, shape): &(&str, Dtype, Vec<u64>)| {
        let layout = place::layout(case.placement, name, shape);
        ((*name).to_owned(), TensorDesc { dtype: *dtype, layout })
    };
    case.tensors.iter().map(placed).collect()
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
