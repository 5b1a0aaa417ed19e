//! The caller's text for the GPU: its own names prefixed, its tensors read through accessors.

use std::collections::BTreeSet;

use super::bounds::MOST_TURNS;
use super::scan::{TokenKind, Tokens};

/// How the kernel reads an aux tensor.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct AuxRewrite {
    /// Function that takes a u32 index and clamps it: `NAME[i]` becomes `accessor(u32(i))`.
    pub(crate) accessor: String,
    /// u32 expression in the place of `arrayLength(&NAME)`.
    pub(crate) length: String,
}

/// One use of an aux tensor.
enum AuxUse {
    /// `NAME[…]`, with the tokens of the brackets.
    Index { open: usize, close: usize },
    /// `arrayLength(&NAME)`, with its first token.
    Length { first: usize },
}

/// A use of an aux tensor that the accessors cannot serve.
pub(super) struct WrongUse {
    pub(super) offset: usize,
    pub(super) name: String,
}

/// The names of the caller's own functions, constants, structs and aliases.
pub(super) fn own_globals(tokens: &Tokens<'_>) -> Vec<String> {
    let mut names = BTreeSet::new();
    for index in 0..tokens.list.len() {
        let declares = tokens.list[index].depth == 0
            && matches!(tokens.word(index), Some("fn" | "const" | "struct" | "alias"))
            && !tokens.follows(index, '@');
        if let (true, Some(name)) = (declares, tokens.word(index + 1)) {
            names.insert(name.to_owned());
        }
    }
    names.into_iter().collect()
}

/// Refuses every use of an aux tensor but `NAME[index]` and `arrayLength(&NAME)`.
pub(super) fn check_aux_uses(tokens: &Tokens<'_>, aux: &[String]) -> Result<(), WrongUse> {
    for index in tokens.names() {
        if let Some(name) = tokens.word(index).filter(|word| aux.iter().any(|name| name == word))
            && aux_use(tokens, index).is_none()
        {
            return Err(WrongUse { offset: tokens.list[index].start, name: name.to_owned() });
        }
    }
    Ok(())
}

/// How the caller's text becomes the kernel's.
pub(super) struct Rewrite<'a> {
    /// Names to prefix.
    pub(super) globals: &'a [String],
    pub(super) prefix: &'a str,
    /// What stands for an aux tensor.
    pub(super) aux: &'a dyn Fn(&str) -> Option<AuxRewrite>,
    /// The function that kernels call.
    pub(super) function: &'a str,
}

/// The text with its globals prefixed, the aux tensors behind accessors and the turns of loops counted; lines stay where
/// they are.
pub(super) fn rewrite(tokens: &Tokens<'_>, how: &Rewrite<'_>) -> String {
    let Rewrite { globals, prefix, aux, function: _ } = *how;
    let mut edits: Vec<Option<String>> = vec![None; tokens.list.len()];
    let counter = count_turns(tokens, how, &mut edits);
    for index in tokens.names() {
        let Some(word) = tokens.word(index) else { continue };
        if globals.iter().any(|name| name == word) {
            edits[index] = Some(format!("{prefix}{word}"));
        } else if let Some(AuxRewrite { accessor, length }) = aux(word) {
            match aux_use(tokens, index) {
                Some(AuxUse::Index { open, close }) => {
                    edits[index] = Some(accessor);
                    edits[open] = Some("(u32(".to_owned());
                    edits[close] = Some("))".to_owned());
                }
                Some(AuxUse::Length { first }) => {
                    edits[first..first + 5].fill(Some(String::new()));
                    edits[first] = Some(length);
                }
                None => {}
            }
        }
    }
    apply(tokens, &edits) + &counter
}

/// Makes every loop end after [`MOST_TURNS`] in a call of the caller's function; gives the declaration of the counter.
fn count_turns(tokens: &Tokens<'_>, how: &Rewrite<'_>, edits: &mut [Option<String>]) -> String {
    // No name of the caller's begins with a digit, so that none is this one.
    let turns = format!("{}0turns", how.prefix);
    let block = |index: usize| {
        let depth = tokens.list[index].depth;
        (index..tokens.list.len())
            .find(|&place| tokens.is(place, '{') && tokens.list[place].depth == depth)
    };
    let mut loops = false;
    for index in 0..tokens.list.len() {
        let text = match tokens.word(index) {
            Some("for" | "while" | "loop") => {
                loops = true;
                format!("{{ if ({turns} == {MOST_TURNS}u) {{ break; }} {turns}++;")
            }
            Some("fn") if tokens.word(index + 1) == Some(how.function) => {
                format!("{{ {turns} = 0u;")
            }
            _ => continue,
        };
        if let Some(open) = block(index) {
            edits[open] = Some(text);
        }
    }
    if loops {
        return format!("\nvar<private> {turns}: u32;\n");
    }
    edits.fill(None);
    String::new()
}

fn apply(tokens: &Tokens<'_>, edits: &[Option<String>]) -> String {
    let mut out = String::with_capacity(tokens.text.len() * 2);
    let mut copied = 0;
    for (token, edit) in tokens.list.iter().zip(edits) {
        if let Some(edit) = edit {
            out.push_str(&tokens.text[copied..token.start]);
            out.push_str(edit);
            copied = token.end;
        }
    }
    out.push_str(&tokens.text[copied..]);
    out
}

fn aux_use(tokens: &Tokens<'_>, index: usize) -> Option<AuxUse> {
    if tokens.is(index + 1, '[') {
        let close = tokens.list[index + 1].partner?;
        return (!takes_address(tokens, index)).then_some(AuxUse::Index { open: index + 1, close });
    }
    let first = index.checked_sub(3)?;
    let is_length = tokens.word(first) == Some("arrayLength")
        && tokens.is(first + 1, '(')
        && tokens.is(first + 2, '&')
        && tokens.is(first + 4, ')');
    is_length.then_some(AuxUse::Length { first })
}

/// Whether an `&` before the token at `index` takes an address rather than joins two operands.
fn takes_address(tokens: &Tokens<'_>, index: usize) -> bool {
    let Some(before) = index.checked_sub(2).filter(|_| tokens.follows(index, '&')) else {
        return false;
    };
    match tokens.list[before].kind {
        TokenKind::Word | TokenKind::Number => false,
        TokenKind::Symbol(symbol) => !matches!(symbol, ')' | ']' | '&'),
    }
}
