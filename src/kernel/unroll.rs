//! Loops that are written out before a compiler sees them.
//!
//! An array of matrices that is indexed by a loop's variable stays in registers only where the driver unrolls the loop,
//! and not all do: one kept them in memory from four matrices on, at a third of the speed. A loop whose first line ends
//! with `{ // unrolled` becomes so many blocks with a constant in the variable's place.

use std::collections::BTreeMap;

/// How the first line of a loop ends that is written out.
const MARK: &str = "{ // unrolled";

/// Writes out the marked loops of `text`: `for (var n = 0u; n < COUNT; n++) { // unrolled`, COUNT being a constant of
/// `counts`. What is not written like that stays as it is, for the compiler to see.
pub(super) fn unrolled(mut text: String, counts: &BTreeMap<String, u32>) -> String {
    let mut from = 0;
    while let Some(mark) = text[from..].find(MARK).map(|at| from + at) {
        let start = text[..mark].rfind("for (").unwrap_or(mark);
        let body = mark + 1;
        match (header(&text[start..mark], counts), closing(&text[body..])) {
            (Some((name, count)), Some(length)) => {
                let inner = text[body..body + length].replacen(&MARK[1..], "", 1);
                let block = |n: u32| format!("{{ const {name} = {n}u;{inner}}}");
                let blocks: Vec<String> = (0..count).map(block).collect();
                text.replace_range(start..=body + length, &blocks.join("\n"));
                from = start;
            }
            _ => from = body,
        }
    }
    text
}

/// Variable and count of a loop's head.
fn header<'a>(head: &'a str, counts: &BTreeMap<String, u32>) -> Option<(&'a str, u32)> {
    let (name, rest) = head.strip_prefix("for (var ")?.split_once(" = 0u; ")?;
    let count = rest.strip_prefix(name)?.strip_prefix(" < ")?.split_once(';')?.0;
    Some((name, *counts.get(count)?))
}

/// Where the brace closes that is open at the start.
fn closing(text: &str) -> Option<usize> {
    let mut depth = 1;
    text.char_indices().find_map(|(at, c)| {
        match c {
            '{' => depth += 1,
            '}' => depth -= 1,
            _ => {}
        }
        (depth == 0).then_some(at)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marked_loops_become_blocks_inner_ones_too() {
        let counts = BTreeMap::from([("ROWS".to_owned(), 2), ("NONE".to_owned(), 0)]);
        let unrolled = |text: &str| super::unrolled(text.to_owned(), &counts);
        let text = "a;\nfor (var r = 0u; r < ROWS; r++) { // unrolled\n x[r];\n}\nb;";
        assert_eq!(
            unrolled(text),
            "a;\n{ const r = 0u;\n x[r];\n}\n{ const r = 1u;\n x[r];\n}\nb;"
        );
        let nested = "for (var r = 0u; r < ROWS; r++) { // unrolled\n for (var n = 0u; n < ROWS; n++) { // unrolled\n { x[r, n]; } } }";
        let all = unrolled(nested);
        assert_eq!((all.matches("x[r, n]").count(), all.matches("for").count()), (4, 0), "{all}");
        assert_eq!(unrolled("for (var r = 0u; r < NONE; r++) { // unrolled\n x; }"), "");
        let unknown = "for (var r = 0u; r < MANY; r++) { // unrolled\n x; }";
        assert_eq!(unrolled(unknown), unknown);
    }
}
