//! How large and how deep a snippet may be. Parsers, interpreters and drivers' compilers walk it by recursion, and
//! compilers copy each function to where it is called: what is beyond these bounds would end the process by a full
//! stack, or take minutes to compile.

use naga::valid::ModuleInfo;
use naga::{Block, Expression, Function, Module, Span, Statement};

use super::check::Finding;
use super::scan::{ScanError, TokenKind, Tokens};

/// Bytes of the text.
const MOST_BYTES: usize = 64 << 10;
/// Words, numbers and symbols.
const MOST_TOKENS: usize = 8192;
/// Levels of nesting. The costliest ways to reach it take naga, built without optimisation, 1.5 MiB of stack: threads
/// have 2 MiB where nothing else is asked for.
const MOST_LEVELS: u32 = 96;
/// What each nesting counts, by the stack that naga takes for it.
const OPERATOR_LEVELS: u32 = 1;
const BRACKET_LEVELS: u32 = 2;
const BLOCK_LEVELS: u32 = 3;
const LOOP_LEVELS: u32 = 6;
/// Statements of all functions, each counted where it is called.
const MOST_STATEMENTS: u64 = 1 << 14;
/// Blocks and calls around a statement, those of the callers counted.
const MOST_DEPTH: u64 = 64;
/// Bytes of a value, and of all local variables: a lane has about as many registers.
const MOST_PRIVATE_BYTES: u64 = 1024;

/// Turns of all loops in one call of the caller's function. On a device the loops end there; the reference refuses.
pub(super) const MOST_TURNS: u32 = 1 << 16;

/// Refuses a text that is too long to be looked at.
pub(super) fn check_length(text: &str) -> Result<(), ScanError> {
    if text.len() <= MOST_BYTES {
        return Ok(());
    }
    let message = format!("a snippet has at most {MOST_BYTES} bytes, this one {}", text.len());
    Err(ScanError { offset: MOST_BYTES, message })
}

/// Refuses a text of too many tokens, or one that nests too deep, before anything walks it by recursion.
pub(super) fn check_nesting(tokens: &Tokens<'_>) -> Result<(), ScanError> {
    let mut nesting = Nesting { outer: Vec::new(), levels: 0, inner: Level::default() };
    for index in 0..tokens.list.len() {
        nesting.take(tokens, index);
        if nesting.deepest() > MOST_LEVELS {
            let message = format!(
                "nested deeper than {MOST_LEVELS} levels (an operator counts {OPERATOR_LEVELS}, a bracket \
                 {BRACKET_LEVELS}, a block or an else {BLOCK_LEVELS}, a loop {LOOP_LEVELS}): split it into statements or functions"
            );
            return Err(ScanError { offset: tokens.list[index].start, message });
        }
    }
    if let Some(token) = tokens.list.get(MOST_TOKENS) {
        let count = tokens.list.len();
        let message = format!(
            "a snippet has at most {MOST_TOKENS} words, numbers and symbols, this one {count}"
        );
        return Err(ScanError { offset: token.start, message });
    }
    Ok(())
}

/// What is between two brackets, as far as it has been read.
#[derive(Clone, Copy, Default)]
struct Level {
    /// What its bracket counts.
    weight: u32,
    /// `else` in the chain of branches that is being read.
    branches: u32,
    /// Operators of the expression that is being read: each may stand around all others.
    operators: u32,
    /// The deepest bracket of that expression.
    deepest: u32,
    /// The deepest expression that ended before.
    ended: u32,
    /// Whether the next block is a loop's.
    is_loop: bool,
}

impl Level {
    fn own(&self) -> u32 {
        self.weight + self.branches * BLOCK_LEVELS + self.operators * OPERATOR_LEVELS
    }

    /// An expression ends: the next one does not stand in it.
    fn end(&mut self) {
        self.ended = self.ended.max(self.own() + self.deepest);
        (self.operators, self.deepest) = (0, 0);
    }
}

/// Counts how deep a parser that takes each operator for one more level is at a token.
struct Nesting {
    outer: Vec<Level>,
    /// Levels of all that is in `outer`.
    levels: u32,
    inner: Level,
}

impl Nesting {
    fn deepest(&self) -> u32 {
        self.levels + self.inner.own() + self.inner.deepest
    }

    fn take(&mut self, tokens: &Tokens<'_>, index: usize) {
        match (tokens.list[index].kind, tokens.word(index)) {
            (_, Some("for" | "while" | "loop")) => self.inner.is_loop = true,
            (_, Some("else")) => self.inner.branches += 1,
            (TokenKind::Symbol('(' | '['), _) => {
                self.inner.operators += 1;
                self.open(BRACKET_LEVELS);
            }
            (TokenKind::Symbol('{'), _) => {
                self.inner.end();
                let is_loop = std::mem::take(&mut self.inner.is_loop);
                self.open(if is_loop { LOOP_LEVELS } else { BLOCK_LEVELS });
            }
            (TokenKind::Symbol(')' | ']'), _) => self.close(),
            (TokenKind::Symbol('}'), _) => {
                self.close();
                self.inner.end();
                if tokens.word(index + 1) != Some("else") {
                    self.inner.branches = 0;
                }
            }
            (TokenKind::Symbol(',' | ';'), _) => self.inner.end(),
            (TokenKind::Symbol(symbol), _) if symbol != ':' && !ends_operator(tokens, index) => {
                self.inner.operators += 1;
            }
            _ => {}
        }
    }

    fn open(&mut self, weight: u32) {
        self.levels += self.inner.own();
        self.outer.push(self.inner);
        self.inner = Level { weight, ..Level::default() };
    }

    fn close(&mut self) {
        self.inner.end();
        let ended = self.inner.ended;
        // A text whose brackets match, as the scan has made sure.
        self.inner = self.outer.pop().unwrap_or_default();
        self.levels -= self.inner.own();
        self.inner.deepest = self.inner.deepest.max(ended);
    }
}

/// Whether a symbol is the second one of an operator of two.
fn ends_operator(tokens: &Tokens<'_>, index: usize) -> bool {
    let Some(before) = index.checked_sub(1).map(|before| &tokens.list[before]) else {
        return false;
    };
    let pair = tokens.text.get(before.start..tokens.list[index].end);
    matches!(
        pair,
        Some("&&" | "||" | "==" | "!=" | "<=" | ">=" | "<<" | ">>" | "->" | "++" | "--" | "+=")
            | Some("-=" | "*=" | "/=" | "%=" | "&=" | "|=" | "^=")
    )
}

/// Refuses functions that are too long or too deep where their calls are written out.
pub(super) fn check_calls(module: &Module) -> Result<(), Finding> {
    // Callees stand before their callers.
    let mut known: Vec<Extent> = Vec::new();
    for (handle, function) in module.functions.iter() {
        let extent = Extent::of(&function.body, &known);
        let span = module.functions.get_span(handle);
        let name = function.name.as_deref().unwrap_or("");
        if extent.statements > MOST_STATEMENTS {
            let message = format!(
                "function {name} has more than {MOST_STATEMENTS} statements, those of the functions that it calls counted at each call"
            );
            return Err(Finding::new(span, message));
        }
        if extent.depth > MOST_DEPTH {
            let message =
                format!("function {name} stands {MOST_DEPTH} or more blocks and calls deep");
            return Err(Finding::new(span, message));
        }
        known.push(extent);
    }
    Ok(())
}

/// How long and how deep a block is with all that it calls.
#[derive(Clone, Copy, Default)]
struct Extent {
    statements: u64,
    depth: u64,
}

impl Extent {
    fn of(block: &Block, known: &[Self]) -> Self {
        let mut whole = Self::default();
        for statement in block {
            whole.statements += 1;
            match statement {
                Statement::Call { function, .. } => {
                    whole.hold(known.get(function.index()).copied().unwrap_or_default());
                }
                Statement::Block(inner) => whole.hold(Self::of(inner, known)),
                Statement::If { accept, reject, .. } => {
                    whole.hold(Self::of(accept, known));
                    whole.hold(Self::of(reject, known));
                }
                Statement::Switch { cases, .. } => {
                    cases.iter().for_each(|case| whole.hold(Self::of(&case.body, known)));
                }
                Statement::Loop { body, continuing, .. } => {
                    whole.hold(Self::of(body, known));
                    whole.hold(Self::of(continuing, known));
                }
                _ => {}
            }
        }
        whole
    }

    fn hold(&mut self, inner: Self) {
        self.statements = self.statements.saturating_add(inner.statements);
        self.depth = self.depth.max(inner.depth + 1);
    }
}

/// Refuses values and local variables that no lane has registers for; `info` is what naga knows of the module.
pub(super) fn check_private_bytes(module: &Module, info: &ModuleInfo) -> Result<(), Finding> {
    let size = |ty: &naga::TypeInner| match ty {
        // Of the tensors, which are in memory.
        naga::TypeInner::Array { size: naga::ArraySize::Dynamic, .. } => 0,
        ty => u64::from(ty.size(module.to_ctx())),
    };
    let refuse = |span: Span, what: &str, bytes: u64| {
        let message = format!(
            "{what} {bytes} bytes, a snippet has at most {MOST_PRIVATE_BYTES}: large tables are tensors, named in aux"
        );
        Finding::new(span, message)
    };
    for (handle, constant) in module.constants.iter() {
        let bytes = size(&module.types[constant.ty].inner);
        if bytes > MOST_PRIVATE_BYTES {
            return Err(refuse(module.constants.get_span(handle), "a constant of", bytes));
        }
    }
    let mut all = 0;
    for (handle, function) in module.functions.iter() {
        for (local, variable) in function.local_variables.iter() {
            all += size(&module.types[variable.ty].inner);
            if all > MOST_PRIVATE_BYTES {
                let span = function.local_variables.get_span(local);
                return Err(refuse(span, "local variables of", all));
            }
        }
        if let Some((span, bytes)) = largest_value(module, function, &info[handle], &size)
            && bytes > MOST_PRIVATE_BYTES
        {
            return Err(refuse(span, "a value of", bytes));
        }
    }
    Ok(())
}

fn largest_value(
    module: &Module,
    function: &Function,
    info: &naga::valid::FunctionInfo,
    size: &dyn Fn(&naga::TypeInner) -> u64,
) -> Option<(Span, u64)> {
    let values = function.expressions.iter().map(|(handle, expression)| {
        let bytes = match expression {
            Expression::GlobalVariable(_) => 0,
            _ => size(info[handle].ty.inner_with(&module.types)),
        };
        (function.expressions.get_span(handle), bytes)
    });
    values.max_by_key(|(_, bytes)| *bytes)
}
