//! Tile sets of the matmul and their sizes.

mod candidates;
mod check;

use std::fmt;

use serde::{Deserialize, Serialize};

use super::operands::Operands;
use crate::gpu::limits::GpuLimits;
use crate::operator::Tiles;
use crate::tensor::BLOCK;

/// How a matmul cuts its work. As JSON: `{"family": "workgroup", "tile_rows": 64, …}`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(tag = "family", rename_all = "snake_case", deny_unknown_fields)]
pub enum MatmulTiles {
    /// Both operands staged in workgroup memory, micro-tiles of results in registers: for GPUs.
    Workgroup {
        /// Rows a workgroup owns.
        tile_rows: u32,
        /// Columns a workgroup owns; of a gated pair of matrices, half as many of each.
        tile_columns: u32,
        /// Rows a lane owns.
        rows: u32,
        /// Columns a lane owns.
        columns: u32,
        /// Inner dims staged at once.
        chunk: u32,
    },
    /// As [`MatmulTiles::Workgroup`], of signed bytes that are multiplied four at once: for rows rounded to mxint8 and
    /// weights in blocks. Other matmuls of the same call run with workgroup tiles.
    Bytes {
        /// Rows a workgroup owns.
        tile_rows: u32,
        /// Columns a workgroup owns; of a gated pair of matrices, half as many of each.
        tile_columns: u32,
        /// Rows a lane owns.
        rows: u32,
        /// Columns a lane owns.
        columns: u32,
        /// Inner dims staged at once, whole blocks of 32.
        chunk: u32,
    },
    /// Cooperative matrices of halves with sums in f32: for devices that multiply matrices. Matmuls whose operands are
    /// not halves run with [`MatmulTiles::Workgroup`] tiles of the same rows and columns.
    Matrix {
        /// Rows and columns of a matrix.
        size: u32,
        /// Matrices of rows that a subgroup owns: 1 or 2.
        row_matrices: u32,
        /// Matrices of columns that a subgroup owns, 2 or 4; of a gated pair of matrices, half as many of each.
        column_matrices: u32,
        /// Subgroups that own different rows.
        subgroup_rows: u32,
        /// Subgroups that own different columns.
        subgroup_columns: u32,
        /// Inner dims staged at once.
        chunk: u32,
        /// Invocations a workgroup: its subgroups times the device's largest subgroup.
        workgroup_size: u32,
    },
    /// Operands straight from memory, a lane for each column: for processors, and for few rows.
    Stream {
        /// Rows a workgroup owns.
        rows: u32,
        /// Columns a lane owns; of a gated pair of matrices, half as many of each.
        columns: u32,
        /// Invocations a workgroup.
        workgroup_size: u32,
    },
    /// Operands straight from memory, the inner dims of a column split over lanes that add up at the end: for a few
    /// rows, where reading the weights takes the time.
    Reduce {
        /// Rows a workgroup owns.
        rows: u32,
        /// Columns a group of lanes owns; of a gated pair of matrices, half as many of each.
        columns: u32,
        /// Lanes of a group, a power of two.
        lanes: u32,
        /// Invocations a workgroup.
        workgroup_size: u32,
    },
}

/// `rows, columns` of a lane in workgroup tiles that take the place of matrices, the first that has few enough lanes.
const MICRO_TILES: [[u32; 2]; 4] = [[1, 4], [4, 4], [4, 8], [8, 8]];

impl MatmulTiles {
    // What a caller or a file says may be any number until it is checked: nothing here overflows.

    /// Rows a workgroup owns.
    pub const fn tile_rows(&self) -> u32 {
        match *self {
            Self::Workgroup { tile_rows, .. } | Self::Bytes { tile_rows, .. } => tile_rows,
            Self::Matrix { size, row_matrices, subgroup_rows, .. } => {
                size.saturating_mul(row_matrices).saturating_mul(subgroup_rows)
            }
            Self::Stream { rows, .. } | Self::Reduce { rows, .. } => rows,
        }
    }

    /// Columns a workgroup owns of one of `parts` matrices, 1 or 2.
    pub const fn part_columns(&self, parts: u32) -> u32 {
        let columns = match *self {
            Self::Workgroup { tile_columns, .. } | Self::Bytes { tile_columns, .. } => tile_columns,
            Self::Matrix { size, column_matrices, subgroup_columns, .. } => {
                size.saturating_mul(column_matrices).saturating_mul(subgroup_columns)
            }
            Self::Stream { columns, workgroup_size, .. } => workgroup_size.saturating_mul(columns),
            Self::Reduce { columns, lanes, workgroup_size, .. } => {
                quotient(workgroup_size, lanes).saturating_mul(columns)
            }
        };
        quotient(columns, parts)
    }

    /// Invocations a workgroup.
    pub const fn workgroup_size(&self) -> u32 {
        match *self {
            Self::Workgroup { tile_rows, tile_columns, rows, columns, .. }
            | Self::Bytes { tile_rows, tile_columns, rows, columns, .. } => {
                quotient(tile_rows, rows).saturating_mul(quotient(tile_columns, columns))
            }
            Self::Matrix { workgroup_size, .. }
            | Self::Stream { workgroup_size, .. }
            | Self::Reduce { workgroup_size, .. } => workgroup_size,
        }
    }

    /// Workgroup memory that the kernel takes, with a gated pair of matrices where that takes more.
    pub fn workgroup_bytes(&self, limits: &GpuLimits) -> u32 {
        self.part_bytes(2, limits)
    }

    /// The same with `parts` matrices of weights.
    pub(super) fn part_bytes(&self, parts: u32, limits: &GpuLimits) -> u32 {
        let product =
            |factors: &[u64]| factors.iter().fold(1, |all: u64, f| all.saturating_mul(*f));
        let bytes = match *self {
            Self::Workgroup { tile_rows, tile_columns, chunk, .. } => {
                let [rows, columns, chunk] = [tile_rows, tile_columns, chunk].map(u64::from);
                product(&[rows + columns, chunk / 4 + 1, 16])
            }
            Self::Bytes { tile_rows, tile_columns, chunk, .. } => {
                let [rows, columns, chunk] = [tile_rows, tile_columns, chunk].map(u64::from);
                product(&[rows + columns, (chunk / 16 + 1) * 16 + chunk / 8])
            }
            Self::Matrix { size, subgroup_rows, subgroup_columns, chunk, .. } => {
                let tile = u64::from(self.tile_rows()) + u64::from(self.part_columns(1));
                let columns = product(&[parts, size, subgroup_columns].map(u64::from));
                let strip =
                    product(&[size.into(), subgroup_rows.into(), columns.saturating_add(4)]);
                let halves = product(&[2, tile, u64::from(chunk) + 8]);
                halves.saturating_add(product(&[4, strip])).saturating_add(8)
            }
            Self::Stream { .. } => 0,
            Self::Reduce { .. } if self.sums_by_subgroup(limits) => 0,
            Self::Reduce { rows, columns, workgroup_size, .. } => {
                product(&[4, rows, columns, workgroup_size].map(u64::from))
            }
        };
        u32::try_from(bytes).unwrap_or(u32::MAX)
    }

    /// Whether the lanes that add up always lie in one subgroup.
    pub(super) fn sums_by_subgroup(&self, limits: &GpuLimits) -> bool {
        match *self {
            Self::Reduce { lanes, .. } => limits.subgroup.is_some_and(|sizes| sizes.least >= lanes),
            _ => false,
        }
    }

    /// Inner dims that are staged at once; the other families stage none.
    pub(super) const fn chunk(&self) -> Option<u32> {
        match *self {
            Self::Workgroup { chunk, .. }
            | Self::Bytes { chunk, .. }
            | Self::Matrix { chunk, .. } => Some(chunk),
            Self::Stream { .. } | Self::Reduce { .. } => None,
        }
    }

    /// These tiles for operands that they are for, in chunks that `inner` dims are whole numbers of; for others workgroup
    /// tiles of as many rows and columns.
    pub(super) fn suiting(mut self, operands: Operands, inner: u32) -> Self {
        if let Self::Bytes { chunk, .. } = &mut self
            && !inner.is_multiple_of(*chunk)
        {
            *chunk = BLOCK as u32; // every row is whole blocks
        }
        match (self, operands) {
            (Self::Matrix { .. }, Operands::Floats | Operands::Bytes)
            | (Self::Bytes { .. }, Operands::Floats | Operands::Halves) => self.of_floats(),
            _ => self,
        }
    }

    /// Workgroup tiles of as many rows and columns.
    fn of_floats(self) -> Self {
        let (Self::Matrix { .. } | Self::Bytes { .. }) = self else { return self };
        let (tile_rows, tile_columns) = (self.tile_rows(), self.part_columns(1));
        let lanes = |[rows, columns]: [u32; 2]| {
            quotient(tile_rows, rows).saturating_mul(quotient(tile_columns, columns))
        };
        let fits = |micro: &[u32; 2]| (1..=256).contains(&lanes(*micro));
        let [rows, columns] = MICRO_TILES.into_iter().find(fits).unwrap_or([8, 8]);
        Self::Workgroup { tile_rows, tile_columns, rows, columns, chunk: 16 }
    }
}

/// 0 where nothing is divided by.
const fn quotient(whole: u32, part: u32) -> u32 {
    match whole.checked_div(part) {
        Some(quotient) => quotient,
        None => 0,
    }
}

/// In a word: `64x64.4x4.chunk32`.
impl Tiles for MatmulTiles {
    fn label(&self) -> String {
        match *self {
            Self::Workgroup { tile_rows, tile_columns, rows, columns, chunk } => {
                format!("{tile_rows}x{tile_columns}.{rows}x{columns}.chunk{chunk}")
            }
            Self::Bytes { tile_rows, tile_columns, rows, columns, chunk } => {
                format!("bytes.{tile_rows}x{tile_columns}.{rows}x{columns}.chunk{chunk}")
            }
            Self::Matrix {
                size,
                row_matrices,
                column_matrices,
                subgroup_rows,
                subgroup_columns,
                chunk,
                ..
            } => {
                let (rows, columns) = (self.tile_rows(), self.part_columns(1));
                format!(
                    "matrix{size}.{rows}x{columns}.{row_matrices}x{column_matrices}.of{subgroup_rows}x{subgroup_columns}.chunk{chunk}"
                )
            }
            Self::Stream { rows, columns, workgroup_size } => {
                format!("stream.{rows}x{columns}.of{workgroup_size}")
            }
            Self::Reduce { rows, columns, lanes, workgroup_size } => {
                format!("reduce.{rows}x{columns}.lanes{lanes}.of{workgroup_size}")
            }
        }
    }
}

impl fmt::Display for MatmulTiles {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&serde_json::to_string(self).map_err(|_| fmt::Error)?)
    }
}
