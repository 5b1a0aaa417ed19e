//! A mask's map of tiles, made once for many calls: the layers of a model share a mask.

use std::collections::BTreeMap;
use std::fmt;

use super::problem::AttentionProblem;
use crate::error::{PlanError, SpecError};
use crate::fused::FusedTiles;
use crate::fused::classify::CLASSIFY_ENTRY;
use crate::fused::plan::ScratchBytes;
use crate::gpu::limits::GpuLimits;
use crate::gpu::recording::{Bound, Plan, Scratch, Slot, Step};
use crate::operator::{Operator, sealed::Sealed};
use crate::tensor::{Dtype, HostTensor, TensorDesc};

/// The map's name among a call's tensors: i32, of one axis.
const MASK_MAP: &str = "mask_map";

/// The half of an attention that finds which tiles its mask leaves empty or whole, and writes `mask_map`. It reads what
/// the mask names, neither q, k nor v.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct MaskMapProblem(Half);

/// The half that does the rest, and reads `mask_map`. A map serves every call of the same problem and tiles for which the
/// tensors that the mask names, and lengths, hold the same; with a map of anything else the outputs are undefined.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct MappedAttentionProblem(Half);

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Half {
    problem: AttentionProblem,
    tiles: FusedTiles,
    desc: TensorDesc,
    /// Tensors that the map is made of.
    of: Vec<String>,
}

impl AttentionProblem {
    /// The problem in two halves: the map of its mask's tiles, and the rest. `tiles` are those of both, for instance
    /// [`Prepared::tiles`](crate::Prepared::tiles) of the whole.
    ///
    /// # Errors
    /// [`PlanError::Unsupported`] where numbers of the spec decide the mask, which needs no map then; else as
    /// [`Operator::plan`].
    pub fn with_mask_map(
        &self,
        limits: &GpuLimits,
        tiles: FusedTiles,
    ) -> Result<(MaskMapProblem, MappedAttentionProblem), PlanError> {
        let refused = |what: &str, reason: &str| {
            let (what, reason) = (what.to_owned(), reason.to_owned());
            Err(PlanError::Unsupported { what, reason })
        };
        if self.tensors.contains_key(MASK_MAP) {
            return refused("an input named mask_map", "it is the name of the map");
        }
        let parts = Parts::of(self, limits, &tiles)?;
        if parts.map.is_empty() {
            let reason = "no tensor and no function of the caller's decides them";
            return refused("a map of this mask's tiles", reason);
        }
        let bound = parts.map.iter().flat_map(|step| &step.bindings);
        let of = bound.filter_map(|bound| match &bound.slot {
            Slot::Tensor(name) if name != MASK_MAP => Some(name.clone()),
            _ => None,
        });
        let half = Half {
            problem: self.clone(),
            tiles,
            desc: TensorDesc::contiguous(Dtype::I32, &[parts.bytes / 4]),
            of: of.collect(),
        };
        Ok((MaskMapProblem(half.clone()), MappedAttentionProblem(half)))
    }
}

/// A plan's launches, apart; each slice has its own stretch of the map.
struct Parts {
    /// What makes the map.
    map: Vec<Step>,
    /// What reads it.
    rest: Vec<Step>,
    scratch: Vec<Scratch>,
    /// Bytes of the map.
    bytes: u64,
}

impl Parts {
    fn of(
        problem: &AttentionProblem,
        limits: &GpuLimits,
        tiles: &FusedTiles,
    ) -> Result<Self, PlanError> {
        let Plan { steps, mut scratch } = problem.plan(limits, tiles)?;
        let alignment = u64::from(limits.storage_alignment.max(4));
        let (mut map, mut rest, mut packs) = (Vec::new(), Vec::new(), Vec::new());
        let (mut first, mut end) = (0_u64, 0_u64);
        for mut step in steps {
            let classifies = step.shader.entry == CLASSIFY_ENTRY;
            if classifies {
                first = end.next_multiple_of(alignment);
            }
            for bound in &mut step.bindings {
                if bound.slot == Slot::Scratch(ScratchBytes::TILE_MAP) {
                    end = end.max(first + bound.size);
                    let slot = Slot::Tensor(MASK_MAP.to_owned());
                    *bound = Bound { slot, offset: first, size: bound.size };
                }
            }
            let packs_inputs = step.shader.entry == "common_pack";
            let to = if packs_inputs {
                &mut packs
            } else if classifies {
                &mut map
            } else {
                &mut rest
            };
            to.push(step);
        }
        scratch.iter_mut().take(ScratchBytes::TILE_MAP + 1).for_each(|it| it.bytes = 0);
        if map.is_empty() {
            return Ok(Self { map, rest, scratch, bytes: end });
        }
        let [map, rest] = [map, rest].map(|steps| [packs.clone(), steps].concat());
        Ok(Self { map, rest, scratch, bytes: end })
    }
}

impl Half {
    /// Its launches with the tiles that its map has.
    fn parts(&self, limits: &GpuLimits, tiles: &FusedTiles) -> Result<Parts, PlanError> {
        let tiles_error = |reason: String| PlanError::Tiles { tiles: tiles.to_string(), reason };
        if *tiles != self.tiles {
            return Err(tiles_error(format!("the map is one of {}", self.tiles)));
        }
        let parts = Parts::of(&self.problem, limits, tiles)?;
        let expected = self.desc.bytes();
        if parts.bytes != expected {
            let reason = format!("the map has {expected} bytes, on this device {}", parts.bytes);
            return Err(tiles_error(reason));
        }
        Ok(parts)
    }

    fn tensors(&self, wanted: impl Fn(&str) -> bool) -> Vec<(&str, TensorDesc)> {
        let mut tensors = self.problem.tensors();
        tensors.retain(|(name, _)| wanted(name));
        tensors.push((MASK_MAP, self.desc.clone()));
        tensors
    }
}

impl fmt::Display for MaskMapProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} # the map of its mask's tiles", self.0.problem)
    }
}

impl fmt::Display for MappedAttentionProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} # given the map of its mask's tiles", self.0.problem)
    }
}

impl Sealed for MaskMapProblem {}

impl Sealed for MappedAttentionProblem {}

impl Operator for MaskMapProblem {
    type Tiles = FusedTiles;

    fn candidates(&self, _: &GpuLimits) -> Result<Vec<FusedTiles>, PlanError> {
        Ok(vec![self.0.tiles])
    }

    fn plan(&self, limits: &GpuLimits, tiles: &FusedTiles) -> Result<Plan, PlanError> {
        let Parts { map, scratch, .. } = self.0.parts(limits, tiles)?;
        Plan::fitting(map, scratch, limits)
    }

    fn tensors(&self) -> Vec<(&str, TensorDesc)> {
        self.0.tensors(|name| self.0.of.iter().any(|of| of == name))
    }

    fn outputs(&self) -> Vec<&'static str> {
        vec![MASK_MAP]
    }

    fn check_values(&self, inputs: &BTreeMap<String, HostTensor>) -> Result<(), SpecError> {
        self.0.problem.check_values(inputs)
    }
}

impl Operator for MappedAttentionProblem {
    type Tiles = FusedTiles;

    fn candidates(&self, _: &GpuLimits) -> Result<Vec<FusedTiles>, PlanError> {
        Ok(vec![self.0.tiles])
    }

    fn plan(&self, limits: &GpuLimits, tiles: &FusedTiles) -> Result<Plan, PlanError> {
        let Parts { rest, scratch, .. } = self.0.parts(limits, tiles)?;
        Plan::fitting(rest, scratch, limits)
    }

    fn tensors(&self) -> Vec<(&str, TensorDesc)> {
        self.0.tensors(|_| true)
    }

    fn outputs(&self) -> Vec<&'static str> {
        self.0.problem.outputs()
    }

    fn known_names(&self) -> &'static [&'static str] {
        self.0.problem.known_names()
    }

    fn check_values(&self, inputs: &BTreeMap<String, HostTensor>) -> Result<(), SpecError> {
        self.0.problem.check_values(inputs)
    }

    /// The map says of every tile that its elements are to be asked, which is always right.
    fn sample(&self, seed: u64) -> BTreeMap<String, HostTensor> {
        let mut inputs = self.0.problem.sample(seed);
        let shape = self.0.desc.shape();
        let map = HostTensor::from_f64(Dtype::I32, shape, &vec![-1.0; shape[0] as usize]);
        inputs.insert(MASK_MAP.to_owned(), map);
        inputs
    }
}
