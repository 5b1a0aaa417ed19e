//! What keeps a tile set from running, by its own numbers or a device's.

use super::{MatmulTiles, Operands};
use crate::error::PlanError;
use crate::gpu::limits::GpuLimits;

/// Results a lane may hold: more spills.
const MOST_RESULTS: u32 = 64;

impl MatmulTiles {
    /// Whether a kernel can run with these tiles on the device.
    ///
    /// # Errors
    /// [`PlanError::Tiles`] with the numbers.
    pub fn check(&self, operands: Operands, limits: &GpuLimits) -> Result<(), PlanError> {
        let wrong = self
            .bytes_fault(operands)
            .or_else(|| self.matrix_fault(operands, limits))
            .or_else(|| self.fault(limits))
            .or_else(|| self.of_floats().fault(limits));
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

    /// What keeps any family's kernel from running with these numbers, if anything.
    fn fault(&self, limits: &GpuLimits) -> Option<String> {
        if let Some(fault) = self.shape_fault() {
            return Some(fault);
        }
        let results = self.lane_results(limits);
        if results > MOST_RESULTS {
            return Some(format!("{results} results a lane, at most {MOST_RESULTS}"));
        }
        if self.workgroup_size() == 0 {
            return Some("a workgroup has no lanes".to_owned());
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

    /// Numbers that are 0 or do not divide, on any device.
    fn shape_fault(&self) -> Option<String> {
        match *self {
            Self::Workgroup { tile_rows, tile_columns, rows, columns, chunk }
            | Self::Bytes { tile_rows, tile_columns, rows, columns, chunk } => {
                let whole = [
                    ("tile_rows by rows", tile_rows, rows),
                    ("tile_columns by columns", tile_columns, columns),
                    ("columns by 2", columns, 2),
                    ("chunk by 4", chunk, 4),
                ];
                let divides = |whole: u32, part: u32| {
                    part > 0 && (1..=1024).contains(&whole) && whole.is_multiple_of(part)
                };
                let wrong = whole.into_iter().find(|(_, whole, part)| !divides(*whole, *part));
                wrong.map(|(what, whole, part)| {
                    format!("{what}: {whole} is no multiple of {part} up to 1024")
                })
            }
            Self::Matrix { .. } => None, // has a check of its own
            Self::Stream { rows, columns, workgroup_size } => {
                let right = rows > 0 && is_even(columns) && workgroup_size > 0;
                (!right).then(|| {
                    format!(
                        "rows {rows}, columns {columns}, workgroup_size {workgroup_size}: expected at least 1, columns even"
                    )
                })
            }
            Self::Reduce { rows, columns, lanes, workgroup_size } => {
                let groups = lanes.is_power_of_two() && workgroup_size.is_multiple_of(lanes);
                let right = rows > 0 && is_even(columns) && groups && workgroup_size > 0;
                (!right).then(|| {
                    format!(
                        "rows {rows}, columns {columns}, lanes {lanes}, workgroup_size {workgroup_size}: expected at least 1, columns even, lanes a power of two that divides workgroup_size"
                    )
                })
            }
        }
    }

    /// Results that a lane holds, in registers.
    fn lane_results(&self, limits: &GpuLimits) -> u32 {
        match *self {
            // Matrices are spread over a subgroup's lanes.
            Self::Matrix { size, row_matrices, column_matrices, .. } => {
                let lanes = limits.subgroup.map_or(1, |sizes| sizes.least.max(1));
                (row_matrices * column_matrices * size * size / lanes).div_ceil(2)
            }
            Self::Workgroup { rows, columns, .. }
            | Self::Bytes { rows, columns, .. }
            | Self::Stream { rows, columns, .. }
            | Self::Reduce { rows, columns, .. } => rows.saturating_mul(columns),
        }
    }
}

/// At least 1, and even.
const fn is_even(columns: u32) -> bool {
    columns > 0 && columns.is_multiple_of(2)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_beyond_any_tile_are_refused_by_name() {
        let [tile_rows, tile_columns, rows, columns] = [1 << 30, 1 << 31, 4, 4];
        let tiles = MatmulTiles::Bytes { tile_rows, tile_columns, rows, columns, chunk: 32 };
        let error = tiles.check(Operands::Bytes, &GpuLimits::floor()).unwrap_err().to_string();
        assert!(error.contains("no multiple of 4 up to 1024"), "{error}");
    }

    #[test]
    fn any_numbers_of_a_tile_set_have_sizes_and_a_label() {
        use crate::operator::Tiles as _;
        let limits = GpuLimits::floor();
        let families = [
            ("workgroup", &["tile_rows", "tile_columns", "rows", "columns", "chunk"][..]),
            ("bytes", &["tile_rows", "tile_columns", "rows", "columns", "chunk"]),
            (
                "matrix",
                &[
                    "size",
                    "row_matrices",
                    "column_matrices",
                    "subgroup_rows",
                    "subgroup_columns",
                    "chunk",
                    "workgroup_size",
                ],
            ),
            ("stream", &["rows", "columns", "workgroup_size"]),
            ("reduce", &["rows", "columns", "lanes", "workgroup_size"]),
        ];
        for (family, names) in families {
            for numbers in [[0; 7], [u32::MAX; 7], [u32::MAX, 0, u32::MAX, 0, 1, 1, 0]] {
                let mut json = serde_json::json!({"family": family});
                for (name, number) in names.iter().zip(numbers) {
                    json[name] = number.into();
                }
                let tiles: MatmulTiles = serde_json::from_value(json).unwrap();
                let sizes = [
                    tiles.tile_rows(),
                    tiles.part_columns(2),
                    tiles.workgroup_size(),
                    tiles.workgroup_bytes(&limits),
                ];
                assert!(!tiles.label().is_empty(), "{sizes:?}");
                for operands in [Operands::Floats, Operands::Halves, Operands::Bytes] {
                    assert!(tiles.check(operands, &limits).is_err(), "{tiles}");
                }
            }
        }
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
