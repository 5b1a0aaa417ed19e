//! Input tensors as numbers, held against the problem.

use std::collections::BTreeMap;

use crate::attention::problem::AttentionProblem;
use crate::error::SpecError;
use crate::snippet::Asked;
use crate::snippet::interpret::{Interpreter, Precision};
use crate::tensor::{HostTensor, Layout};

/// A tensor's elements.
pub(super) struct Table {
    values: Vec<f64>,
    layout: Layout,
}

impl Table {
    /// The element at `index`; an axis of extent 1 broadcasts.
    pub(super) fn at(&self, index: &[usize]) -> f64 {
        let axes = index.iter().zip(self.layout.strides()).zip(self.layout.shape());
        let place = axes.map(
            |((&index, &stride), &extent)| {
                if extent == 1 { 0 } else { index * stride as usize }
            },
        );
        self.values.get(place.sum::<usize>()).copied().unwrap_or(f64::NAN)
    }

    /// Number of axes.
    pub(super) fn axes(&self) -> usize {
        self.layout.shape().len()
    }

    /// The last axis at `index` of the others.
    pub(super) fn vector(&self, index: &[usize]) -> &[f64] {
        let start: usize =
            index.iter().zip(self.layout.strides()).map(|(i, s)| i * *s as usize).sum();
        let length = self.layout.shape().last().copied().unwrap_or(0) as usize;
        self.values.get(start..start + length).unwrap_or(&[])
    }
}

/// The inputs of a problem.
#[derive(Clone, Copy)]
pub(super) struct Inputs<'a> {
    pub(super) problem: &'a AttentionProblem,
    pub(super) tensors: &'a BTreeMap<String, HostTensor>,
}

impl Inputs<'_> {
    /// Whether the problem has a tensor of this name.
    pub(super) fn has(&self, name: &str) -> bool {
        self.problem.tensors.contains_key(name)
    }

    /// q, k, v or what else the storage places: axes in the order batch, head, seq, dim.
    pub(super) fn core(&self, name: &str) -> Result<Table, SpecError> {
        let problem = self.problem;
        let role = problem.role(name);
        self.placed(name, |layout| match role {
            Some(role) => role.inward(problem.storage, layout, problem.spec.layout),
            None => layout.clone(),
        })
    }

    /// Any other tensor.
    pub(super) fn table(&self, name: &str) -> Result<Table, SpecError> {
        self.placed(name, Layout::clone)
    }

    /// A caller's function, with its tensors.
    pub(super) fn program(
        &self,
        asked: Asked<'_>,
        precision: Precision,
    ) -> Result<Interpreter, SpecError> {
        let values = |name: &String| {
            self.table(name)?;
            Ok((name.clone(), self.tensor(name)?))
        };
        let aux = asked.1.aux.iter().map(values).collect::<Result<Vec<_>, SpecError>>()?;
        Interpreter::of_tensors(asked, &aux, precision)
    }

    fn tensor(&self, name: &str) -> Result<&HostTensor, SpecError> {
        self.tensors.get(name).ok_or_else(|| SpecError::MissingTensor {
            name: name.to_owned(),
            why: "asked for by the reference".to_owned(),
        })
    }

    fn placed(&self, name: &str, inward: impl Fn(&Layout) -> Layout) -> Result<Table, SpecError> {
        let tensor = self.tensor(name)?;
        let layout = Layout::contiguous(&tensor.shape);
        let desc = self.problem.tensors.get(name);
        let axes = desc.map(|_| self.problem.callers_layout(name).shape().len());
        let fits = axes.is_none_or(|axes| axes == tensor.shape.len());
        let layout = if fits { inward(&layout) } else { layout };
        let values = tensor.to_f64();
        if let Some(desc) = desc {
            if layout.shape() != desc.shape() {
                let expected = format!("shape {:?} (axes in the problem's order)", desc.shape());
                return Err(SpecError::value(name, expected, format!("{:?}", layout.shape())));
            }
            if tensor.dtype != desc.dtype {
                return Err(SpecError::Dtype {
                    tensor: name.to_owned(),
                    expected: desc.dtype.to_string(),
                    got: tensor.dtype.to_string(),
                });
            }
        }
        if values.len() as u64 != layout.len() {
            let expected = format!("{} elements", layout.len());
            return Err(SpecError::value(name, expected, values.len()));
        }
        Ok(Table { values, layout })
    }
}
