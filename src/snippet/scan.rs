//! WGSL tokens, as far as renaming needs them: words, numbers, single symbols and matching brackets.

/// What a token is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum TokenKind {
    /// An identifier or keyword.
    Word,
    /// A number with its suffix.
    Number,
    /// One character of punctuation.
    Symbol(char),
}

/// A piece of the text.
#[derive(Clone, Debug)]
pub(super) struct Token {
    pub(super) kind: TokenKind,
    /// First byte.
    pub(super) start: usize,
    /// One past the last byte.
    pub(super) end: usize,
    /// Number of brackets `( [ {` around it.
    pub(super) depth: u32,
    /// For a bracket, the token that closes or opens it.
    pub(super) partner: Option<usize>,
}

/// The tokens of a text, comments and blanks skipped.
pub(super) struct Tokens<'a> {
    pub(super) text: &'a str,
    pub(super) list: Vec<Token>,
}

/// Where and why a text has no tokens: a comment or bracket without its end.
#[derive(Debug)]
pub(super) struct ScanError {
    pub(super) offset: usize,
    pub(super) message: String,
}

impl<'a> Tokens<'a> {
    /// Splits a text.
    pub(super) fn of(text: &'a str) -> Result<Self, ScanError> {
        let mut list = Vec::new();
        let mut at = 0;
        while let Some(next) = text[at..].chars().next() {
            let rest = &text[at..];
            let (kind, length) = if rest.starts_with("//") {
                (None, rest.find(is_line_end).unwrap_or(rest.len()))
            } else if rest.starts_with("/*") {
                (None, block_comment_length(rest, at)?)
            } else if next.is_ascii_digit() {
                (Some(TokenKind::Number), number_length(rest))
            } else if is_blank(next) {
                (None, next.len_utf8())
            } else if is_word_part(next) {
                (Some(TokenKind::Word), word_length(rest))
            } else {
                (Some(TokenKind::Symbol(next)), next.len_utf8())
            };
            if let Some(kind) = kind {
                list.push(Token { kind, start: at, end: at + length, depth: 0, partner: None });
            }
            at += length;
        }
        match_brackets(&mut list)?;
        Ok(Self { text, list })
    }

    /// The word at `index`, if a word is there.
    pub(super) fn word(&self, index: usize) -> Option<&'a str> {
        let token = self.list.get(index).filter(|token| token.kind == TokenKind::Word)?;
        Some(&self.text[token.start..token.end])
    }

    /// Whether the symbol at `index` is `symbol`.
    pub(super) fn is(&self, index: usize, symbol: char) -> bool {
        self.list.get(index).is_some_and(|token| token.kind == TokenKind::Symbol(symbol))
    }

    /// Whether the token before `index` is `symbol`.
    pub(super) fn follows(&self, index: usize, symbol: char) -> bool {
        index.checked_sub(1).is_some_and(|before| self.is(before, symbol))
    }

    /// Indices of the words that may name a thing at module scope: no members, attributes or members' declarations.
    pub(super) fn names(&self) -> Vec<usize> {
        let mut struct_end = 0;
        let mut names = Vec::new();
        for index in 0..self.list.len() {
            let Some(word) = self.word(index) else { continue };
            if word == "struct" && self.is(index + 2, '{') {
                struct_end = self.list[index + 2].partner.unwrap_or(0);
            }
            let is_member = index < struct_end && self.is(index + 1, ':');
            if !is_member && !self.follows(index, '.') && !self.follows(index, '@') {
                names.push(index);
            }
        }
        names
    }
}

fn match_brackets(list: &mut [Token]) -> Result<(), ScanError> {
    let mut open: Vec<(usize, char)> = Vec::new();
    for index in 0..list.len() {
        let TokenKind::Symbol(symbol) = list[index].kind else {
            list[index].depth = open.len() as u32;
            continue;
        };
        let closer = match symbol {
            '(' => Some(')'),
            '[' => Some(']'),
            '{' => Some('}'),
            _ => None,
        };
        if let (')' | ']' | '}', last) = (symbol, open.last().copied()) {
            let Some((opener, _)) = last.filter(|&(_, wanted)| wanted == symbol) else {
                let message = format!("`{symbol}` closes nothing");
                return Err(ScanError { offset: list[index].start, message });
            };
            open.pop();
            list[opener].partner = Some(index);
            list[index].partner = Some(opener);
        }
        list[index].depth = open.len() as u32;
        if let Some(closer) = closer {
            open.push((index, closer));
        }
    }
    match open.last() {
        None => Ok(()),
        Some(&(opener, closer)) => {
            let message = format!("bracket without its `{closer}`");
            Err(ScanError { offset: list[opener].start, message })
        }
    }
}

/// Line breaks as WGSL has them: a `//` comment ends there.
fn is_line_end(c: char) -> bool {
    matches!(c, '\u{a}'..='\u{d}' | '\u{85}' | '\u{2028}' | '\u{2029}')
}

fn is_blank(c: char) -> bool {
    is_line_end(c) || matches!(c, ' ' | '\t' | '\u{200e}' | '\u{200f}')
}

/// Every letter that WGSL takes and more: a word of naga's is never split, and naga refuses the rest.
fn is_word_part(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '_' || !(c.is_ascii() || is_blank(c))
}

fn word_length(text: &str) -> usize {
    text.find(|c| !is_word_part(c)).unwrap_or(text.len())
}

fn number_length(text: &str) -> usize {
    text.find(|c: char| !(c.is_ascii_alphanumeric() || c == '.')).unwrap_or(text.len())
}

/// Block comments nest.
fn block_comment_length(text: &str, offset: usize) -> Result<usize, ScanError> {
    let mut depth = 0_u32;
    let mut at = 0;
    while at < text.len() {
        let rest = &text[at..];
        if rest.starts_with("/*") {
            (depth, at) = (depth + 1, at + 2);
        } else if rest.starts_with("*/") {
            (depth, at) = (depth - 1, at + 2);
            if depth == 0 {
                return Ok(at);
            }
        } else {
            at += rest.chars().next().map_or(1, char::len_utf8);
        }
    }
    Err(ScanError { offset, message: "comment without its `*/`".to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pieces(text: &str) -> Vec<&str> {
        let tokens = Tokens::of(text).unwrap();
        tokens.list.iter().map(|token| &text[token.start..token.end]).collect()
    }

    #[test]
    fn comments_are_no_tokens() {
        let text = "a // b [\n/* c /* d */ ( */ e[1.5f]";
        assert_eq!(pieces(text), ["a", "e", "[", "1.5f", "]"]);
    }

    #[test]
    fn words_are_whole() {
        assert_eq!(pieces("e\u{301}l=\u{e9}_1.x"), ["e\u{301}l", "=", "\u{e9}_1", ".", "x"]);
    }

    #[test]
    fn brackets_find_their_partners() {
        let tokens = Tokens::of("f(a[b[1]], {})").unwrap();
        assert_eq!(tokens.list[1].partner, Some(tokens.list.len() - 1));
        assert_eq!(tokens.list[3].partner, Some(8));
        assert_eq!(tokens.list[4].depth, 2);
    }

    #[test]
    fn what_is_not_closed_is_found() {
        for (text, offset) in [("f(a]", 3), ("f(", 1), (" /* a /* */", 1), ("}", 0)] {
            assert_eq!(Tokens::of(text).err().unwrap().offset, offset, "{text}");
        }
    }

    #[test]
    fn members_and_attributes_are_no_names() {
        let text = "struct S { @align(N) a: f32, } fn f(s: S) { s.a; }";
        let tokens = Tokens::of(text).unwrap();
        let names: Vec<_> =
            tokens.names().into_iter().filter_map(|index| tokens.word(index)).collect();
        assert_eq!(names, ["struct", "S", "N", "f32", "fn", "f", "s", "S", "s"]);
    }
}
