//! Tensors that a spec alone implies, and those of the problem that stands for all of its size.

use super::axes::stated_shape;
use super::problem::NeighborhoodProblem;
use super::roles::{Role, extra_inputs};
use super::spec::NeighborhoodSpec;
use crate::error::SpecError;
use crate::fused::domain::HEAD_GATE;
use crate::operator::{Operator, rounded};
use crate::tensor::check;
use crate::tensor::{Dtype, TensorDesc, TensorDescs};

impl NeighborhoodSpec {
    /// Tensors without gaps for a spec that says all its extents; no extra tokens; aux tensors and sink logits are f32
    /// `[q_heads]`, a bias has its fullest shape.
    ///
    /// # Errors
    /// [`SpecError::Value`] naming the first extent that the spec leaves open.
    pub fn assumed_tensors(&self) -> Result<TensorDescs, SpecError> {
        let q_heads = check::stated("q_heads", self.q_heads)?;
        let kv_heads = self.kv_heads.map_or(q_heads, u64::from);
        let head_dim = check::stated("head_dim", self.head_dim)?;
        let value_dim = self.value_dim.map_or(head_dim, u64::from);
        let tensor = |heads: u64, dim: u64| {
            let shape = stated_shape(self.batch, self.spatial.as_deref(), [heads, dim])?;
            Ok::<_, SpecError>(TensorDesc::contiguous(self.dtype, &shape))
        };
        let mut tensors = TensorDescs::from([
            ("q".to_owned(), tensor(q_heads, head_dim)?),
            ("k".to_owned(), tensor(kv_heads, head_dim)?),
            ("v".to_owned(), tensor(kv_heads, value_dim)?),
        ]);
        let batch = check::stated("batch", self.batch)?;
        let extents = self.spatial.iter().flatten().map(|&extent| u64::from(extent));
        let tokens = extents.fold(1, u64::saturating_mul);
        for extra in extra_inputs(self) {
            let shape = match extra.role {
                Role::Aux | Role::SinkLogits => vec![q_heads],
                Role::Bias => vec![batch, q_heads, tokens, tokens],
            };
            let desc = TensorDesc::contiguous(Dtype::F32, &shape);
            // What the caller's functions read may have any shape: its other uses say it.
            if extra.role == Role::Aux {
                tensors.entry(extra.name).or_insert(desc);
            } else {
                tensors.insert(extra.name, desc);
            }
        }
        Ok(tensors)
    }
}

/// The same problem with batch, axes and extra tokens rounded, without gaps.
pub(super) fn bucket(problem: &NeighborhoodProblem) -> Result<NeighborhoodProblem, SpecError> {
    let mut spec = problem.spec.clone();
    spec.batch = spec.batch.map(rounded);
    spec.spatial = spec.spatial.map(|axes| axes.into_iter().map(rounded).collect());
    let mut tensors = spec.assumed_tensors()?;
    let outputs = problem.outputs();
    for (name, desc) in &problem.tensors {
        if outputs.contains(&name.as_str()) {
            continue;
        }
        let mut shape = desc.shape().to_vec();
        let axes = problem.axes.len() + 1;
        match tensors.get(name) {
            // A table keeps the axes that it broadcasts.
            Some(full) if problem.is_table(name) => {
                let grown = shape.iter_mut().zip(full.shape()).filter(|(own, _)| **own > 1);
                grown.for_each(|(own, full)| *own = *full);
            }
            Some(_) if !problem.extra_names().contains(name) => continue,
            _ if name.starts_with("extra_") => {
                shape[..2].iter_mut().for_each(|extent| *extent = extent.next_power_of_two());
            }
            _ if name == HEAD_GATE => {
                shape[..axes].iter_mut().for_each(|it| *it = it.next_power_of_two());
            }
            _ => {}
        }
        tensors.insert(name.clone(), TensorDesc::contiguous(desc.dtype, &shape));
    }
    NeighborhoodProblem::new(&spec, &tensors)
}
