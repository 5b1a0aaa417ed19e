//! What keeps a tile set from running, by its own numbers or a device's.

use super::{FusedShape, FusedTiles};
use crate::error::PlanError;
use crate::gpu::limits::GpuLimits;
use crate::tensor::Dtype;

/// The largest number of a tile set, and the most parts that keys are split into.
const LARGEST: u32 = 4096;
pub(crate) const MOST_SPLITS: u32 = 4096;

impl FusedTiles {
    /// Holds the set against what the kernels can do and what the device has.
    ///
    /// # Errors
    /// [`PlanError::Tiles`] with the reason; [`PlanError::Limit`] with both numbers.
    pub fn check(&self, shape: FusedShape, limits: &GpuLimits) -> Result<(), PlanError> {
        let refused = |reason| PlanError::Tiles { tiles: self.to_string(), reason };
        let wrong = self
            .too_large()
            .or_else(|| self.workgroup_shape())
            .or_else(|| self.stream_shape(shape.head_dim.max(shape.value_dim)))
            .or_else(|| self.half_stage(shape.dtype, limits))
            .or_else(|| self.matrix_shape(shape.dtype, limits));
        if let Some(reason) = wrong {
            return Err(refused(reason));
        }
        if self.workgroup_size() == 0 {
            return Err(refused("a workgroup has no lanes".to_owned()));
        }
        if !(1..=MOST_SPLITS).contains(&self.kv_splits()) {
            let got = self.kv_splits();
            return Err(refused(format!("kv_splits is {got}, not 1 to {MOST_SPLITS}")));
        }
        let lanes = match *self {
            Self::Workgroup { subgroup: false, .. } => 0,
            Self::Workgroup { tile_kv, cols, .. } => tile_kv / cols,
            Self::Stream { lanes, key_groups, .. } => lanes * key_groups,
            Self::Matrix { workgroup_size, .. } => (workgroup_size / self.tile_q()).max(1),
        };
        let bytes = self.workgroup_bytes(shape);
        let least = limits.subgroup.map_or(0, |sizes| sizes.least);
        for (limit, needed, available) in [
            ("bytes of workgroup memory", bytes, limits.workgroup_bytes),
            ("invocations a workgroup", self.workgroup_size(), limits.workgroup_invocations),
            ("lanes in the smallest subgroup", lanes, least),
        ] {
            if needed > available {
                let (needed, available) = (u64::from(needed), u64::from(available));
                return Err(PlanError::Limit {
                    what: format!("tiles {self}"),
                    limit,
                    needed,
                    available,
                });
            }
        }
        // Lanes are numbered by subgroups, which therefore must be full.
        match limits.subgroup {
            Some(sizes) if lanes > 0 && !self.workgroup_size().is_multiple_of(sizes.most) => {
                Err(refused(format!(
                    "a workgroup of {} lanes is not a multiple of the largest subgroup, {}",
                    self.workgroup_size(),
                    sizes.most
                )))
            }
            _ => Ok(()),
        }
    }

    /// The first number that no device has room for, if any; what follows multiplies them.
    fn too_large(&self) -> Option<String> {
        let numbers = match *self {
            Self::Workgroup { tile_q, tile_kv, rows, cols, head_chunk, key_chunk, .. } => [
                ("tile_q", tile_q),
                ("tile_kv", tile_kv),
                ("rows", rows),
                ("cols", cols),
                ("head_chunk", head_chunk),
                ("key_chunk", key_chunk),
            ],
            Self::Stream { rows, lanes, keys, tile_kv, workgroup_size, key_groups, .. } => [
                ("rows", rows),
                ("lanes", lanes),
                ("keys", keys),
                ("tile_kv", tile_kv),
                ("workgroup_size", workgroup_size),
                ("key_groups", key_groups),
            ],
            Self::Matrix { size, row_matrices, subgroups, tile_kv, workgroup_size, .. } => [
                ("size", size),
                ("row_matrices", row_matrices),
                ("subgroups", subgroups),
                ("tile_kv", tile_kv),
                ("workgroup_size", workgroup_size),
                ("size", size),
            ],
        };
        let (name, value) = numbers.into_iter().find(|(_, value)| *value > LARGEST)?;
        Some(format!("{name} is {value}, not up to {LARGEST}"))
    }

    /// What keeps the workgroup kernel from running with these numbers, if anything.
    fn workgroup_shape(&self) -> Option<String> {
        let Self::Workgroup { tile_q, tile_kv, rows, cols, head_chunk, key_chunk, .. } = *self
        else {
            return None;
        };
        let lanes = |lanes_x: u32| {
            let wrong = !lanes_x.is_power_of_two() || !(4..=64).contains(&lanes_x);
            wrong.then(|| format!("tile_kv / cols is {lanes_x}, not 4, 8, 16, 32 or 64"))
        };
        indivisible("tile_q in rows", tile_q, rows)
            .or_else(|| indivisible("tile_kv in cols", tile_kv, cols))
            .or_else(|| indivisible("tile_kv in pairs of vectors", tile_kv, 8))
            .or_else(|| indivisible("tile_kv in key_chunk", tile_kv, key_chunk))
            .or_else(|| indivisible("key_chunk in vectors", key_chunk, 4))
            .or_else(|| indivisible("head_chunk in pairs of vectors", head_chunk, 8))
            .or_else(|| indivisible("rows in pairs", rows, 2))
            .or_else(|| indivisible("cols in pairs", cols, 2))
            .or_else(|| lanes(tile_kv / cols))
    }

    /// What keeps the streaming kernel from running with these numbers, if anything.
    fn stream_shape(&self, dim: u32) -> Option<String> {
        let Self::Stream { rows, lanes, keys, tile_kv, workgroup_size, key_groups, .. } = *self
        else {
            return None;
        };
        let power = |what: &str, value: u32, most: u32| {
            let wrong = !value.is_power_of_two() || value > most;
            wrong.then(|| format!("{what} {value} is not a power of two up to {most}"))
        };
        power("lanes", lanes, 32)
            .or_else(|| power("rows", rows, 64))
            .or_else(|| power("keys", keys, 8))
            .or_else(|| power("key_groups", key_groups, 8))
            .or_else(|| indivisible("tile_kv in keys of all groups", tile_kv, keys * key_groups))
            .or_else(|| indivisible("workgroup_size in lanes", workgroup_size, lanes * key_groups))
            .or_else(|| {
                let steps = dim.div_ceil(4 * lanes);
                let message = format!("lanes {lanes} hold {steps} vectors of a row, not up to 32");
                (steps > 32).then_some(message)
            })
    }

    /// What keeps a workgroup's stage from being of halves, if anything.
    fn half_stage(&self, dtype: Dtype, limits: &GpuLimits) -> Option<String> {
        if !matches!(self, Self::Workgroup { half: true, .. }) {
            return None;
        }
        if dtype != Dtype::F16 {
            return Some(format!("half stages f16, the tensors are of {dtype}"));
        }
        (!limits.f16).then(|| "half stages f16, the device has no shader-f16".to_owned())
    }

    /// What keeps the matrix kernel from running with these numbers, if anything.
    fn matrix_shape(&self, dtype: Dtype, limits: &GpuLimits) -> Option<String> {
        let Self::Matrix { size, row_matrices, subgroups, tile_kv, workgroup_size, .. } = *self
        else {
            return None;
        };
        let Some(side) = limits.matrix else {
            return Some("the device offers no cooperative matrices that pass their check".into());
        };
        let most = limits.subgroup.map_or(0, |sizes| sizes.most);
        let power = |what: &str, value: u32, most: u32| {
            let wrong = !value.is_power_of_two() || value > most;
            wrong.then(|| format!("{what} {value} is not a power of two up to {most}"))
        };
        if dtype != Dtype::F16 {
            return Some(format!("matrices are of f16, the tensors of {dtype}"));
        }
        if size != side {
            return Some(format!("size is {size}, the device's matrices have {side}"));
        }
        power("row_matrices", row_matrices, 4)
            .or_else(|| power("subgroups", subgroups, 8))
            .or_else(|| {
                let wrong = workgroup_size != subgroups.saturating_mul(most);
                wrong.then(|| {
                    format!(
                        "workgroup_size is {workgroup_size}, not {subgroups} subgroups of {most}"
                    )
                })
            })
            .or_else(|| indivisible("tile_kv in matrices", tile_kv, size))
            .or_else(|| {
                let lanes = (workgroup_size / self.tile_q()).max(1);
                indivisible("tile_kv in the vectors of a row's lanes", tile_kv, 4 * lanes)
            })
    }
}

fn indivisible(what: &str, whole: u32, part: u32) -> Option<String> {
    let wrong = part == 0 || whole == 0 || !whole.is_multiple_of(part);
    wrong.then(|| format!("{what}: {whole} is not a multiple of {part}"))
}
