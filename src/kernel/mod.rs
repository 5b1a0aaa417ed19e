//! The ground of every operator's kernels: headers, readers and writers, what a caller's functions read, slices.

pub(crate) mod access;
pub(crate) mod blocks;
pub(crate) mod extra;
pub(crate) mod matrix;
pub(crate) mod numbers;
pub(crate) mod packed;
mod pairs;
pub(crate) mod readers;
pub(crate) mod reads;
pub(crate) mod slices;
pub(crate) mod source;
pub(crate) mod template;
mod unroll;
mod writers;
