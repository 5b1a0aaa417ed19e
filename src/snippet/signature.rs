//! A snippet as a caller writes it, and the function that an operator asks for.

use naga::{ScalarKind, VectorSize};
use serde::{Deserialize, Serialize};

/// WGSL of the caller's own, and the tensors it reads.
///
/// It is bounded, so that parsers and compilers take it: 64 KiB of text, 96 levels of nesting (an operator counts 1, a
/// bracket 2, a block 3, a loop 6), 1 KiB of local variables; what is beyond is refused with its line and column. Its loops
/// turn at most 65,536 times in a call, all of them together: the references refuse more, devices leave the loops there.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Snippet {
    /// The text: the function that the operator asks for, such as `fn mask_mod(…)`, and whatever helpers it needs.
    pub wgsl: String,
    /// Names of tensors, visible in the text as `array<f32>` or `array<i32>`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub aux: Vec<String>,
}

/// The function that a snippet defines.
#[derive(Debug)]
pub(crate) struct Signature {
    /// Its name.
    pub(crate) name: &'static str,
    /// All of it in WGSL, as a refusal shows it.
    pub(crate) text: &'static str,
    /// What it takes.
    pub(crate) arguments: &'static [Argument],
    /// What it gives.
    pub(crate) result: ScalarKind,
    /// Functions of the kernel that it may call: names and declarations.
    pub(crate) provided: &'static [(&'static str, &'static str)],
}

/// The type of an argument.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Argument {
    /// `f32`.
    Float,
    /// `u32`.
    Uint,
    /// A vector of u32.
    Uints(VectorSize),
}

/// A snippet, the function that it should define, and the field that holds it.
pub(crate) type Asked<'a> = (&'static Signature, &'a Snippet, &'static str);
