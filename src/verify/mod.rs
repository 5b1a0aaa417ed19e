//! Holding results against the truth.

pub mod judge;
