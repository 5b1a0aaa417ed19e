//! Specs as the command line takes them: a file, or JSON in place.

use std::collections::BTreeMap;
use std::path::Path;

use serde::de::DeserializeOwned;
use serde_json::Value;

use super::common::{CliError, Common};
use super::output::{read_text, tell};
use crate::any::{AnyProblem, AnySpec, with_problem};
use crate::attention::{AttentionSpec, MergeSpec};
use crate::matmul::MatmulSpec;
use crate::moe::MoeSpec;
use crate::names::refuse_others;
use crate::neighborhood::{NeighborhoodAggregateSpec, NeighborhoodScoresSpec, NeighborhoodSpec};
use crate::tensor::{HostTensor, TensorDescs, descs, read_safetensors};

/// Reads a spec: JSON where it starts with `{`, else the name of a file of it.
pub(super) fn read_spec(spec: &str) -> Result<AnySpec, CliError> {
    if spec.trim_start().starts_with('{') {
        return parse("spec", spec);
    }
    parse(spec, &read_text(Path::new(spec))?)
}

fn parse(name: &str, text: &str) -> Result<AnySpec, CliError> {
    serde_json::from_str(text).map_err(|error| {
        let message = located(text).unwrap_or_else(|| error.to_string());
        CliError::Request(format!("{name}: {message}"))
    })
}

/// What is wrong with a spec that is JSON, with the field that it is about: reading `op` first loses it.
fn located(text: &str) -> Option<String> {
    let value: Value = serde_json::from_str(text).ok()?;
    let Value::Object(mut fields) = value else {
        return Some(format!("expected an object with a field op, got {value}"));
    };
    let operator = fields.remove("op")?;
    let fields = Value::Object(fields);
    match operator.as_str()? {
        "attention" => wrong_field::<AttentionSpec>(fields),
        "attention_merge" => wrong_field::<MergeSpec>(fields),
        "neighborhood" => wrong_field::<NeighborhoodSpec>(fields),
        "neighborhood_scores" => wrong_field::<NeighborhoodScoresSpec>(fields),
        "neighborhood_aggregate" => wrong_field::<NeighborhoodAggregateSpec>(fields),
        "moe" => wrong_field::<MoeSpec>(fields),
        "matmul" => wrong_field::<MatmulSpec>(fields),
        _ => None,
    }
}

fn wrong_field<T: DeserializeOwned>(fields: Value) -> Option<String> {
    let error = serde_path_to_error::deserialize::<_, T>(fields).err()?;
    let path = error.path().to_string();
    Some(match path.as_str() {
        "." => error.into_inner().to_string(),
        _ => format!("{path}: {}", error.into_inner()),
    })
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

/// What a loss sends back, by its names in the contract: files of training steps hold it beside the forward pass's tensors.
const SENT_BACK: [&str; 2] = ["dout", "dlse"];

/// The problem of a spec and the tensors of a file, which holds no others unless those are to be ignored. What a loss sends back
/// is said not to be read.
pub(super) fn asked_of(
    common: &Common,
    spec: &AnySpec,
    tensors: &TensorDescs,
) -> Result<AnyProblem, CliError> {
    let problem = spec.ask(tensors)?;
    if !common.ignore_other_tensors {
        let (sent_back, given): (Vec<&str>, Vec<&str>) =
            tensors.keys().map(String::as_str).partition(|name| SENT_BACK.contains(name));
        for name in sent_back {
            tell(format!("note: {name} is not read: it belongs to the backward pass"));
        }
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
