//! Specs as the command line takes them: a file, or JSON in place.

use std::collections::BTreeMap;
use std::path::Path;

use super::common::{CliError, Common};
use super::output::read_text;
use crate::any::{AnyProblem, AnySpec, with_problem};
use crate::names::refuse_others;
use crate::tensor::{HostTensor, TensorDescs, descs, read_safetensors};

/// Reads a spec: JSON where it starts with `{`, else the name of a file of it.
pub(super) fn read_spec(spec: &str) -> Result<AnySpec, CliError> {
    if spec.trim_start().starts_with('{') {
        return parse("spec", spec);
    }
    parse(spec, &read_text(Path::new(spec))?)
}

fn parse(name: &str, text: &str) -> Result<AnySpec, CliError> {
    serde_json::from_str(text).map_err(|error| CliError::Request(format!("{name}: {error}")))
}

/// The tensors of a file, and what is known of them.
pub(super) fn read_inputs(
    path: &Path,
) -> Result<(BTreeMap<String, HostTensor>, TensorDescs), CliError> {
    let inputs = read_safetensors(path)?;
    let descs = descs(&inputs);
    Ok((inputs, descs))
}

/// The problem of a spec: of the tensors of a file, or of tensors made up from its extents.
pub(super) fn asked(
    common: &Common,
    spec: &AnySpec,
    input: Option<&Path>,
) -> Result<AnyProblem, CliError> {
    match input {
        Some(path) => asked_of(common, spec, &read_inputs(path)?.1),
        None => Ok(spec.ask(&spec.assumed_tensors()?)?),
    }
}

/// The problem of a spec and the tensors of a file, which holds no others unless those are to be ignored.
pub(super) fn asked_of(
    common: &Common,
    spec: &AnySpec,
    tensors: &TensorDescs,
) -> Result<AnyProblem, CliError> {
    let problem = spec.ask(tensors)?;
    if !common.ignore_other_tensors {
        let given = tensors.keys().map(String::as_str);
        with_problem!(&problem, problem => refuse_others(problem, given)?);
    }
    Ok(problem)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(spec: &str) -> String {
        read_spec(spec).err().map_or_else(String::new, |error| error.to_string())
    }

    #[test]
    fn unknown_fields_and_operators_are_named() {
        let error = refusal(r#"{"op": "attention", "sofcap": 1}"#);
        assert!(error.contains("unknown field `sofcap`"), "{error}");
        let error = refusal(r#"{"op": "attenton"}"#);
        assert!(error.contains("unknown variant `attenton`"), "{error}");
        assert!(refusal("{}").contains("missing field `op`"));
        assert!(refusal("no/such/file.json").starts_with("no/such/file.json: "));
    }
}
