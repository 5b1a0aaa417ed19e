//! What a case's run gives.

use std::fmt;
use std::sync::Arc;

use super::judge::{JudgeReport, Mismatch};
use crate::error::Error;
use crate::gpu::shader::Shader;

/// A case that is right.
#[derive(Clone, Debug, PartialEq)]
pub struct CaseReport {
    /// The case's name.
    pub name: String,
    /// The tiles it ran with.
    pub tiles: String,
    /// The kernel of each dispatch.
    pub kernels: Vec<Arc<Shader>>,
    /// What was found of each output.
    pub outputs: Vec<(&'static str, JudgeReport)>,
}

impl CaseReport {
    /// The largest share of its tolerance that an element took.
    pub fn worst_share(&self) -> f64 {
        self.outputs.iter().map(|(_, report)| report.worst_share).fold(0.0, f64::max)
    }
}

/// A case that is wrong, with all that it takes to see it again.
#[derive(Clone, Debug, PartialEq)]
pub struct CaseFailure {
    /// The case's name.
    pub name: String,
    /// Where its noise starts.
    pub seed: u64,
    /// The problem, as a command line.
    pub problem: String,
    /// The adapter it ran on.
    pub adapter: String,
    /// The tiles that were asked for.
    pub tiles: String,
    /// What is wrong.
    pub failure: Failure,
}

/// What may be wrong with a case.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum Failure {
    /// It did not run.
    #[error(transparent)]
    Call(#[from] Error),
    /// A result is wrong.
    #[error(transparent)]
    Mismatch(#[from] Mismatch),
    /// Something was written beside a result.
    #[error("{tensor}: byte {byte} of its buffer lies beside the tensor and was overwritten")]
    Overwritten {
        /// The output.
        tensor: &'static str,
        /// The first such byte.
        byte: usize,
    },
}

impl fmt::Display for CaseFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { name, seed, problem, adapter, tiles, failure } = self;
        writeln!(f, "{name}: {failure}")?;
        writeln!(f, "  on {adapter}, seed {seed}, tiles {tiles}")?;
        write!(f, "  again: tilewise verify --only '{name}' --seed {seed}\n  problem: {problem}")
    }
}

impl std::error::Error for CaseFailure {}
