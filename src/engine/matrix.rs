//! Whether a device multiplies matrices as the kernels take it to: drivers with transposed ones exist.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::error::PlanError;
use crate::gpu::limits::GpuLimits;
use crate::gpu::recording::{Bound, Plan, Slot};
use crate::kernel::matrix::matrix_types;
use crate::kernel::source::{KernelSource, Launch, add_fragment};
use crate::operator::{Operator, Tiles};
use crate::tensor::{Dtype, HostTensor, Layout, TensorDesc};

/// `left · right + start` and `left · rightᵀ + start` of one matrix of `size` rows and columns.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct MatrixCheck {
    pub size: u32,
}

/// A check has nothing to choose.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(crate) struct OneWay;

impl Tiles for OneWay {}

impl fmt::Display for OneWay {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("one way")
    }
}

impl fmt::Display for MatrixCheck {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a check of {0} x {0} matrices", self.size)
    }
}

impl MatrixCheck {
    /// Whole numbers that no transposition leaves as they are.
    pub fn inputs(self) -> BTreeMap<String, HostTensor> {
        let n = self.size;
        let tensor = |of: fn(u32, u32) -> f64| {
            let places = (0..n * n).map(|at| of(at / n, at % n));
            HostTensor::from_f64(Dtype::F32, &[u64::from(n); 2], &places.collect::<Vec<f64>>())
        };
        BTreeMap::from([
            ("left".to_owned(), tensor(|i, j| f64::from((i * 7 + j * 3) % 11) - 5.0)),
            ("right".to_owned(), tensor(|i, j| f64::from((i * 5 + j * 2) % 13) - 6.0)),
            ("start".to_owned(), tensor(|i, j| f64::from(i) - 3.0 * f64::from(j))),
        ])
    }

    /// Whether `result` is what the inputs give, to the bit.
    pub fn is_right(self, inputs: &BTreeMap<String, HostTensor>, result: &HostTensor) -> bool {
        let n = self.size as usize;
        let [left, right, start] = ["left", "right", "start"].map(|name| inputs[name].to_f64());
        let expected = (0..2 * n * n).map(|at| {
            let (turned, i, j) = (at / (n * n) == 1, at / n % n, at % n);
            let factor = |d: usize| if turned { right[j * n + d] } else { right[d * n + j] };
            start[i * n + j] + (0..n).map(|d| left[i * n + d] * factor(d)).sum::<f64>()
        });
        expected.eq(result.to_f64())
    }
}

impl crate::operator::sealed::Sealed for MatrixCheck {}

impl Operator for MatrixCheck {
    type Tiles = OneWay;

    fn candidates(&self, _: &GpuLimits) -> Result<Vec<OneWay>, PlanError> {
        Ok(vec![OneWay])
    }

    fn plan(&self, limits: &GpuLimits, _: &OneWay) -> Result<Plan, PlanError> {
        let workgroup_size = limits.subgroup.map_or(1, |sizes| sizes.most);
        let mut source = KernelSource::default();
        matrix_types(&mut source, self.size);
        source.const_u32("SIZE", self.size);
        source.const_u32("WORKGROUP_SIZE", workgroup_size);
        source.params.u32("unused", 0);
        for (name, desc) in self.tensors() {
            let size = desc.element_bytes();
            let bound = Bound { slot: Slot::Tensor(name.to_owned()), offset: 0, size };
            source.bind(name, "vec4<f32>", name == "result", bound);
        }
        add_fragment!(source, "fused/check_matrix.wgsl");
        let n = self.size;
        let step = source.step(Launch {
            entry: "fused_check_matrix",
            workgroup_size,
            workgroup_bytes: 2 * 2 * n * (n + 8) + 2 * 4 * n * (n + 4),
            checked: false,
            grid: [1, 1, 1],
        });
        Ok(Plan { steps: vec![step], scratch: Vec::new() })
    }

    fn tensors(&self) -> Vec<(&str, TensorDesc)> {
        let n = u64::from(self.size);
        let desc = |rows| TensorDesc { dtype: Dtype::F32, layout: Layout::contiguous(&[rows, n]) };
        vec![("left", desc(n)), ("right", desc(n)), ("start", desc(n)), ("result", desc(2 * n))]
    }

    fn outputs(&self) -> Vec<&'static str> {
        vec!["result"]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_transposed_factor_is_noticed() {
        for size in [8, 16] {
            let check = MatrixCheck { size };
            let inputs = check.inputs();
            let n = size as usize;
            let [left, right, start] = ["left", "right", "start"].map(|name| inputs[name].to_f64());
            let product = |turn_left: bool, turn_right: bool| {
                let at = |turn: bool, i: usize, j: usize| if turn { j * n + i } else { i * n + j };
                let element = |place: usize| {
                    let (i, j) = (place / n, place % n);
                    let term = |d| left[at(turn_left, i, d)] * right[at(turn_right, d, j)];
                    start[place] + (0..n).map(term).sum::<f64>()
                };
                (0..n * n).map(element).collect::<Vec<f64>>()
            };
            let is_right = |parts: [Vec<f64>; 2]| {
                let shape = [2 * u64::from(size), u64::from(size)];
                check.is_right(&inputs, &HostTensor::from_f64(Dtype::F32, &shape, &parts.concat()))
            };
            assert!(is_right([product(false, false), product(false, true)]));
            assert!(!is_right([product(false, true), product(false, false)]));
            assert!(!is_right([product(true, false), product(true, true)]));
            assert!(!is_right([product(false, false), product(false, false)]));
            assert!(!is_right([vec![f64::NAN; n * n], product(false, true)]));
        }
    }
}
