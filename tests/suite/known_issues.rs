//! Cases that are known to fail. One that passes after all fails the suite, so that the list stays true.

/// Names of cases, and why they fail.
pub const KNOWN: &[(&str, &str)] = &[];

/// How a case ended.
pub struct Outcome {
    pub name: String,
    pub failure: Option<String>,
}

/// Holds outcomes against the list.
pub fn settle(known: &[(&str, &str)], outcomes: &[Outcome]) -> Result<(), String> {
    let mut wrong = Vec::new();
    for Outcome { name, failure } in outcomes {
        let reason = known.iter().find(|(known, _)| known == name).map(|(_, reason)| reason);
        match (failure, reason) {
            (Some(failure), None) => wrong.push(failure.clone()),
            (None, Some(reason)) => {
                wrong.push(format!(
                    "{name} passes although it is known to fail: {reason}; take it off the list"
                ));
            }
            (None, None) | (Some(_), Some(_)) => {}
        }
    }
    match wrong.len() {
        0 => Ok(()),
        count => {
            Err(format!("{count} of {} cases are wrong\n{}", outcomes.len(), wrong.join("\n")))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outcome(name: &str, failure: Option<&str>) -> Outcome {
        Outcome { name: name.to_owned(), failure: failure.map(str::to_owned) }
    }

    #[test]
    fn an_unexpected_failure_fails() {
        assert_eq!(
            settle(&[], &[outcome("a", Some("a: bad"))]).unwrap_err(),
            "1 of 1 cases are wrong\na: bad"
        );
        assert!(settle(&[("b", "why")], &[outcome("a", Some("bad"))]).is_err());
    }

    #[test]
    fn a_known_failure_is_let_pass() {
        assert!(settle(&[("a", "why")], &[outcome("a", Some("bad")), outcome("b", None)]).is_ok());
    }

    #[test]
    fn an_unexpected_pass_fails() {
        let error = settle(&[("a", "the driver")], &[outcome("a", None)]).unwrap_err();
        assert!(error.contains("a passes although it is known to fail: the driver"), "{error}");
    }
}
