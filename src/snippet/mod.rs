//! The caller's WGSL: parsed, checked, and made fit to stand in a kernel.

mod bounds;
mod check;
#[cfg(feature = "reference")]
pub(crate) mod interpret;
mod parse;
mod rewrite;
mod scan;
mod signature;
mod source;
#[cfg(test)]
mod tests;

pub(crate) use self::parse::{mask_reads, parse_with};
pub(crate) use self::rewrite::AuxRewrite;
pub use self::signature::Snippet;
pub(crate) use self::signature::{Argument, Asked, Signature};
