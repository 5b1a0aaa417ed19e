//! A parsed snippet with the tensors that it reads.

use naga::{Function, Handle};

use super::operators::Precision;
use super::value::{Unsupported, Value};
use crate::snippet::parse::ParsedSnippet;

/// The elements of an aux tensor, flat.
#[derive(Clone, Debug)]
pub(super) enum AuxValues {
    /// Seen as `array<f32>`.
    F32(Vec<f64>),
    /// Seen as `array<i32>`.
    I32(Vec<i32>),
}

impl AuxValues {
    /// Number of elements.
    pub(super) fn len(&self) -> usize {
        match self {
            Self::F32(values) => values.len(),
            Self::I32(values) => values.len(),
        }
    }

    /// The element at `index`, the last one beyond the end, 0 where there is none.
    pub(super) fn get(&self, index: usize) -> Value {
        let index = index.min(self.len().saturating_sub(1));
        match self {
            Self::F32(values) => Value::F32(values.get(index).copied().unwrap_or(0.0)),
            Self::I32(values) => Value::I32(values.get(index).copied().unwrap_or(0)),
        }
    }
}

/// What a machine runs.
#[derive(Debug)]
pub(super) struct Program {
    pub(super) parsed: ParsedSnippet,
    /// In the order of the `aux_types` that the snippet was parsed with.
    aux: Vec<AuxValues>,
    /// For each global of the module, which aux tensor it is.
    aux_of_global: Vec<Option<usize>>,
    pub(super) pos_q: Option<Handle<Function>>,
    pub(super) precision: Precision,
}

impl Program {
    /// Joins a snippet with its tensors: each by the name it was parsed with.
    pub(super) fn new(
        parsed: ParsedSnippet,
        aux: Vec<(String, AuxValues)>,
        precision: Precision,
    ) -> Self {
        let globals = parsed.module.global_variables.iter();
        let place = |name: &str| aux.iter().position(|(known, _)| known == name);
        let aux_of_global =
            globals.map(|(_, global)| global.name.as_deref().and_then(place)).collect();
        let is_pos_q = |function: &Function| function.name.as_deref() == Some("pos_q");
        let functions = &parsed.module.functions;
        let pos_q = functions.iter().find(|(_, f)| is_pos_q(f)).map(|(handle, _)| handle);
        let aux = aux.into_iter().map(|(_, values)| values).collect();
        Self { parsed, aux, aux_of_global, pos_q, precision }
    }

    /// The tensor that a global of the module is.
    pub(super) fn aux_values(&self, global: usize) -> Result<&AuxValues, Unsupported> {
        let place = self.aux_of_global.get(global).copied().flatten();
        place
            .and_then(|place| self.aux.get(place))
            .ok_or_else(|| Unsupported("a tensor that was not passed".to_owned()))
    }
}
