//! The caller's WGSL on the CPU, in f64, for the references.
//!
//! What it cannot run is an error that names it and its place in the caller's text, never a wrong number. An index
//! beyond an array gives its last element, as the kernels do.

mod expression;
mod machine;
mod math;
mod operators;
mod program;
#[cfg(test)]
mod tests;
mod value;

use self::machine::Machine;
use self::program::{AuxValues, Program};
use super::parse::{ParsedSnippet, parse};
use super::signature::Asked;
use crate::error::SpecError;
use crate::tensor::{Dtype, HostTensor};

pub(crate) use self::operators::Precision;
pub(crate) use self::value::Value;

/// A snippet ready to run.
#[derive(Debug)]
pub(crate) struct Interpreter {
    program: Program,
}

impl Interpreter {
    fn new(parsed: ParsedSnippet, aux: Vec<(String, AuxValues)>, precision: Precision) -> Self {
        Self { program: Program::new(parsed, aux, precision) }
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
        let parsed = &self.program.parsed;
        Machine::new(&self.program, pos_q)
            .call(parsed.function, arguments)
            .map_err(|fail| parsed.error_at(fail.span, fail.message))
    }

    fn wrong_result(&self, got: Option<Value>) -> SpecError {
        let parsed = &self.program.parsed;
        let span = parsed.module.functions.get_span(parsed.function);
        parsed.error_at(span, format!("the function returned {got:?}"))
    }
}
