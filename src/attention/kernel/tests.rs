//! The map of tiles, read back and held against the elements.

use std::collections::BTreeMap;
use std::fmt;

use serde_json::{Value, json};

use super::{Sequences, traits};
use crate::attention::reference::seen;
use crate::attention::{AttentionProblem, AttentionSpec};
use crate::engine::{Engine, EngineOptions};
use crate::error::PlanError;
use crate::fused::FusedTiles;
use crate::gpu::limits::GpuLimits;
use crate::gpu::recording::{Bound, Plan, Slot, Step};
use crate::operator::Operator;
use crate::tensor::{Dtype, HostTensor, TensorDesc};

type Inputs = BTreeMap<String, HostTensor>;

/// A problem whose map of tiles is its one output.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct MapOf {
    problem: AttentionProblem,
    words: u64,
}

impl MapOf {
    /// The launch that makes the map, which goes to a tensor instead of scratch.
    fn step(problem: &AttentionProblem, limits: &GpuLimits, tiles: &FusedTiles) -> Step {
        let plan = problem.plan(limits, tiles).unwrap();
        let classifies = |step: &&Step| step.shader().entry() == "fused_classify";
        let mut step = plan.steps().iter().find(classifies).unwrap().clone();
        for bound in &mut step.bindings {
            if matches!(bound.slot, Slot::Scratch(_)) {
                *bound = Bound { slot: Slot::Tensor("map".to_owned()), ..bound.clone() };
            }
        }
        step
    }

    fn new(problem: &AttentionProblem, limits: &GpuLimits, tiles: &FusedTiles) -> Self {
        let step = Self::step(problem, limits, tiles);
        let is_map = |bound: &&Bound| matches!(&bound.slot, Slot::Tensor(name) if name == "map");
        let words = step.bindings.iter().find(is_map).unwrap().size / 4;
        Self { problem: problem.clone(), words }
    }
}

impl fmt::Display for MapOf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the map of {}", self.problem)
    }
}

impl crate::operator::sealed::Sealed for MapOf {}

impl Operator for MapOf {
    type Tiles = FusedTiles;

    fn candidates(&self, limits: &GpuLimits) -> Result<Vec<FusedTiles>, PlanError> {
        self.problem.candidates(limits)
    }

    fn plan(&self, limits: &GpuLimits, tiles: &FusedTiles) -> Result<Plan, PlanError> {
        let steps = vec![Self::step(&self.problem, limits, tiles)];
        Ok(Plan { steps, scratch: Vec::new() })
    }

    fn tensors(&self) -> Vec<(&str, TensorDesc)> {
        let outputs = self.problem.outputs();
        let mut tensors = self.problem.tensors();
        tensors.retain(|(name, _)| !outputs.contains(name));
        tensors.push(("map", TensorDesc::contiguous(Dtype::I32, &[self.words])));
        tensors
    }

    fn outputs(&self) -> Vec<&'static str> {
        vec!["map"]
    }
}

/// Draws masks and what their tensors hold.
struct Draw(u64);

impl Draw {
    fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(0x9e37_79b9_7f4a_7c15);
        (self.0 >> 33) % end
    }

    fn tensor(
        &mut self,
        inputs: &mut Inputs,
        dtype: Dtype,
        shape: &[u64],
        distinct: u64,
    ) -> String {
        let name = format!("t{}", inputs.len());
        let count = shape.iter().product::<u64>();
        // Runs, so that whole tiles are the same, too.
        let run = 1 + self.below(40);
        let mut value = 0;
        let values: Vec<f64> = (0..count)
            .map(|at| {
                if at % run == 0 {
                    value = self.below(distinct);
                }
                value as f64 - if dtype == Dtype::I32 { 1.0 } else { 0.0 }
            })
            .collect();
        inputs.insert(name.clone(), HostTensor::from_f64(dtype, shape, &values));
        name
    }

    fn mask(&mut self, inputs: &mut Inputs, extents: [u64; 4], depth: u32) -> Value {
        let [batch, heads, queries, keys] = extents;
        match self.below(if depth > 0 { 10 } else { 6 }) {
            0 => json!({"band": {"left": self.below(keys), "right": self.below(9)}}),
            1 => json!({"sink": self.below(keys)}),
            2 => {
                let distinct = 1 + self.below(6);
                let q = self.tensor(inputs, Dtype::I32, &[batch, queries], distinct);
                let kv = self.tensor(inputs, Dtype::I32, &[batch, keys], distinct);
                json!({"documents": {"q": q, "kv": kv}})
            }
            3 => {
                let shape = [1, [1, heads][self.below(2) as usize], queries, keys];
                json!({"dense": self.tensor(inputs, Dtype::Bool, &shape, 2)})
            }
            4 | 5 => {
                let block = [1 + self.below(80), 1 + self.below(80)];
                let batches = [1, batch][self.below(2) as usize];
                let heads = [1, heads][self.below(2) as usize];
                let shape = [batches, heads, queries.div_ceil(block[0]), keys.div_ceil(block[1])];
                let keep = self.tensor(inputs, Dtype::Bool, &shape, 2);
                json!({"block_sparse": {"block": block, "keep": keep}})
            }
            6 => json!({"not": self.mask(inputs, extents, depth - 1)}),
            7 => {
                let masks: Vec<Value> = (0..heads).map(|_| self.mask(inputs, extents, 0)).collect();
                json!({"per_head": masks})
            }
            form => {
                let masks: Vec<Value> =
                    (0..2 + self.below(2)).map(|_| self.mask(inputs, extents, depth - 1)).collect();
                if form == 8 { json!({"and": masks}) } else { json!({"or": masks}) }
            }
        }
    }
}

/// A problem of a drawn mask, some of whose tiles the device must find out.
fn drawn(seed: u64) -> Option<(AttentionProblem, Inputs)> {
    let mut draw = Draw(seed);
    let queries = [1, 5, 70, 150][draw.below(4) as usize];
    let extents = [2, 4, queries, 131 + draw.below(2) * 2000];
    let [batch, heads, _, keys] = extents;
    let mut inputs = Inputs::new();
    for (name, heads, len) in [("q", heads, queries), ("k", 2, keys), ("v", 2, keys)] {
        let shape = [batch, heads, len, 8];
        let zeros = vec![0.0; shape.iter().product::<u64>() as usize];
        inputs.insert(name.to_owned(), HostTensor::from_f64(Dtype::F32, &shape, &zeros));
    }
    if draw.below(3) == 0 {
        let lens = HostTensor::from_f64(Dtype::I32, &[2], &[draw.below(keys) as f64, keys as f64]);
        inputs.insert("kv_lens".to_owned(), lens);
    }
    let mask = draw.mask(&mut inputs, extents, 2);
    let spec: AttentionSpec = serde_json::from_value(json!({"mask": mask})).unwrap();
    let descs = inputs.iter().map(|(name, tensor)| (name.clone(), tensor.desc())).collect();
    let problem = AttentionProblem::new(&spec, &descs).unwrap();
    traits(&problem).by_map.then_some((problem, inputs))
}

/// Kept and dropped bits of a tile.
fn in_map(map: &[u32], words: usize, row_tile: usize, tile: usize) -> [bool; 2] {
    let at = (row_tile * words + tile / 32) * 2;
    [map[at], map[at + 1]].map(|word| word >> (tile % 32) & 1 == 1)
}

/// Holds every tile of the map against its elements.
fn check(problem: &AttentionProblem, inputs: &Inputs, tiles: FusedTiles, map: &[u32]) {
    let seen = seen(problem, inputs).unwrap();
    let domain = Sequences::new(problem, tiles);
    let e = &problem.extents;
    let group_rows = domain.group_rows(problem.extents.group_size()) as usize;
    let [heads, queries, keys] = [e.q_heads, e.seq_len_q, e.seq_len_kv].map(|n| n as usize);
    let (tile_q, tile_kv) = (tiles.tile_q() as usize, tiles.tile_kv() as usize);
    let rows = queries * group_rows;
    let (q_tiles, groups, words) =
        (rows.div_ceil(tile_q), heads / group_rows, keys.div_ceil(tile_kv).div_ceil(32));
    let [by_batch, by_head] = domain.map_differs;
    let exact = traits(problem).by_element;
    for at in 0..e.batch as usize * groups * q_tiles * keys.div_ceil(tile_kv) {
        let (tile, rest) = (at % keys.div_ceil(tile_kv), at / keys.div_ceil(tile_kv));
        let (q_tile, group, batch) =
            (rest % q_tiles, rest / q_tiles % groups, rest / q_tiles / groups);
        let map_group = if by_batch { batch } else { 0 };
        let map_group = if by_head { map_group * groups + group } else { map_group };
        let [kept, dropped] = in_map(map, words, map_group * q_tiles + q_tile, tile);
        let mut of_elements = [false; 2];
        for row in q_tile * tile_q..((q_tile + 1) * tile_q).min(rows) {
            let (head, q) = (group * group_rows + row % group_rows, row / group_rows);
            for key in tile * tile_kv..(tile + 1) * tile_kv {
                let sees = key < keys && seen[((batch * heads + head) * queries + q) * keys + key];
                of_elements[usize::from(!sees)] = true;
            }
        }
        let said = format!("batch {batch} group {group} row tile {q_tile} tile {tile}");
        let right = match exact {
            true => kept == of_elements[0] && (!kept || dropped == of_elements[1]),
            false => kept >= of_elements[0] && (!kept || dropped >= of_elements[1]),
        };
        assert!(right, "{problem}\n{tiles} {said}: map {kept} {dropped}, elements {of_elements:?}");
    }
}

#[test]
fn the_map_of_tiles_never_contradicts_the_elements() {
    let engine = Engine::open(&EngineOptions::default()).unwrap();
    let mut held = 0;
    for (problem, inputs) in (0..90).filter_map(drawn) {
        let candidates = problem.candidates(engine.limits()).unwrap();
        let family = |word: &str| candidates.iter().find(|it| it.to_string().contains(word));
        for tiles in [family("stream"), family("workgroup")].into_iter().flatten() {
            let probe = MapOf::new(&problem, engine.limits(), tiles);
            let outputs = engine.run(&probe, Some(*tiles), &inputs).unwrap();
            let words = outputs["map"].bytes.chunks(4);
            let map: Vec<u32> =
                words.map(|word| u32::from_le_bytes(word.try_into().unwrap())).collect();
            check(&problem, &inputs, *tiles, &map);
            held += 1;
        }
    }
    assert!(held > 100, "{held}");
}
