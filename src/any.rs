//! A problem of any operator: what a file, a case or a named problem asks.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::attention::{AttentionProblem, AttentionSpec, MergeProblem, MergeSpec};
use crate::error::{Error, SpecError};
use crate::matmul::{MatmulProblem, MatmulSpec};
use crate::moe::{MoeProblem, MoeSpec};
use crate::neighborhood::{
    NeighborhoodAggregateProblem, NeighborhoodAggregateSpec, NeighborhoodProblem,
    NeighborhoodScoresProblem, NeighborhoodScoresSpec, NeighborhoodSpec,
};
use crate::operator::Operator;
use crate::tensor::{Dtype, HostTensor, TensorDescs};

/// A spec of any operator; as JSON, its fields beside `op`, the operator's name.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(tag = "op", rename_all = "snake_case")]
pub enum AnySpec {
    /// Attention.
    Attention(Box<AttentionSpec>),
    /// Merging partial results.
    AttentionMerge(MergeSpec),
    /// Neighborhood attention.
    Neighborhood(Box<NeighborhoodSpec>),
    /// Its scores alone.
    NeighborhoodScores(NeighborhoodScoresSpec),
    /// Its sums alone.
    NeighborhoodAggregate(NeighborhoodAggregateSpec),
    /// A mixture of experts.
    Moe(Box<MoeSpec>),
    /// A matmul.
    Matmul(MatmulSpec),
}

impl AnySpec {
    /// The problem that the spec asks of tensors.
    ///
    /// # Errors
    /// [`SpecError`] names what is wrong, what would be right and what was given.
    pub fn ask(&self, tensors: &TensorDescs) -> Result<AnyProblem, Error> {
        Ok(match self {
            Self::Attention(spec) => {
                AnyProblem::Attention(Box::new(AttentionProblem::new(spec, tensors)?))
            }
            Self::AttentionMerge(spec) => {
                AnyProblem::AttentionMerge(Box::new(MergeProblem::new(spec, tensors)?))
            }
            Self::Neighborhood(spec) => {
                AnyProblem::Neighborhood(Box::new(NeighborhoodProblem::new(spec, tensors)?))
            }
            Self::NeighborhoodScores(spec) => {
                let problem = NeighborhoodScoresProblem::new(spec, tensors)?;
                AnyProblem::NeighborhoodScores(Box::new(problem))
            }
            Self::NeighborhoodAggregate(spec) => {
                let problem = NeighborhoodAggregateProblem::new(spec, tensors)?;
                AnyProblem::NeighborhoodAggregate(Box::new(problem))
            }
            Self::Moe(spec) => AnyProblem::Moe(Box::new(MoeProblem::new(spec, tensors)?)),
            Self::Matmul(spec) => AnyProblem::Matmul(Box::new(MatmulProblem::new(spec, tensors)?)),
        })
    }

    /// Whether the operator's kernels have one form, so that no tiles are chosen.
    pub fn has_one_kernel(&self) -> bool {
        match self {
            Self::AttentionMerge(_)
            | Self::NeighborhoodScores(_)
            | Self::NeighborhoodAggregate(_) => true,
            Self::Attention(_) | Self::Neighborhood(_) | Self::Moe(_) | Self::Matmul(_) => false,
        }
    }

    /// Input tensors without gaps for a spec that says all its extents; none for an operator whose spec has no extents.
    ///
    /// # Errors
    /// [`SpecError::Value`] naming the first extent that the spec leaves open.
    pub fn assumed_tensors(&self) -> Result<TensorDescs, SpecError> {
        match self {
            Self::Attention(spec) => spec.assumed_tensors(),
            Self::Neighborhood(spec) => spec.assumed_tensors(),
            Self::Moe(spec) => spec.assumed_tensors(),
            Self::Matmul(spec) => spec.assumed_tensors(),
            Self::NeighborhoodScores(spec) => spec.assumed_tensors(),
            Self::NeighborhoodAggregate(spec) => spec.assumed_tensors(),
            Self::AttentionMerge(_) => Ok(TensorDescs::new()),
        }
    }
}

impl From<AttentionSpec> for AnySpec {
    fn from(spec: AttentionSpec) -> Self {
        Self::Attention(Box::new(spec))
    }
}

impl From<NeighborhoodSpec> for AnySpec {
    fn from(spec: NeighborhoodSpec) -> Self {
        Self::Neighborhood(Box::new(spec))
    }
}

impl From<MoeSpec> for AnySpec {
    fn from(spec: MoeSpec) -> Self {
        Self::Moe(Box::new(spec))
    }
}

impl From<MatmulSpec> for AnySpec {
    fn from(spec: MatmulSpec) -> Self {
        Self::Matmul(spec)
    }
}

/// A checked problem of any operator.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum AnyProblem {
    /// An attention.
    Attention(Box<AttentionProblem>),
    /// A merge of partial results.
    AttentionMerge(Box<MergeProblem>),
    /// A neighborhood attention.
    Neighborhood(Box<NeighborhoodProblem>),
    /// Its scores alone.
    NeighborhoodScores(Box<NeighborhoodScoresProblem>),
    /// Its sums alone.
    NeighborhoodAggregate(Box<NeighborhoodAggregateProblem>),
    /// A mixture of experts.
    Moe(Box<MoeProblem>),
    /// A matmul.
    Matmul(Box<MatmulProblem>),
}

/// The same expression for a problem of whatever operator: `with_problem!(any, problem => expression)`.
macro_rules! with_problem {
    ($any:expr, $problem:ident => $body:expr) => {
        with_problem!(
            @$any, $problem => $body;
            Attention AttentionMerge Neighborhood NeighborhoodScores NeighborhoodAggregate Moe Matmul
        )
    };
    (@$any:expr, $problem:ident => $body:expr; $($operator:ident)*) => {
        match $any {
            $($crate::any::AnyProblem::$operator(boxed) => {
                let $problem = boxed.as_ref();
                $body
            })*
        }
    };
}
#[cfg(feature = "verify")]
pub(crate) use with_problem;

impl AnyProblem {
    /// The operator's name, as a spec's `op` has it.
    pub fn operator(&self) -> &'static str {
        match self {
            Self::Attention(_) => "attention",
            Self::AttentionMerge(_) => "attention_merge",
            Self::Neighborhood(_) => "neighborhood",
            Self::NeighborhoodScores(_) => "neighborhood_scores",
            Self::NeighborhoodAggregate(_) => "neighborhood_aggregate",
            Self::Moe(_) => "moe",
            Self::Matmul(_) => "matmul",
        }
    }

    /// Element type of what it is asked of, weights aside.
    pub fn dtype(&self) -> Dtype {
        match self {
            Self::Attention(problem) => problem.spec.dtype,
            Self::AttentionMerge(problem) => problem.spec.dtype,
            Self::Neighborhood(problem) => problem.spec.dtype,
            Self::NeighborhoodScores(problem) => problem.spec.dtype,
            Self::NeighborhoodAggregate(problem) => problem.spec.dtype,
            Self::Moe(problem) => problem.spec.dtype,
            Self::Matmul(problem) => problem.spec.dtype,
        }
    }

    /// Inputs to measure with, as [`Operator::sample`] makes them.
    pub fn sample(&self, seed: u64) -> BTreeMap<String, HostTensor> {
        with_problem!(self, problem => problem.sample(seed))
    }
}

/// A command line that reproduces the problem.
impl std::fmt::Display for AnyProblem {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        with_problem!(self, problem => problem.fmt(f))
    }
}
