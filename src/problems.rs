//! Named real problems, with inputs for them: benches, tests and the program share them.
//!
//! Head counts, dims and masks are those of the models named. Lengths are cut where the f64 reference, or a device
//! that is a processor, would need more than seconds.

mod attention;
mod matmul;
mod moe;
mod neighborhood;
mod suites;
mod work;

pub use crate::resident::Resident;
use suites::LARGE;
pub use suites::{Along, SUITES, Suite};
pub use work::{Counted, Work, work};

use crate::any::{AnyProblem, AnySpec};
use crate::error::{Error, SpecError};
use crate::tensor::{Dtype, TensorDesc, TensorDescs};

/// A problem that somebody has.
#[derive(Debug)]
pub struct NamedProblem {
    /// Its name, as the command line takes it.
    pub name: &'static str,
    /// Where it comes from, in a line.
    pub origin: &'static str,
    spec: fn() -> AnySpec,
    /// Tensors that the spec does not ask for (`kv_lens`), or that are smaller than their fullest shape.
    inputs: &'static [(&'static str, Dtype, &'static [u64])],
}

impl NamedProblem {
    /// The problem, with every extent.
    pub fn spec(&self) -> AnySpec {
        (self.spec)()
    }

    /// The tensors it is asked of.
    ///
    /// # Errors
    /// [`SpecError`] for a spec without all its extents; the tests see to it that there is none.
    pub fn tensors(&self) -> Result<TensorDescs, SpecError> {
        let mut tensors = self.spec().assumed_tensors()?;
        for &(name, dtype, shape) in self.inputs {
            tensors.insert(name.to_owned(), TensorDesc::contiguous(dtype, shape));
        }
        Ok(tensors)
    }

    /// The problem, checked.
    ///
    /// # Errors
    /// As [`AnySpec::ask`]; the tests see to it that there is none.
    pub fn problem(&self) -> Result<AnyProblem, Error> {
        self.spec().ask(&self.tensors()?)
    }
}

/// Every named problem, by operator.
pub fn problems() -> impl Iterator<Item = &'static NamedProblem> {
    [attention::PROBLEMS, neighborhood::PROBLEMS, moe::PROBLEMS, matmul::PROBLEMS]
        .into_iter()
        .flatten()
}

/// The same without those that only a GPU has time for.
pub fn usual_problems() -> impl Iterator<Item = &'static NamedProblem> {
    problems().filter(|named| !LARGE.problems.contains(&named.name))
}

/// The problems that a name stands for: a problem's, or those of a suite.
///
/// # Errors
/// [`SpecError::Value`] that lists the names there are.
pub fn find_all(name: &str) -> Result<Vec<&'static NamedProblem>, SpecError> {
    match SUITES.iter().find(|suite| suite.name == name) {
        Some(suite) => suite.problems.iter().map(|name| find(name)).collect(),
        None => Ok(vec![find(name)?]),
    }
}

/// The problem of this name.
///
/// # Errors
/// [`SpecError::Value`] that lists the names there are, suites too.
pub fn find(name: &str) -> Result<&'static NamedProblem, SpecError> {
    problems().find(|problem| problem.name == name).ok_or_else(|| {
        let suites = SUITES.iter().map(|suite| suite.name);
        let names: Vec<&str> = problems().map(|problem| problem.name).chain(suites).collect();
        SpecError::value("problem", format!("one of {}", names.join(", ")), name)
    })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::any::with_problem;
    use crate::operator::Operator;

    #[test]
    fn every_named_problem_is_right_and_has_inputs() {
        for named in usual_problems() {
            let problem = named.problem().unwrap_or_else(|e| panic!("{}: {e}", named.name));
            let tensors = with_problem!(&problem, problem => Operator::tensors(problem));
            if tensors.iter().map(|(_, desc)| desc.bytes()).sum::<u64>() > 64 << 20 {
                continue;
            }
            let (inputs, name) = (problem.sample(1), named.name);
            with_problem!(&problem, problem => {
                for (tensor, desc) in Operator::tensors(problem) {
                    if !problem.outputs().contains(&tensor) {
                        assert_eq!(inputs[tensor].shape, desc.shape(), "{name} {tensor}");
                        assert_eq!(inputs[tensor].dtype, desc.dtype, "{name} {tensor}");
                    }
                }
            });
        }
    }

    #[test]
    fn suites_hold_problems_that_there_are_and_have_names_of_their_own() {
        for suite in SUITES {
            assert!(find(suite.name).is_err(), "{}", suite.name);
            assert!(suite.problems.iter().all(|name| find(name).is_ok()), "{}", suite.name);
        }
    }

    #[test]
    fn names_are_unique_and_an_unknown_one_lists_them() {
        let names: BTreeSet<&str> = problems().map(|named| named.name).collect();
        assert_eq!(names.len(), problems().count());
        assert!(names.iter().all(|name| find(name).unwrap().name == *name));
        let error = find("prefil_64").unwrap_err().to_string();
        assert!(error.contains("prefill_64, prefill_causal") && error.ends_with("got prefil_64"));
    }
}
