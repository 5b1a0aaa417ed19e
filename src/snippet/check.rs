//! What a snippet must not hold, found in the parsed module.

use naga::{
    Expression, Function, Handle, Literal, Module, Scalar, ScalarKind, Span, Statement, TypeInner,
};

use super::signature::{Argument, Signature};

/// Something wrong, and where.
pub(super) struct Finding {
    pub(super) span: Span,
    pub(super) message: String,
}

impl Finding {
    pub(super) fn new(span: Span, message: impl Into<String>) -> Self {
        Self { span, message: message.into() }
    }
}

/// Refuses declarations that belong to the kernel; `known` are the bindings of the aux tensors.
pub(super) fn check_declarations(module: &Module, known: &[String]) -> Result<(), Finding> {
    if let Some((handle, found)) = module.overrides.iter().next() {
        let name = found.name.as_deref().unwrap_or("override");
        let message = format!("override {name}: a snippet has no overrides; write const");
        return Err(Finding::new(module.overrides.get_span(handle), message));
    }
    for (handle, variable) in module.global_variables.iter() {
        let name = variable.name.as_deref().unwrap_or("");
        if !known.iter().any(|known| known == name) {
            let message = format!(
                "var {name}: a snippet has no variables at module scope; tensors come by aux"
            );
            return Err(Finding::new(module.global_variables.get_span(handle), message));
        }
    }
    Ok(())
}

/// Refuses statements and expressions that only a kernel may hold.
pub(super) fn check_bodies(module: &Module) -> Result<(), Finding> {
    for (_, function) in module.functions.iter() {
        for (handle, expression) in function.expressions.iter() {
            if matches!(expression, Expression::Derivative { .. }) {
                let span = function.expressions.get_span(handle);
                return Err(Finding::new(span, "derivatives exist in fragment shaders only"));
            }
        }
        let mut found = None;
        walk(&function.body, &mut |statement, span| {
            let message = match statement {
                Statement::ControlBarrier(_) | Statement::MemoryBarrier(_) => {
                    "a barrier in a snippet"
                }
                Statement::Kill => "discard in a snippet",
                Statement::Loop { body, continuing, break_if } => {
                    let breaks = break_if.is_some_and(|end| literal(function, end) != Some(false));
                    if breaks || [body, continuing].into_iter().any(|b| leaves(function, b, false))
                    {
                        return;
                    }
                    "a loop without an end: nothing leaves it"
                }
                _ => return,
            };
            found.get_or_insert_with(|| Finding::new(span, message));
        });
        found.map_or(Ok(()), Err)?;
    }
    Ok(())
}

/// Finds the caller's function and holds its signature against the contract's.
pub(super) fn find_function(
    module: &Module,
    signature: &Signature,
) -> Result<Handle<Function>, Finding> {
    let Signature { name, text, arguments, result, provided: _ } = *signature;
    let named = |(_, function): &(_, &Function)| function.name.as_deref() == Some(name);
    let Some((handle, function)) = module.functions.iter().find(named) else {
        let message = format!("no function {name}; expected {text}");
        return Err(Finding::new(Span::new(0, 0), message));
    };
    let takes = |ty, expected: &Argument| match (&module.types[ty].inner, expected) {
        (TypeInner::Scalar(Scalar::F32), Argument::Float)
        | (TypeInner::Scalar(Scalar::U32), Argument::Uint) => true,
        (TypeInner::Vector { size, scalar: Scalar::U32 }, Argument::Uints(expected)) => {
            size == expected
        }
        _ => false,
    };
    let gives = |ty| match module.types[ty].inner {
        TypeInner::Scalar(scalar) => {
            scalar.kind == result && (scalar.width == 4 || result == ScalarKind::Bool)
        }
        _ => false,
    };
    let fits = function.arguments.len() == arguments.len()
        && function.arguments.iter().zip(arguments).all(|(got, asked)| takes(got.ty, asked))
        && function.result.as_ref().is_some_and(|result| gives(result.ty));
    if !fits {
        let message = format!("{name} must be {text}");
        return Err(Finding::new(module.functions.get_span(handle), message));
    }
    Ok(handle)
}

/// Whether the module could leave the bounds of an array or run forever: it has a loop, or an index that is not
/// known and not into an aux tensor (those go through accessors that clamp).
pub(super) fn needs_checks(module: &Module) -> bool {
    module.functions.iter().any(|(_, function)| {
        let expressions = &function.expressions;
        let unproven = expressions.iter().any(|(_, expression)| match expression {
            Expression::Access { base, .. } => {
                !matches!(expressions[*base], Expression::GlobalVariable(_))
            }
            _ => false,
        });
        let mut loops = false;
        walk(&function.body, &mut |statement, _| {
            loops |= matches!(statement, Statement::Loop { .. });
        });
        unproven || loops
    })
}

/// Whether something may leave a loop with this in its body; `inner` where a break leaves only what stands in it.
fn leaves(function: &Function, block: &naga::Block, inner: bool) -> bool {
    block.iter().any(|statement| match statement {
        Statement::Break => !inner,
        Statement::Return { .. } => true,
        Statement::Block(block) => leaves(function, block, inner),
        Statement::If { condition, accept, reject } => {
            let known = literal(function, *condition);
            (known != Some(false) && leaves(function, accept, inner))
                || (known != Some(true) && leaves(function, reject, inner))
        }
        Statement::Switch { cases, .. } => {
            cases.iter().any(|case| leaves(function, &case.body, true))
        }
        Statement::Loop { body, continuing, .. } => {
            leaves(function, body, true) || leaves(function, continuing, true)
        }
        _ => false,
    })
}

/// The truth that an expression always has, where it is written as such.
fn literal(function: &Function, condition: Handle<Expression>) -> Option<bool> {
    match function.expressions[condition] {
        Expression::Literal(Literal::Bool(truth)) => Some(truth),
        _ => None,
    }
}

fn walk(block: &naga::Block, visit: &mut dyn FnMut(&Statement, Span)) {
    for (statement, span) in block.span_iter() {
        visit(statement, *span);
        match statement {
            Statement::Block(inner) => walk(inner, visit),
            Statement::If { accept, reject, .. } => {
                walk(accept, visit);
                walk(reject, visit);
            }
            Statement::Switch { cases, .. } => {
                cases.iter().for_each(|case| walk(&case.body, visit));
            }
            Statement::Loop { body, continuing, .. } => {
                walk(body, visit);
                walk(continuing, visit);
            }
            _ => {}
        }
    }
}
