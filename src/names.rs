//! Names of tensors: each is one that the spec asks for, and given once.

use crate::error::SpecError;
use crate::operator::Operator;

/// Refuses tensors that a problem has no use for. What a misspelt name may have meant is the nearest of the problem's own
/// tensors and of those that its operator knows.
///
/// # Errors
/// [`SpecError::UnknownTensor`] naming the first of them.
pub(crate) fn refuse_others<'a, O: Operator>(
    problem: &O,
    given: impl IntoIterator<Item = &'a str>,
) -> Result<(), SpecError> {
    let tensors = problem.tensors();
    let asked = |name: &str| tensors.iter().any(|(known, _)| *known == name);
    match given.into_iter().find(|name| !asked(name)) {
        None => Ok(()),
        Some(name) => {
            let own = tensors.iter().map(|(known, _)| *known);
            let known = own.chain(problem.known_names().iter().copied());
            let nearest = known.min_by_key(|known| strsim::damerau_levenshtein(known, name));
            let nearest = nearest.unwrap_or_default().to_owned();
            Err(SpecError::UnknownTensor { name: name.to_owned(), nearest })
        }
    }
}

/// Refuses a name that is given twice.
///
/// # Errors
/// [`SpecError::Value`] naming it.
pub(crate) fn refuse_twice<'a>(
    names: impl Iterator<Item = &'a str> + Clone,
) -> Result<(), SpecError> {
    let mut rest = names;
    while let Some(name) = rest.next() {
        if rest.clone().any(|other| other == name) {
            return Err(SpecError::value(name, "one tensor of this name", "several"));
        }
    }
    Ok(())
}
