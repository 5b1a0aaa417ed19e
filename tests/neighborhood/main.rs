//! Neighborhood attention against the f64 reference, its laws, its errors, and results of other software.

mod cases;
mod cli;
mod errors;
mod golden;
mod groups;
mod harness;
mod laws;
mod slots;
mod snippets;
mod tiles;
