//! Cutting the experts' matmuls: by experts, so that their weights fit bindings, and by tiles, so that a dispatch ends
//! before a watchdog does. How many tiles there are only the device knows: there are dispatches for the most, and
//! those beyond the last tile have no workgroups.

use std::ops::Range;

use super::problem::MoeProblem;
use crate::error::PlanError;
use crate::fused::slices::workgroups_a_dispatch;
use crate::gpu::limits::GpuLimits;
use crate::gpu::recording::check_step_count;
use crate::matmul::MatmulTiles;

/// How the experts' matmuls are cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Cuts {
    /// Experts whose weights are bound at once.
    pub slice_experts: u32,
    /// Dispatches of a slice.
    pub windows: u32,
    /// Row tiles of a dispatch.
    pub window_tiles: u32,
    slices: u32,
}

/// A dispatch of the experts' matmuls.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Cut {
    /// Which dispatch.
    pub index: u32,
    /// Experts whose weights are bound.
    pub experts: Range<u32>,
    /// The first of their tiles that it computes.
    pub window_first: u32,
}

impl Cuts {
    pub fn of(
        problem: &MoeProblem,
        limits: &GpuLimits,
        tiles: MatmulTiles,
    ) -> Result<Self, PlanError> {
        let local = problem.extents.local_experts();
        let slices = local.div_ceil(bound_experts(problem, limits)?);
        let slice_experts = local.div_ceil(slices);
        let rows = problem.most_rows();
        let most = problem.most_tiles(tiles.tile_rows(), slice_experts.into());
        let flops = problem.row_flops() * (rows.min(tiles.tile_rows().into())) as f64;
        let window_tiles = workgroups_a_dispatch(|| flops, limits).min(most.max(1));
        let windows = most.div_ceil(window_tiles).max(1);
        // Two matmuls an expert.
        let count = windows.saturating_mul(2 * u64::from(local.div_ceil(slice_experts)));
        check_step_count("the experts' matmuls", count)?;
        Ok(Self {
            slice_experts,
            windows: windows as u32,
            window_tiles: window_tiles as u32,
            slices: local.div_ceil(slice_experts),
        })
    }

    /// Dispatches of each matmul.
    pub const fn count(&self) -> u32 {
        self.slices * self.windows
    }

    pub fn all(self, problem: &MoeProblem) -> impl Iterator<Item = Cut> {
        let (start, end) = (problem.extents.expert_start, problem.extents.expert_end);
        (0..self.count()).map(move |index| {
            let first = start + index / self.windows * self.slice_experts;
            Cut {
                index,
                experts: first..(first + self.slice_experts).min(end),
                window_first: index % self.windows * self.window_tiles,
            }
        })
    }
}

/// Experts whose weights fit a binding together.
fn bound_experts(problem: &MoeProblem, limits: &GpuLimits) -> Result<u32, PlanError> {
    let local = problem.extents.local_experts();
    let available = limits.storage_binding_bytes;
    let mut fit = local;
    for name in ["w_gate", "w_up", "w_down", "b_gate", "b_up", "b_down"] {
        let Some(desc) = problem.tensors.get(name) else { continue };
        let bytes = |elements: u64| elements.saturating_mul(desc.dtype.bytes());
        let stride = bytes(desc.layout.strides()[0]);
        let whole = bytes(desc.layout.end().unwrap_or(u64::MAX) - desc.layout.offset());
        let one = whole - stride * u64::from(local - 1);
        // A binding starts at a multiple of the alignment, so that up to one more of it is bound.
        let needed = one + u64::from(limits.storage_alignment);
        if whole + u64::from(limits.storage_alignment) <= available {
            continue;
        }
        if needed > available {
            return Err(PlanError::Limit {
                what: format!("{name} of a single expert"),
                limit: "bytes of one binding (max_storage_buffer_binding_size)",
                needed,
                available,
            });
        }
        fit = fit.min((1 + (available - needed) / stride.max(1)).min(u64::from(local)) as u32);
    }
    Ok(fit)
}

impl MoeProblem {
    /// Row tiles that `experts` experts have at most.
    pub(super) fn most_tiles(&self, tile_rows: u32, experts: u64) -> u64 {
        let rows = self.most_rows();
        rows / u64::from(tile_rows) + experts.min(rows)
    }

    /// Multiply-adds times two of a row's first matmul, the larger one.
    pub(super) fn row_flops(&self) -> f64 {
        let e = &self.extents;
        let parts = if self.spec.activation.is_gated() { 2.0 } else { 1.0 };
        2.0 * parts * f64::from(e.model_dim) * f64::from(e.expert_dim)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::fmt;

    use super::*;
    use crate::gpu::recording::Plan;
    use crate::matmul::Operands;
    use crate::moe::plan::plan_cut;
    use crate::moe::{MoeSpec, Router, TokenChoice};
    use crate::operator::Operator;
    use crate::tensor::{Dtype, HostTensor, TensorDesc, descs};
    use crate::{Engine, EngineOptions};

    /// A mixture whose matmuls are cut more finely than any device asks for.
    #[derive(Clone, Debug, PartialEq, Eq, Hash)]
    struct Finely(MoeProblem, u32, u32);

    impl fmt::Display for Finely {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            self.0.fmt(f)
        }
    }

    impl crate::operator::sealed::Sealed for Finely {}

    impl Operator for Finely {
        type Tiles = MatmulTiles;

        fn candidates(&self, limits: &GpuLimits) -> Result<Vec<MatmulTiles>, PlanError> {
            self.0.candidates(limits)
        }

        fn plan(&self, limits: &GpuLimits, tiles: &MatmulTiles) -> Result<Plan, PlanError> {
            let Self(problem, slice_experts, window_tiles) = self;
            let most = problem.most_tiles(tiles.tile_rows(), (*slice_experts).into());
            let cuts = Cuts {
                slice_experts: *slice_experts,
                windows: most.div_ceil((*window_tiles).into()) as u32,
                window_tiles: *window_tiles,
                slices: problem.extents.local_experts().div_ceil(*slice_experts),
            };
            plan_cut(problem, limits, *tiles, cuts)
        }

        fn tensors(&self) -> Vec<(&str, TensorDesc)> {
            self.0.tensors()
        }

        fn outputs(&self) -> Vec<&'static str> {
            self.0.outputs()
        }
    }

    fn layer() -> (MoeProblem, BTreeMap<String, HostTensor>) {
        let mut state = 1_u64;
        let mut number = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (state >> 40) as f64 / f64::from(1 << 23) - 1.0
        };
        let mut inputs = BTreeMap::new();
        for (name, shape) in [
            ("x", vec![60, 8]),
            ("router_w", vec![5, 8]),
            ("w_gate", vec![5, 12, 8]),
            ("w_up", vec![5, 12, 8]),
            ("w_down", vec![5, 8, 12]),
            ("b_up", vec![5, 12]),
            ("b_down", vec![5, 8]),
        ] {
            let count = shape.iter().product::<u64>();
            let values: Vec<f64> = (0..count).map(|_| number()).collect();
            inputs.insert(name.to_owned(), HostTensor::from_f64(Dtype::F32, &shape, &values));
        }
        let descs = descs(&inputs);
        let router = Router::TokenChoice(TokenChoice::default());
        let spec = MoeSpec { top_k: Some(2), router, ..MoeSpec::default() };
        (MoeProblem::new(&spec, &descs).unwrap(), inputs)
    }

    #[test]
    fn however_finely_the_matmuls_are_cut_the_bits_are_the_same() {
        let engine = Engine::open(&EngineOptions::default()).unwrap();
        let (problem, inputs) = layer();
        for tiles in problem.candidates(engine.limits()).unwrap() {
            let whole = engine.run(&problem, Some(tiles), &inputs).unwrap();
            for (slice_experts, window_tiles) in [(5, 1), (2, 3), (1, 1), (3, 100)] {
                let cut = Finely(problem.clone(), slice_experts, window_tiles);
                let got = engine.run(&cut, Some(tiles), &inputs).unwrap();
                assert_eq!(got["out"].bytes, whole["out"].bytes, "{slice_experts} {window_tiles}");
            }
        }
    }

    #[test]
    fn a_gpu_gets_dispatches_of_a_second_and_a_processor_one() {
        let (problem, _) = layer();
        let tiles = MatmulTiles::candidates(64, Operands::Floats, &GpuLimits::floor())[0];
        let mut large = problem;
        (large.extents.tokens, large.extents.model_dim) = (100_000, 4096);
        large.extents.expert_dim = 14_336;
        large.tensors.retain(|name, _| !name.starts_with("w_") && !name.starts_with("b_"));
        let cuts = Cuts::of(&large, &GpuLimits::floor(), tiles).unwrap();
        let flops = large.row_flops() * f64::from(cuts.window_tiles * tiles.tile_rows());
        assert!(cuts.windows > 1 && flops <= 1.1e11, "{cuts:?}");
        assert!(
            u64::from(cuts.windows * cuts.window_tiles) >= large.most_tiles(tiles.tile_rows(), 5)
        );
        let processor = GpuLimits { is_cpu: true, ..GpuLimits::floor() };
        assert_eq!(Cuts::of(&large, &processor, tiles).unwrap().windows, 1);
    }
}
