//! Named real problems, with inputs for them: benches, tests and the program share them.
//!
//! Head counts, dims and masks are those of the models named. Lengths are cut where the f64 reference, or a device
//! that is a processor, would need more than seconds.

mod attention;
mod fills;
mod matmul;
mod moe;
mod neighborhood;
mod suites;
mod work;

pub use crate::resident::Resident;
pub use suites::{Along, SUITES, Suite};
use suites::{LARGE, MASKS};
pub use work::{Counted, Work, work};

use std::collections::BTreeMap;

use crate::any::{AnyProblem, AnySpec};
use crate::error::{Error, SpecError};
use crate::tensor::{Dtype, HostTensor, TensorDesc, TensorDescs};

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

    /// Inputs for its problem: [`Operator::sample`](crate::operator::Operator::sample), and what this one has of its own.
    pub fn sample(&self, problem: &AnyProblem, seed: u64) -> BTreeMap<String, HostTensor> {
        let mut inputs = problem.sample(seed);
        for (name, tensor) in &mut inputs {
            if let Some(values) = fills::values(self.name, name, &tensor.shape) {
                *tensor = HostTensor::from_f64(tensor.dtype, &tensor.shape, &values);
            }
        }
        inputs
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

/// The same without those that only a GPU has time for, and without those whose references take minutes.
pub fn usual_problems() -> impl Iterator<Item = &'static NamedProblem> {
    let is_long = |name| LARGE.problems.contains(&name) || MASKS.problems.contains(&name);
    problems().filter(move |named| !is_long(named.name))
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
    fn a_map_that_keeps_little_keeps_a_block_a_row_and_documents_are_short() {
        for name in ["long_blocks", "long_blocks_of_heads"] {
            let named = find(name).unwrap();
            let keep = &named.sample(&named.problem().unwrap(), 1)["keep"];
            let heads = keep.shape[1] as f64;
            assert_eq!(keep.shape[2..], [256, 256], "{name}");
            assert_eq!(keep.to_f64().iter().sum::<f64>(), 256.0 * heads, "{name}");
        }
        let named = find("long_documents").unwrap();
        let ids = named.sample(&named.problem().unwrap(), 1)["documents"].to_f64();
        assert_eq!([ids[15], ids[16], ids[16_383]], [0.0, 1.0, 1023.0]);
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
