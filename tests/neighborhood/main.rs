//! Neighborhood attention against the f64 reference, its laws, its errors, and results of other software.

mod cases;
mod errors;
mod golden;
mod harness;
mod laws;
mod tiles;
