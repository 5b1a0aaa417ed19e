//! Tiles of any operator's cases.

use std::any::Any;
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::any::AnyProblem;
use crate::error::PlanError;
use crate::fused::FusedTiles;
use crate::gpu::limits::GpuLimits;
use crate::matmul::MatmulTiles;
use crate::neighborhood::NeighborhoodTiles;
use crate::operator::Operator;

/// Tiles of an operator. Cases of another run with those that the plan chooses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged, expecting = "expected tiles as `tilewise explain` prints them")]
#[non_exhaustive]
pub enum CaseTiles {
    /// Of attention.
    Attention(FusedTiles),
    /// Of neighborhoods.
    Neighborhood(NeighborhoodTiles),
    /// Of matmuls and mixtures of experts.
    Matmul(MatmulTiles),
}

impl CaseTiles {
    /// The tiles, if they are an operator's.
    pub(super) fn of<O: Operator>(self) -> Option<O::Tiles> {
        let tiles: &dyn Any = match &self {
            Self::Attention(tiles) => tiles,
            Self::Neighborhood(tiles) => tiles,
            Self::Matmul(tiles) => tiles,
        };
        tiles.downcast_ref().copied()
    }

    /// The same set with the keys of a row split into other parts, where there are keys.
    pub(super) fn with_kv_splits(self, splits: u32) -> Self {
        match self {
            Self::Attention(tiles) => Self::Attention(tiles.with_kv_splits(splits)),
            Self::Neighborhood(NeighborhoodTiles { fused, query_box, key_box }) => {
                let fused = fused.with_kv_splits(splits);
                Self::Neighborhood(NeighborhoodTiles { fused, query_box, key_box })
            }
            Self::Matmul(_) => self,
        }
    }

    /// What chooses the kernels' fragments. It is the family, and what stages and sums are made of.
    pub fn family(&self) -> &'static str {
        match self {
            Self::Attention(tiles) | Self::Neighborhood(NeighborhoodTiles { fused: tiles, .. }) => {
                fused_family(tiles)
            }
            Self::Matmul(MatmulTiles::Workgroup { .. }) => "workgroup",
            Self::Matmul(MatmulTiles::Bytes { .. }) => "bytes",
            Self::Matmul(MatmulTiles::Matrix { .. }) => "matrix",
            Self::Matmul(MatmulTiles::Stream { .. }) => "stream",
            Self::Matmul(MatmulTiles::Reduce { .. }) => "reduce",
        }
    }

    /// Rows that a workgroup owns.
    pub fn rows(&self) -> u32 {
        match self {
            Self::Attention(tiles) => tiles.tile_q(),
            Self::Neighborhood(tiles) => tiles.fused.tile_q(),
            Self::Matmul(tiles) => tiles.tile_rows(),
        }
    }
}

impl fmt::Display for CaseTiles {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Attention(tiles) => tiles.fmt(f),
            Self::Neighborhood(tiles) => tiles.fmt(f),
            Self::Matmul(tiles) => tiles.fmt(f),
        }
    }
}

fn fused_family(tiles: &FusedTiles) -> &'static str {
    match tiles {
        FusedTiles::Workgroup { half: false, subgroup: false, .. } => "workgroup",
        FusedTiles::Workgroup { half: false, subgroup: true, .. } => "workgroup by subgroups",
        FusedTiles::Workgroup { half: true, .. } => "workgroup of halves",
        FusedTiles::Stream { key_groups: 1, .. } => "stream",
        FusedTiles::Stream { .. } => "stream by key groups",
        FusedTiles::Matrix { turn_v: false, .. } => "matrix",
        FusedTiles::Matrix { turn_v: true, .. } => "matrix of turned v",
    }
}

/// Every tile set worth trying for a problem. There is none for an operator that has but one.
///
/// # Errors
/// [`PlanError`] where none fits.
pub(super) fn candidates(
    problem: &AnyProblem,
    limits: &GpuLimits,
) -> Result<Vec<CaseTiles>, PlanError> {
    Ok(match problem {
        AnyProblem::Attention(problem) => {
            problem.candidates(limits)?.into_iter().map(CaseTiles::Attention).collect()
        }
        AnyProblem::Neighborhood(problem) => {
            problem.candidates(limits)?.into_iter().map(CaseTiles::Neighborhood).collect()
        }
        AnyProblem::Moe(problem) => {
            problem.candidates(limits)?.into_iter().map(CaseTiles::Matmul).collect()
        }
        AnyProblem::Matmul(problem) => {
            problem.candidates(limits)?.into_iter().map(CaseTiles::Matmul).collect()
        }
        _ => Vec::new(),
    })
}
