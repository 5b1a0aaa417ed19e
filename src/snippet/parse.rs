//! From a caller's text to a module that keeps the contract.

use std::error::Error as _;

use naga::valid::{Capabilities, ModuleInfo, ValidationFlags, Validator};
use naga::{Expression, Function, Handle, Module};

use super::rewrite::{AuxRewrite, Rewrite};
use super::scan::{ScanError, Tokens};
use super::signature::{Asked, Signature, Snippet};
use super::source::Source;
use super::{bounds, check, rewrite};
use crate::error::SpecError;
use crate::tensor::{Dtype, TensorDescs};

/// A snippet that naga accepts and that keeps the contract.
#[derive(Clone, Debug)]
#[cfg_attr(not(feature = "reference"), allow(dead_code, reason = "the interpreter reads it all"))]
pub(crate) struct ParsedSnippet {
    /// The module: the caller's text, then the aux tensors and the functions that the kernel provides.
    pub(crate) module: Module,
    /// The caller's function in it.
    pub(crate) function: Handle<Function>,
    /// Which of its arguments it reads.
    pub(crate) reads: Vec<bool>,
    /// Names of the caller's own functions, constants, structs and aliases.
    pub(crate) globals: Vec<String>,
    /// False where the text cannot run forever nor leave an array's bounds, aux tensors aside.
    pub(crate) needs_checks: bool,
    source: Source,
}

/// Parses and checks a snippet; `aux_types` says of each aux tensor whether it is i32 (else f32).
///
/// # Errors
/// [`SpecError::Wgsl`] with the place in the caller's own text, [`SpecError::Value`] for an aux name that WGSL does
/// not take.
pub(crate) fn parse(
    snippet: &Snippet,
    signature: &'static Signature,
    aux_types: &[(&str, bool)],
    field: &str,
) -> Result<ParsedSnippet, SpecError> {
    let source = Source { text: snippet.wgsl.clone(), field: field.to_owned() };
    let aux: Vec<String> = aux_types.iter().map(|(name, _)| (*name).to_owned()).collect();
    check_aux_names(&aux, signature, field)?;
    let at = |error: ScanError| source.error(error.offset, error.message);
    bounds::check_length(&source.text).map_err(at)?;
    let tokens = Tokens::of(&source.text).map_err(at)?;
    bounds::check_nesting(&tokens).map_err(at)?;
    check_directives(&tokens, &source)?;
    let module = naga::front::wgsl::parse_str(&module_text(&source.text, signature, aux_types))
        .map_err(|error| source.parse_error(&error))?;
    rewrite::check_aux_uses(&tokens, &aux).map_err(|found| {
        let name = found.name;
        let message = format!(
            "{name} is an aux tensor: it is read as {name}[index] or arrayLength(&{name}), and nothing else has its name"
        );
        source.error(found.offset, message)
    })?;
    let finding = |found: check::Finding| source.error_in([found.span], found.message);
    check_entry_points(&module, &tokens, &source)?;
    check::check_declarations(&module, &aux).map_err(finding)?;
    check::check_bodies(&module).map_err(finding)?;
    bounds::check_calls(&module).map_err(finding)?;
    let info = validate(&module, &source)?;
    bounds::check_private_bytes(&module, &info).map_err(finding)?;
    let function = check::find_function(&module, signature).map_err(|found| {
        source.error(found.span.to_range().map_or(0, |range| range.start), found.message)
    })?;
    let globals = rewrite::own_globals(&tokens);
    let needs_checks = check::needs_checks(&module);
    let reads = arguments_read(&module, &info, function);
    Ok(ParsedSnippet { module, function, reads, globals, needs_checks, source })
}

/// Parses a snippet against the tensors that its aux names stand for.
///
/// # Errors
/// As [`parse`]; [`SpecError::MissingTensor`].
pub(crate) fn parse_with(
    tensors: &TensorDescs,
    (signature, snippet, field): Asked<'_>,
) -> Result<ParsedSnippet, SpecError> {
    let mut aux_types = Vec::new();
    for name in &snippet.aux {
        let desc = tensors.get(name).ok_or_else(|| SpecError::MissingTensor {
            name: name.clone(),
            why: format!("asked for by {field}"),
        })?;
        aux_types.push((name.as_str(), desc.dtype == Dtype::I32));
    }
    parse(snippet, signature, &aux_types, field)
}

/// Whether a mask's function reads its first arguments, the batch and the head; of one that does not parse both are
/// taken as read.
pub(crate) fn mask_reads(tensors: &TensorDescs, asked: Asked<'_>) -> [bool; 2] {
    parse_with(tensors, asked).map_or([true; 2], |parsed| [parsed.reads[0], parsed.reads[1]])
}

impl ParsedSnippet {
    /// The caller's text with its own globals prefixed and each read of an aux tensor turned into a call of the
    /// accessor that `aux` gives for its name (`None` for other words), and its loops bounded. Lines stay where they are.
    pub(crate) fn rewrite(&self, prefix: &str, aux: &dyn Fn(&str) -> Option<AuxRewrite>) -> String {
        let function = self.module.functions[self.function].name.as_deref().unwrap_or_default();
        match Tokens::of(&self.source.text) {
            Ok(tokens) => {
                let how = Rewrite { globals: &self.globals, prefix, aux, function };
                rewrite::rewrite(&tokens, &how)
            }
            // Unreachable: parse has split the same text.
            Err(_) => self.source.text.clone(),
        }
    }

    /// An error at a place of the module.
    #[cfg(feature = "reference")]
    pub(crate) fn error_at(&self, span: naga::Span, message: String) -> SpecError {
        self.source.error_in([span], message)
    }
}

/// The declarations stand behind the caller's text, so that its places are the module's.
fn module_text(text: &str, signature: &Signature, aux_types: &[(&str, bool)]) -> String {
    let mut module = format!("{text}\n");
    for (binding, (name, is_i32)) in aux_types.iter().enumerate() {
        let element = if *is_i32 { "i32" } else { "f32" };
        module.push_str(&format!(
            "@group(0) @binding({binding}) var<storage, read> {name}: array<{element}>;\n"
        ));
    }
    for (_, declaration) in signature.provided {
        module.push_str(declaration);
        module.push('\n');
    }
    module
}

fn check_aux_names(aux: &[String], signature: &Signature, field: &str) -> Result<(), SpecError> {
    let field = || format!("{}.aux", field.trim_end_matches(".wgsl"));
    for (index, name) in aux.iter().enumerate() {
        let declaration = format!("var<private> {name}: f32;");
        let is_word = Tokens::of(name)
            .is_ok_and(|tokens| tokens.list.len() == 1 && tokens.word(0) == Some(name));
        if !is_word || naga::front::wgsl::parse_str(&declaration).is_err() {
            return Err(SpecError::value(field(), "names that WGSL takes", format!("{name:?}")));
        }
        let provided = signature.provided.iter().any(|(known, _)| known == name);
        if provided || aux[..index].contains(name) {
            return Err(SpecError::value(field(), "names that are not taken yet", name));
        }
    }
    Ok(())
}

/// Directives hold for a whole module, which is the kernel's.
fn check_directives(tokens: &Tokens<'_>, source: &Source) -> Result<(), SpecError> {
    for (index, token) in tokens.list.iter().enumerate() {
        if let Some(word @ ("enable" | "requires" | "diagnostic")) = tokens.word(index)
            && token.depth == 0
            && !tokens.follows(index, '@')
        {
            let message = format!("{word}: a snippet has no directives");
            return Err(source.error(token.start, message));
        }
    }
    Ok(())
}

fn check_entry_points(
    module: &Module,
    tokens: &Tokens<'_>,
    source: &Source,
) -> Result<(), SpecError> {
    let Some(entry) = module.entry_points.first() else { return Ok(()) };
    let place = (1..tokens.list.len()).find(|&index| {
        tokens.word(index) == Some(&entry.name) && tokens.word(index - 1) == Some("fn")
    });
    let offset = place.map_or(0, |index| tokens.list[index].start);
    Err(source.error(offset, format!("{} is an entry point: a snippet has none", entry.name)))
}

fn arguments_read(module: &Module, info: &ModuleInfo, function: Handle<Function>) -> Vec<bool> {
    let (body, info) = (&module.functions[function], &info[function]);
    let mut reads = vec![false; body.arguments.len()];
    for (handle, expression) in body.expressions.iter() {
        if let Expression::FunctionArgument(index) = expression {
            reads[*index as usize] |= info[handle].ref_count > 0;
        }
    }
    reads
}

fn validate(module: &Module, source: &Source) -> Result<ModuleInfo, SpecError> {
    // What every device has in practice: `quantizeToF16`, `pack2x16float`.
    let capabilities = Capabilities::SHADER_FLOAT16_IN_FLOAT32;
    let mut validator = Validator::new(ValidationFlags::all(), capabilities);
    validator.validate(module).map_err(|error| {
        let mut message = error.as_inner().to_string();
        let mut cause = error.as_inner().source();
        while let Some(inner) = cause {
            message = format!("{message}: {inner}");
            cause = inner.source();
        }
        source.error_in(error.spans().map(|(span, _)| *span), message)
    })
}
