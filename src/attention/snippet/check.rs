//! What a snippet must not hold, found in the parsed module.

use naga::{Expression, Function, Handle, Module, ScalarKind, Span, Statement, TypeInner};

use super::SnippetKind;

/// Something wrong, and where.
pub(super) struct Finding {
    pub(super) span: Span,
    pub(super) message: String,
}

impl Finding {
    fn new(span: Span, message: impl Into<String>) -> Self {
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
            let what = match statement {
                Statement::ControlBarrier(_) | Statement::MemoryBarrier(_) => "a barrier",
                Statement::Kill => "discard",
                _ => return,
            };
            found.get_or_insert_with(|| Finding::new(span, format!("{what} in a snippet")));
        });
        found.map_or(Ok(()), Err)?;
    }
    Ok(())
}

/// Finds the caller's function and holds its signature against the contract's.
pub(super) fn find_function(
    module: &Module,
    kind: SnippetKind,
) -> Result<Handle<Function>, Finding> {
    let named = |(_, function): &(_, &Function)| function.name.as_deref() == Some(kind.name());
    let Some((handle, function)) = module.functions.iter().find(named) else {
        let message = format!("no function {}; expected {}", kind.name(), kind.signature());
        return Err(Finding::new(Span::new(0, 0), message));
    };
    let kind_of = |ty| match module.types[ty].inner {
        TypeInner::Scalar(scalar) if scalar.width == 4 || scalar.kind == ScalarKind::Bool => {
            Some(scalar.kind)
        }
        _ => None,
    };
    let arguments: Vec<_> = function.arguments.iter().map(|arg| kind_of(arg.ty)).collect();
    let result = function.result.as_ref().and_then(|result| kind_of(result.ty));
    let expected: Vec<_> = kind.arguments().iter().copied().map(Some).collect();
    if arguments != expected || result != Some(kind.result()) {
        let message = format!("{} must be {}", kind.name(), kind.signature());
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
