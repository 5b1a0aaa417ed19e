//! The caller's WGSL on the CPU, in f64, for the references.
//!
//! What it cannot run is an error that names it and its place in the caller's text, never a wrong number. An index
//! beyond an array gives its last element, as the kernels do.

mod expression;
mod machine;
mod math;
mod operators;
#[cfg(test)]
mod tests;
mod value;

use naga::{Function, Handle};

use self::machine::Machine;
use self::value::Unsupported;
use super::{Asked, ParsedSnippet, parse};
use crate::error::SpecError;
use crate::tensor::{Dtype, HostTensor};

pub(crate) use self::operators::Precision;
pub(crate) use self::value::Value;

/// The elements of an aux tensor, flat.
#[derive(Clone, Debug)]
pub(crate) enum AuxValues {
    /// Seen as `array<f32>`.
    F32(Vec<f64>),
    /// Seen as `array<i32>`.
    I32(Vec<i32>),
}

impl AuxValues {
    fn len(&self) -> usize {
        match self {
            Self::F32(values) => values.len(),
            Self::I32(values) => values.len(),
        }
    }

    /// The element at `index`, the last one beyond the end, 0 where there is none.
    fn get(&self, index: usize) -> Value {
        let index = index.min(self.len().saturating_sub(1));
        match self {
            Self::F32(values) => Value::F32(values.get(index).copied().unwrap_or(0.0)),
            Self::I32(values) => Value::I32(values.get(index).copied().unwrap_or(0)),
        }
    }
}

/// A snippet ready to run.
#[derive(Debug)]
pub(crate) struct Interpreter {
    parsed: ParsedSnippet,
    /// In the order of the `aux_types` that the snippet was parsed with.
    aux: Vec<AuxValues>,
    /// For each global of the module, which aux tensor it is.
    aux_of_global: Vec<Option<usize>>,
    pos_q: Option<Handle<Function>>,
    precision: Precision,
}

impl Interpreter {
    /// Joins a snippet with its tensors: each by the name it was parsed with.
    fn new(parsed: ParsedSnippet, aux: Vec<(String, AuxValues)>, precision: Precision) -> Self {
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

    /// Parses a snippet and joins it with its tensors.
    ///
    /// # Errors
    /// As [`parse`].
    pub(crate) fn of_tensors(
        (signature, snippet, field): Asked<'_>,
        aux: &[(String, &HostTensor)],
        precision: Precision,
    ) -> Result<Self, SpecError> {
        let is_i32 = |tensor: &HostTensor| tensor.dtype == Dtype::I32;
        let types: Vec<(&str, bool)> =
            aux.iter().map(|(name, tensor)| (name.as_str(), is_i32(tensor))).collect();
        let parsed = parse(snippet, signature, &types, field)?;
        let values = |tensor: &HostTensor| match is_i32(tensor) {
            true => AuxValues::I32(tensor.to_f64().into_iter().map(|x| x as i32).collect()),
            false => AuxValues::F32(tensor.to_f64()),
        };
        let aux = aux.iter().map(|(name, tensor)| (name.clone(), values(tensor))).collect();
        Ok(Self::new(parsed, aux, precision))
    }

    /// The bool that the function gives for these arguments. `pos_q` is the kernel's, where the signature provides it.
    ///
    /// # Errors
    /// [`SpecError::Wgsl`] at what the interpreter cannot run.
    pub(crate) fn truth(
        &self,
        arguments: Vec<Value>,
        pos_q: &dyn Fn(u32, u32) -> i32,
    ) -> Result<bool, SpecError> {
        match self.run(arguments, pos_q)? {
            Some(Value::Bool(truth)) => Ok(truth),
            other => Err(self.wrong_result(other)),
        }
    }

    /// The number that the function gives for these arguments; the rest as [`Interpreter::truth`].
    ///
    /// # Errors
    /// As [`Interpreter::truth`].
    pub(crate) fn number(
        &self,
        arguments: Vec<Value>,
        pos_q: &dyn Fn(u32, u32) -> i32,
    ) -> Result<f64, SpecError> {
        match self.run(arguments, pos_q)? {
            Some(Value::F32(number)) => Ok(number),
            other => Err(self.wrong_result(other)),
        }
    }

    fn run(
        &self,
        arguments: Vec<Value>,
        pos_q: &dyn Fn(u32, u32) -> i32,
    ) -> Result<Option<Value>, SpecError> {
        Machine::new(self, pos_q)
            .call(self.parsed.function, arguments)
            .map_err(|fail| self.parsed.error_at(fail.span, fail.message))
    }

    fn wrong_result(&self, got: Option<Value>) -> SpecError {
        let span = self.parsed.module.functions.get_span(self.parsed.function);
        self.parsed.error_at(span, format!("the function returned {got:?}"))
    }

    fn aux_values(&self, global: usize) -> Result<&AuxValues, Unsupported> {
        let place = self.aux_of_global.get(global).copied().flatten();
        place
            .and_then(|place| self.aux.get(place))
            .ok_or_else(|| Unsupported("a tensor that was not passed".to_owned()))
    }
}
