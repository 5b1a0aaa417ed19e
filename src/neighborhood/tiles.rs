//! Tile sets of the neighborhood kernels: those of the fused forward, and the boxes that their rows and keys form.

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize};

use super::window::Axis;
use crate::error::PlanError;
use crate::fused::{FusedShape, FusedTiles};
use crate::gpu::limits::GpuLimits;
use crate::kernel::slices::Ranges;
use crate::operator::Tiles;

/// Extents of a box of tokens along three axes; axes that are not there come first and are 1. As JSON a list, `[8, 8]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
pub struct TileBox(pub [u32; 3]);

impl TileBox {
    /// Tokens in it.
    pub fn volume(&self) -> u64 {
        self.0.iter().fold(1, |volume: u64, &side| volume.saturating_mul(side.into()))
    }
}

impl<'de> Deserialize<'de> for TileBox {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let sides = Vec::<u32>::deserialize(deserializer)?;
        if !(1..=3).contains(&sides.len()) {
            let message = format!("expected one to three extents, got {}", sides.len());
            return Err(serde::de::Error::custom(message));
        }
        let mut padded = [1; 3];
        padded[3 - sides.len()..].copy_from_slice(&sides);
        Ok(Self(padded))
    }
}

impl fmt::Display for TileBox {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [x, y, z] = self.0;
        write!(f, "{x}x{y}x{z}")
    }
}

/// How a neighborhood kernel cuts its work: a tile's rows are a box of queries of one dilation class, its keys a box of
/// that class's keys. A box may have fewer tokens than the tile has places: the rest idles. As JSON:
/// `{"fused": {"family": "workgroup", …}, "query_box": [8, 8], "key_box": [8, 8]}`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NeighborhoodTiles {
    /// The tiles.
    pub fused: FusedTiles,
    /// The box of a tile's rows.
    pub query_box: TileBox,
    /// The box of a tile's keys.
    pub key_box: TileBox,
}

impl NeighborhoodTiles {
    /// Holds the set against what the kernels can do and what the device has.
    ///
    /// # Errors
    /// [`PlanError::Tiles`] with the reason; [`PlanError::Limit`] with both numbers.
    pub fn check(&self, shape: FusedShape, limits: &GpuLimits) -> Result<(), PlanError> {
        self.fused.check(shape, limits)?;
        let refused = |reason| Err(PlanError::Tiles { tiles: self.to_string(), reason });
        for (name, tile_box, places) in [
            ("query_box", self.query_box, self.fused.tile_q()),
            ("key_box", self.key_box, self.fused.tile_kv()),
        ] {
            let volume = tile_box.volume();
            if volume == 0 || volume > u64::from(places) {
                return refused(format!(
                    "{name} {tile_box} has {volume} tokens, the tile {places} places"
                ));
            }
        }
        Ok(())
    }

    /// The same set with the keys of a row split into other parts.
    pub(super) fn with_kv_splits(mut self, splits: u32) -> Self {
        self.fused = self.fused.with_kv_splits(splits);
        self
    }

    /// Boxes of queries along each axis, for the longest class.
    pub(super) fn boxes(&self, axes: &[Axis; 3]) -> [u32; 3] {
        std::array::from_fn(|i| axes[i].boxes(self.query_box.0[i]))
    }

    /// Boxes that the queries of a slice lie in, along each axis, whatever their class: the first, and how many.
    pub(super) fn boxes_of(&self, axes: &[Axis; 3], queries: &Ranges) -> [[u32; 3]; 2] {
        let of_axis = |i: usize| {
            let (axis, side) = (&axes[i], self.query_box.0[i]);
            let pad = axis.box_pad(side);
            let first = (queries[i].start / axis.dilation + pad) / side;
            let end = (queries[i].end.div_ceil(axis.dilation) + pad).div_ceil(side);
            (first, end - first)
        };
        [std::array::from_fn(|i| of_axis(i).0), std::array::from_fn(|i| of_axis(i).1)]
    }

    /// Boxes of queries that an image has, of all classes.
    pub(super) fn query_boxes(&self, axes: &[Axis; 3]) -> u64 {
        let classes: u64 = axes.iter().map(|axis| u64::from(axis.dilation)).product();
        self.boxes(axes).map(u64::from).iter().product::<u64>() * classes
    }

    /// The most boxes of keys that a box of queries visits, along each axis.
    pub(super) fn most_key_boxes(&self, axes: &[Axis; 3]) -> TileBox {
        let boxes = |i: usize| axes[i].most_keys(self.query_box.0[i]).div_ceil(self.key_box.0[i]);
        TileBox(std::array::from_fn(boxes))
    }

    /// How key coordinates are packed into one word for these axes, if they fit.
    pub(super) fn packing(&self, axes: &[Axis; 3]) -> Option<Packing> {
        Packing::new(std::array::from_fn(|i| axes[i].most_keys(self.query_box.0[i])))
    }
}

/// In a word: `8x8.by.8x8.stream.4x4.lanes8.kv64.of64`, the boxes of queries and of keys first.
impl Tiles for NeighborhoodTiles {
    fn label(&self) -> String {
        format!("{}.by.{}.{}", self.query_box, self.key_box, self.fused.label())
    }
}

impl fmt::Display for NeighborhoodTiles {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&serde_json::to_string(self).map_err(|_| fmt::Error)?)
    }
}

/// Three coordinates in the low 31 bits of a word, each below a guard bit: a window is tested on all axes at once by two
/// subtractions that leave the guards set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Packing {
    pub shifts: [u32; 3],
    pub masks: [u32; 3],
    pub guards: u32,
}

impl Packing {
    /// For coordinates below `sides`; an axis of one coordinate takes no bits.
    fn new(sides: [u32; 3]) -> Option<Self> {
        let mut packing = Self { shifts: [0; 3], masks: [0; 3], guards: 0 };
        let mut used = 0;
        for axis in (0..3).rev() {
            if sides[axis] == 1 {
                continue;
            }
            let bits = u32::BITS - (sides[axis] - 1).leading_zeros();
            if used + bits + 1 > 31 {
                return None;
            }
            packing.shifts[axis] = used;
            packing.masks[axis] = (1 << bits) - 1;
            packing.guards |= 1 << (used + bits);
            used += bits + 1;
        }
        Some(packing)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_packed_window_test_is_the_test_of_each_axis() {
        let packing = Packing::new([3, 1, 5]).unwrap();
        let pack = |c: [u32; 3]| (0..3).map(|i| c[i] << packing.shifts[i]).sum::<u32>();
        let spans = |side: u32| (0..side).flat_map(move |a| (a..side).map(move |b| (a, b)));
        for (a0, b0) in spans(3) {
            for (a2, b2) in spans(5) {
                let (first, last) = (pack([a0, 0, a2]), pack([b0, 0, b2]) | packing.guards);
                for (x, z) in (0..3).flat_map(|x| (0..5).map(move |z| (x, z))) {
                    let key = pack([x, 0, z]);
                    let held = ((key | packing.guards) - first) & (last - key) & packing.guards;
                    let inside = (a0..=b0).contains(&x) && (a2..=b2).contains(&z);
                    assert_eq!(held == packing.guards, inside);
                }
            }
        }
    }

    #[test]
    fn coordinates_that_do_not_fit_are_refused() {
        assert!(Packing::new([1, 1, 1 << 30]).is_some());
        assert!(Packing::new([1, 1, (1 << 30) + 1]).is_none());
        assert!(Packing::new([1 << 10, 1 << 10, 1 << 10]).is_none());
        assert!(Packing::new([1 << 9, 1 << 9, 1 << 9]).is_some());
    }

    #[test]
    fn boxes_beyond_any_tile_have_a_volume() {
        assert_eq!(TileBox([u32::MAX; 3]).volume(), u64::MAX);
    }

    #[test]
    fn boxes_are_lists_of_one_to_three_extents() {
        assert_eq!(serde_json::from_str::<TileBox>("[4, 8]").unwrap(), TileBox([1, 4, 8]));
        assert!(serde_json::from_str::<TileBox>("[]").is_err());
        assert!(serde_json::from_str::<TileBox>("[1, 1, 2, 2]").is_err());
    }
}
