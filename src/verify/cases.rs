//! The suite's cases, by group.

mod gates;
mod masks;
mod matmuls;
mod moe;
mod neighborhoods;
mod scores;
mod shapes;
mod splits;
mod storage;

use super::case::Case;

/// All cases, in the order of their groups.
pub fn cases() -> Vec<Case> {
    [
        shapes::cases(),
        masks::cases(),
        scores::cases(),
        splits::cases(),
        neighborhoods::cases(),
        moe::cases(),
        matmuls::cases(),
        gates::cases(),
        storage::cases(),
    ]
    .concat()
}

/// The cases whose name fits a pattern, in which `*` stands for anything.
pub fn find_cases(pattern: &str) -> Vec<Case> {
    cases().into_iter().filter(|case| fits(pattern.as_bytes(), case.name.as_bytes())).collect()
}

fn fits(pattern: &[u8], name: &[u8]) -> bool {
    match pattern {
        [] => name.is_empty(),
        [b'*', rest @ ..] => (0..=name.len()).any(|start| fits(rest, &name[start..])),
        [letter, rest @ ..] => {
            name.split_first().is_some_and(|(first, name)| first == letter && fits(rest, name))
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn names_are_unlike_each_other_and_every_case_is_a_right_problem() {
        let cases = cases();
        let names: BTreeSet<&str> = cases.iter().map(|case| case.name.as_str()).collect();
        assert_eq!(names.len(), cases.len());
        for case in &cases {
            if let Err(error) = case.problem() {
                panic!("{}: {error}", case.name);
            }
        }
    }

    #[test]
    fn patterns_find_names() {
        assert_eq!(find_cases("*").len(), cases().len());
        assert!(find_cases("mask/*").iter().all(|case| case.group() == "mask"));
        assert_eq!(find_cases("mask/full").len(), 1);
        assert!(find_cases("nothing*").is_empty());
    }
}
