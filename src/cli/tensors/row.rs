//! Rows of the index: what an operator answers to specs and tensors.

use serde::Serialize;
use serde_json::{Value, json};

use super::groups::{Group, OperatorGroups};
use crate::any::{AnyProblem, AnySpec, with_problem};
use crate::cli::common::CliError;
use crate::operator::Operator;
use crate::tensor::{Dtype, TensorDesc, TensorDescs};

/// A tensor of an operator.
#[derive(PartialEq, Serialize)]
pub(super) struct Row {
    pub name: String,
    /// `in` or `out`.
    direction: &'static str,
    axes: Vec<String>,
    element_type: String,
    when: String,
}

impl Row {
    /// Whether it says all that `other` does: the same tensor, and whether it must be there.
    fn tells(&self, other: &Self) -> bool {
        let needed = |row: &Self| !row.when.ends_with("optional");
        self.name == other.name
            && self.axes == other.axes
            && self.direction == other.direction
            && (needed(self) || !needed(other))
    }

    pub fn cells(&self) -> [String; 5] {
        let axes = format!("[{}]", self.axes.join(", "));
        let direction = self.direction.to_owned();
        [self.name.clone(), direction, axes, self.element_type.clone(), self.when.clone()]
    }
}

/// The element type of specs: one that is none of the types that tensors have whatever the spec's is.
const DTYPE: Dtype = Dtype::F16;
const DTYPES: [Dtype; 6] =
    [Dtype::F32, Dtype::F16, Dtype::Bf16, Dtype::I32, Dtype::Bool, Dtype::U8];

/// All rows of an operator; no tensor twice.
pub(super) fn rows_of(operator: &OperatorGroups) -> Result<Vec<Row>, CliError> {
    let mut rows: Vec<Row> = Vec::new();
    for group in operator.groups {
        let asked = Asked::new(operator, group)?;
        let mut add = |row: Row| {
            if !rows.iter().any(|known| known.tells(&row)) {
                rows.push(row);
            }
        };
        for (name, _, axes) in group.tensors {
            add(asked.input(name, axes, group)?);
        }
        asked.outputs(operator, group)?.into_iter().for_each(add);
    }
    rows.sort_by_key(|row| row.direction == "out");
    Ok(rows)
}

/// The names that an operator knows, whatever it is asked.
#[cfg(test)]
pub(super) fn known_names(operator: &OperatorGroups) -> Result<&'static [&'static str], CliError> {
    let problem = Asked::new(operator, &operator.groups[0])?.problem()?;
    Ok(with_problem!(&problem, problem => problem.known_names()))
}

/// A spec and tensors that it takes.
struct Asked {
    spec: Value,
    tensors: TensorDescs,
}

impl Asked {
    fn new(operator: &OperatorGroups, group: &Group) -> Result<Self, CliError> {
        let mut spec = json!({"op": operator.op, "dtype": DTYPE});
        let first = &operator.groups[0];
        for text in [first.spec, group.spec] {
            let fields: Value = serde_json::from_str(text).map_err(|error| wrong(group, error))?;
            let fields = fields.as_object().into_iter().flatten();
            fields.for_each(|(name, value)| spec[name] = value.clone());
        }
        let inherited = if group.alone { &[] } else { first.tensors };
        let mut tensors = TensorDescs::new();
        for (name, dtype, axes) in inherited.iter().chain(group.tensors) {
            let extents = axes.iter().map(|axis| operator.extent(axis.trim_end_matches("|1")));
            let shape: Option<Vec<u64>> = extents.collect();
            let shape = shape.ok_or_else(|| wrong(group, format!("{name}: an unknown axis")))?;
            tensors.insert((*name).to_owned(), TensorDesc::contiguous(*dtype, &shape));
        }
        Ok(Self { spec, tensors })
    }

    fn problem(&self) -> Result<AnyProblem, CliError> {
        let spec = serde_json::from_value::<AnySpec>(self.spec.clone());
        let spec = spec.map_err(|error| CliError::Failed(error.to_string()))?;
        Ok(spec.ask(&self.tensors)?)
    }

    /// Whether the operator takes the same with another tensor of a name, or without one.
    fn takes(&self, name: &str, other: Option<TensorDesc>) -> bool {
        let mut tensors = self.tensors.clone();
        match other {
            Some(desc) => tensors.insert(name.to_owned(), desc),
            None => tensors.remove(name),
        };
        let changed = Self { spec: self.spec.clone(), tensors };
        // A tensor that the problem does not hold is one that it does not read.
        changed.problem().is_ok_and(|problem| {
            let held = with_problem!(&problem, problem => Operator::tensors(problem));
            changed.tensors.keys().all(|given| held.iter().any(|(known, _)| known == given))
        })
    }

    fn input(&self, name: &str, axes: &[&str], group: &Group) -> Result<Row, CliError> {
        let desc = &self.tensors[name];
        let of = |dtype: &Dtype| TensorDesc::contiguous(*dtype, desc.shape());
        let taken: Vec<Dtype> =
            DTYPES.into_iter().filter(|dtype| self.takes(name, Some(of(dtype)))).collect();
        if !taken.contains(&desc.dtype) {
            let problem = self.problem().err().map_or_else(String::new, |error| error.to_string());
            return Err(wrong(group, format!("{name} is not taken: {problem}")));
        }
        for (axis, place) in axes.iter().zip(0..).filter(|(axis, _)| axis.ends_with("|1")) {
            let mut shape = desc.shape().to_vec();
            shape[place] = 1;
            if !self.takes(name, Some(TensorDesc::contiguous(desc.dtype, &shape))) {
                return Err(wrong(group, format!("{name} has no extent 1 on {axis}")));
            }
        }
        let when = match (group.when, self.takes(name, None)) {
            ("", true) => "optional".to_owned(),
            ("", false) => "always".to_owned(),
            (when, true) => format!("{when}; optional"),
            (when, false) => when.to_owned(),
        };
        Ok(Row {
            name: name.to_owned(),
            direction: "in",
            axes: axes.iter().map(|axis| (*axis).to_owned()).collect(),
            element_type: in_words(&taken),
            when,
        })
    }

    fn outputs(&self, operator: &OperatorGroups, group: &Group) -> Result<Vec<Row>, CliError> {
        let problem = self.problem().map_err(|error| wrong(group, error))?;
        let (tensors, outputs) = with_problem!(&problem, problem => (owned(Operator::tensors(problem)), problem.outputs()));
        let written = tensors.into_iter().filter(|(name, _)| outputs.contains(&name.as_str()));
        let when = match group.when {
            "" if self.spec.get("outputs").is_none() => "always",
            "" => "named in `outputs`",
            when => when,
        };
        let row = |(name, desc): (String, TensorDesc)| Row {
            name,
            direction: "out",
            axes: desc.shape().iter().map(|&extent| operator.axis_of(extent)).collect(),
            element_type: in_words(&[desc.dtype]),
            when: when.to_owned(),
        };
        Ok(written.map(row).collect())
    }
}

fn owned(tensors: Vec<(&str, TensorDesc)>) -> Vec<(String, TensorDesc)> {
    tensors.into_iter().map(|(name, desc)| (name.to_owned(), desc)).collect()
}

/// Element types in words: the spec's own is `dtype`, where not all float types are taken.
fn in_words(taken: &[Dtype]) -> String {
    let own = !taken.contains(&Dtype::Bf16);
    let word = |dtype: &Dtype| match *dtype {
        DTYPE if own => "dtype".to_owned(),
        other => other.to_string(),
    };
    taken.iter().map(word).collect::<Vec<_>>().join(", ")
}

fn wrong(group: &Group, message: impl std::fmt::Display) -> CliError {
    CliError::Failed(format!("the index of tensors, {:?}: {message}", group.when))
}
