//! The suite: one binary, one engine for each set of options.

mod attention;
mod bindings;
mod checked;
mod cli;
mod dropped;
mod engine;
mod errors;
mod faults;
mod files;
mod golden_cases;
mod guests;
mod harness;
mod hostile;
mod index;
mod kernels;
mod known_issues;
mod laws;
mod masks;
mod merge;
mod names;
mod plans;
mod requests;
mod shaders;
mod support;
mod tune;
