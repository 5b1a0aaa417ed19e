//! Tile sets of the matmul: what may be chosen, what fits a device, what to choose first.

use std::cmp::Reverse;
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::error::PlanError;
use crate::gpu::limits::GpuLimits;
use crate::operator::Tiles;
use crate::tensor::{ActivationFormat, BLOCK, Dtype, WeightFormat};

/// What a matmul multiplies, which some tile sets are for alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Operands {
    /// Numbers that f32 holds.
    Floats,
    /// Both operands are f16.
    Halves,
    /// Rows rounded to signed bytes with weights in blocks.
    Bytes,
}

impl Operands {
    /// What rows of a type, rounded or not, are with weights of a format.
    pub(crate) fn of(
        dtype: Dtype,
        weights: WeightFormat,
        activations: Option<ActivationFormat>,
    ) -> Self {
        match (activations, dtype, weights) {
            (Some(ActivationFormat::Mxint8), ..) => Self::Bytes,
            (None, Dtype::F16, WeightFormat::F16) => Self::Halves,
            _ => Self::Floats,
        }
    }
}

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

/// `tile_rows, tile_columns, rows, columns, chunk`, best first where there are rows enough.
const WORKGROUP_SETS: [[u32; 5]; 14] = [
    [64, 128, 4, 8, 32],
    [64, 128, 4, 8, 16],
    [128, 128, 8, 8, 16],
    [128, 128, 8, 8, 8],
    [64, 64, 8, 8, 16],
    [64, 64, 4, 4, 32],
    [64, 64, 4, 4, 16],
    [128, 64, 8, 4, 16],
    [32, 128, 4, 8, 32],
    [32, 64, 4, 4, 32],
    [16, 128, 4, 4, 32],
    [16, 64, 2, 4, 32],
    [8, 128, 2, 4, 32],
    [8, 64, 1, 4, 32],
];

/// The same of bytes. Most lanes have a block of a column to stage.
const BYTES_SETS: [[u32; 5]; 6] = [
    [64, 128, 4, 8, 64],
    [128, 64, 8, 4, 64],
    [64, 64, 4, 4, 64],
    [32, 128, 4, 4, 64],
    [16, 128, 2, 4, 64],
    [8, 128, 1, 4, 32],
];

/// `row_matrices, column_matrices, subgroup_rows, subgroup_columns`, and matrices in a chunk, best first where there are
/// rows enough.
const MATRIX_SETS: [[u32; 5]; 8] = [
    [2, 4, 2, 2, 2],
    [2, 4, 2, 2, 4],
    [2, 4, 4, 2, 2],
    [2, 2, 2, 2, 4],
    [2, 2, 2, 2, 2],
    [1, 4, 2, 2, 2],
    [1, 2, 2, 2, 4],
    [1, 2, 1, 4, 2],
];

/// `rows, columns` of a lane in workgroup tiles that take the place of matrices, the first that has few enough lanes.
const MICRO_TILES: [[u32; 2]; 4] = [[1, 4], [4, 4], [4, 8], [8, 8]];

/// `rows, columns`, best first where there are rows enough.
const STREAM_SETS: [[u32; 2]; 8] =
    [[32, 2], [16, 4], [16, 2], [8, 4], [8, 2], [4, 2], [2, 2], [1, 2]];

/// `rows, columns`, best first where there are rows enough.
const REDUCE_SETS: [[u32; 2]; 6] = [[4, 4], [2, 4], [2, 8], [1, 4], [1, 8], [1, 16]];

/// Rows up to which reading weights takes longer than multiplying them.
const FEW_ROWS: u64 = 4;

/// Results a lane may hold: more spills.
const MOST_RESULTS: u32 = 64;

impl MatmulTiles {
    /// Rows a workgroup owns.
    pub const fn tile_rows(&self) -> u32 {
        match *self {
            Self::Workgroup { tile_rows, .. } | Self::Bytes { tile_rows, .. } => tile_rows,
            Self::Matrix { size, row_matrices, subgroup_rows, .. } => {
                size * row_matrices * subgroup_rows
            }
            Self::Stream { rows, .. } | Self::Reduce { rows, .. } => rows,
        }
    }

    /// Columns a workgroup owns of one of `parts` matrices.
    pub const fn part_columns(&self, parts: u32) -> u32 {
        match *self {
            Self::Workgroup { tile_columns, .. } | Self::Bytes { tile_columns, .. } => {
                tile_columns / parts
            }
            Self::Matrix { size, column_matrices, subgroup_columns, .. } => {
                size * column_matrices * subgroup_columns / parts
            }
            Self::Stream { columns, workgroup_size, .. } => workgroup_size * columns / parts,
            Self::Reduce { columns, lanes, workgroup_size, .. } => {
                workgroup_size / lanes * columns / parts
            }
        }
    }

    /// Invocations a workgroup.
    pub const fn workgroup_size(&self) -> u32 {
        match *self {
            Self::Workgroup { tile_rows, tile_columns, rows, columns, .. }
            | Self::Bytes { tile_rows, tile_columns, rows, columns, .. } => {
                (tile_rows / rows) * (tile_columns / columns)
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
        match *self {
            Self::Workgroup { tile_rows, tile_columns, chunk, .. } => {
                (tile_rows + tile_columns) * (chunk / 4 + 1) * 16
            }
            Self::Bytes { tile_rows, tile_columns, chunk, .. } => {
                (tile_rows + tile_columns) * (chunk / 16 + 1) * 16
            }
            Self::Matrix { size, subgroup_rows, subgroup_columns, chunk, .. } => {
                let (rows, columns) = (self.tile_rows(), self.part_columns(1));
                let strip = size * subgroup_rows * (parts * size * subgroup_columns + 4);
                2 * (rows + columns) * (chunk + 8) + 4 * strip + 8
            }
            Self::Stream { .. } => 0,
            Self::Reduce { .. } if self.sums_by_subgroup(limits) => 0,
            Self::Reduce { rows, columns, workgroup_size, .. } => {
                4 * rows * columns * workgroup_size
            }
        }
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
        let lanes = |[rows, columns]: [u32; 2]| (tile_rows / rows) * (tile_columns / columns);
        let fits = |micro: &[u32; 2]| (1..=256).contains(&lanes(*micro));
        let [rows, columns] = MICRO_TILES.into_iter().find(fits).unwrap_or([8, 8]);
        Self::Workgroup { tile_rows, tile_columns, rows, columns, chunk: 16 }
    }

    /// Whether a kernel can run with these tiles on the device.
    ///
    /// # Errors
    /// [`PlanError::Tiles`] with the numbers.
    pub fn check(&self, operands: Operands, limits: &GpuLimits) -> Result<(), PlanError> {
        let plain = self.of_floats();
        let wrong = self
            .bytes_fault(operands)
            .or_else(|| self.matrix_fault(operands, limits))
            .or_else(|| self.fault(limits))
            .or_else(|| plain.fault(limits));
        let refuse = |reason| PlanError::Tiles { tiles: self.to_string(), reason };
        wrong.map_or(Ok(()), |reason| Err(refuse(reason)))
    }

    /// What keeps the kernel of bytes from running with these numbers, if anything.
    fn bytes_fault(&self, operands: Operands) -> Option<String> {
        let Self::Bytes { chunk, .. } = *self else { return None };
        if operands != Operands::Bytes {
            let what = "bytes are of mxint8 activations (quantise_activations), which are not";
            return Some(format!("{what} asked for"));
        }
        let whole = [32, 64, 128].contains(&chunk);
        (!whole).then(|| format!("chunk is {chunk}, not 32, 64 or 128"))
    }

    /// What keeps the matrix kernel from running with these numbers, if anything.
    fn matrix_fault(&self, operands: Operands, limits: &GpuLimits) -> Option<String> {
        let Self::Matrix {
            size,
            row_matrices,
            column_matrices,
            subgroup_rows,
            subgroup_columns,
            chunk,
            workgroup_size,
        } = *self
        else {
            return None;
        };
        let Some(side) = limits.matrix else {
            return Some("the device offers no cooperative matrices that pass their check".into());
        };
        if operands != Operands::Halves {
            return Some("matrices are of f16, these tensors or weights are not".into());
        }
        let most = limits.subgroup.map_or(0, |sizes| sizes.most);
        let subgroups = [subgroup_rows, subgroup_columns];
        let right = size == side
            && [1, 2].contains(&row_matrices)
            && [2, 4].contains(&column_matrices)
            && subgroups.iter().all(|count| [1, 2, 4, 8].contains(count))
            && workgroup_size == subgroup_rows * subgroup_columns * most
            && (size..=256).contains(&chunk)
            && chunk.is_multiple_of(size);
        (!right).then(|| {
            format!(
                "expected size {side}, row_matrices 1 or 2, column_matrices 2 or 4, subgroup_rows and subgroup_columns powers of two up to 8, workgroup_size {most} times both, chunk a multiple of size up to 256"
            )
        })
    }

    fn fault(&self, limits: &GpuLimits) -> Option<String> {
        let results = match *self {
            Self::Workgroup { tile_rows, tile_columns, rows, columns, chunk }
            | Self::Bytes { tile_rows, tile_columns, rows, columns, chunk } => {
                let whole = [
                    ("tile_rows by rows", tile_rows, rows),
                    ("tile_columns by columns", tile_columns, columns),
                    ("columns by 2", columns, 2),
                    ("chunk by 4", chunk, 4),
                ];
                for (what, whole, part) in whole {
                    if part == 0 || whole == 0 || !whole.is_multiple_of(part) || whole > 1024 {
                        return Some(format!(
                            "{what}: {whole} is no multiple of {part} up to 1024"
                        ));
                    }
                }
                rows * columns
            }
            // Matrices are spread over a subgroup's lanes.
            Self::Matrix { size, row_matrices, column_matrices, .. } => {
                let lanes = limits.subgroup.map_or(1, |sizes| sizes.least.max(1));
                (row_matrices * column_matrices * size * size / lanes).div_ceil(2)
            }
            Self::Stream { rows, columns, workgroup_size } => {
                if rows == 0 || columns == 0 || !columns.is_multiple_of(2) || workgroup_size == 0 {
                    return Some(format!(
                        "rows {rows}, columns {columns}, workgroup_size {workgroup_size}: expected at least 1, columns even"
                    ));
                }
                rows.saturating_mul(columns)
            }
            Self::Reduce { rows, columns, lanes, workgroup_size } => {
                let groups = lanes.is_power_of_two() && workgroup_size.is_multiple_of(lanes);
                if rows == 0
                    || columns == 0
                    || !columns.is_multiple_of(2)
                    || !groups
                    || workgroup_size == 0
                {
                    return Some(format!(
                        "rows {rows}, columns {columns}, lanes {lanes}, workgroup_size {workgroup_size}: expected at least 1, columns even, lanes a power of two that divides workgroup_size"
                    ));
                }
                rows.saturating_mul(columns)
            }
        };
        if results > MOST_RESULTS {
            return Some(format!("{results} results a lane, at most {MOST_RESULTS}"));
        }
        if self.workgroup_size() > limits.workgroup_invocations {
            let most = limits.workgroup_invocations;
            return Some(format!("{} invocations, the device has {most}", self.workgroup_size()));
        }
        if self.workgroup_bytes(limits) > limits.workgroup_bytes {
            let (bytes, most) = (self.workgroup_bytes(limits), limits.workgroup_bytes);
            return Some(format!("{bytes} bytes of workgroup memory, the device has {most}"));
        }
        None
    }

    /// [`MatmulTiles::candidates`], at least one.
    ///
    /// # Errors
    /// [`PlanError::Limit`] where none fits the device.
    pub(crate) fn some_candidates(
        rows: u64,
        operands: Operands,
        limits: &GpuLimits,
    ) -> Result<Vec<Self>, PlanError> {
        let tiles = Self::candidates(rows, operands, limits);
        if !tiles.is_empty() {
            return Ok(tiles);
        }
        Err(PlanError::Limit {
            what: "a matmul".to_owned(),
            limit: "invocations of a workgroup",
            needed: 128,
            available: u64::from(limits.workgroup_invocations),
        })
    }

    /// Every tile set worth trying where matrices have about `rows` rows, the best guess first.
    pub fn candidates(rows: u64, operands: Operands, limits: &GpuLimits) -> Vec<Self> {
        let workgroup_size = limits.subgroup.map_or(32, |sizes| sizes.most.clamp(8, 64));
        let tiles = WORKGROUP_SETS.map(|[tile_rows, tile_columns, rows, columns, chunk]| {
            Self::Workgroup { tile_rows, tile_columns, rows, columns, chunk }
        });
        let streams =
            STREAM_SETS.map(|[rows, columns]| Self::Stream { rows, columns, workgroup_size });
        // A whole subgroup adds up, and a workgroup of several hides more of the memory's latency.
        let lanes = limits.subgroup.map_or(32, |sizes| sizes.least.clamp(4, 32));
        let group = if limits.is_cpu { lanes } else { 128 };
        let reduces = REDUCE_SETS.map(|[rows, columns]| Self::Reduce {
            rows,
            columns,
            lanes,
            workgroup_size: group,
        });
        let bytes = BYTES_SETS.map(|[tile_rows, tile_columns, rows, columns, chunk]| Self::Bytes {
            tile_rows,
            tile_columns,
            rows,
            columns,
            chunk,
        });
        let mut all = Self::matrices(limits);
        all.extend(bytes);
        all.extend(tiles.into_iter().chain(streams).chain(reduces));
        all.retain(|tiles| tiles.check(operands, limits).is_ok());
        all.sort_by_key(|tiles| {
            let suits = match tiles {
                Self::Reduce { .. } => rows <= FEW_ROWS,
                Self::Stream { .. } => limits.is_cpu && rows > FEW_ROWS,
                Self::Bytes { .. } if !limits.packed_dot => false,
                Self::Matrix { .. } | Self::Bytes { .. } | Self::Workgroup { .. } => {
                    !limits.is_cpu && rows > FEW_ROWS
                }
            };
            // The rows of experts seldom end where a large tile does.
            let full = match tiles {
                Self::Stream { rows: 32.., .. } => 2 * tiles.tile_rows(),
                _ => tiles.tile_rows(),
            };
            let idle = u64::from(full).saturating_sub(rows.next_power_of_two());
            // Few columns a lane make many workgroups; a processor would rather read x for more of them at once.
            let narrow = match *tiles {
                Self::Reduce { columns, .. } if limits.is_cpu => Reverse(columns),
                _ => Reverse(0),
            };
            (!suits, matches!(tiles, Self::Stream { .. }) != limits.is_cpu, idle, narrow)
        });
        all
    }

    /// Sets of cooperative matrices, best first.
    fn matrices(limits: &GpuLimits) -> Vec<Self> {
        let (Some(size), Some(sizes)) = (limits.matrix, limits.subgroup) else { return Vec::new() };
        let set =
            |[row_matrices, column_matrices, subgroup_rows, subgroup_columns, chunk]: [u32; 5]| {
                Self::Matrix {
                    size,
                    row_matrices,
                    column_matrices,
                    subgroup_rows,
                    subgroup_columns,
                    chunk: chunk * size,
                    workgroup_size: subgroup_rows * subgroup_columns * sizes.most,
                }
            };
        MATRIX_SETS.map(set).to_vec()
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_floor_has_tiles_for_many_rows_and_for_few() {
        let floor = GpuLimits::floor();
        let many = MatmulTiles::candidates(1000, Operands::Halves, &floor);
        assert!(
            many[0].tile_rows() >= 64 && many[0].workgroup_bytes(&floor) <= 16 << 10,
            "{}",
            many[0]
        );
        let few = MatmulTiles::candidates(1, Operands::Halves, &floor);
        assert!(few[0].tile_rows() <= 8, "{}", few[0]);
    }

    #[test]
    fn tiles_that_do_not_divide_are_refused_with_their_numbers() {
        let tiles = MatmulTiles::Workgroup {
            tile_rows: 64,
            tile_columns: 64,
            rows: 5,
            columns: 4,
            chunk: 16,
        };
        let error = tiles.check(Operands::Floats, &GpuLimits::floor()).unwrap_err().to_string();
        assert!(error.contains("64 is no multiple of 5"), "{error}");
    }
}
