//! The matmul on the CPU: its formula, literally, in f64; and as a plain implementation in the storage type has it.

use std::collections::BTreeMap;

use half::{bf16, f16};
use rayon::prelude::*;

use super::problem::{MatmulExtents, MatmulProblem};
use super::weights;
use crate::error::SpecError;
use crate::tensor::{Dtype, HostTensor};

/// `out [rows, columns]` by the formula in f64, of x as it is given. `inputs` are named and shaped as the problem says, without gaps.
///
/// # Errors
/// [`SpecError`] for an input that is missing or has another shape or type than the problem's.
pub fn reference(
    problem: &MatmulProblem,
    inputs: &BTreeMap<String, HostTensor>,
) -> Result<Vec<f64>, SpecError> {
    let sum = |w: Row<'_>, x: Row<'_>, bias| w.zip(x).map(|(w, x)| w * x).sum::<f64>() + bias;
    compute(problem, inputs, |x| x, sum)
}

/// The same with x rounded where that is asked for, sums in f32 and results rounded to out's type.
///
/// # Errors
/// As [`reference()`].
pub fn plain(
    problem: &MatmulProblem,
    inputs: &BTreeMap<String, HostTensor>,
) -> Result<Vec<f64>, SpecError> {
    let dtype = problem.out_dtype();
    let inner = problem.extents.inner as usize;
    let rounded = |x: Vec<f64>| match problem.spec.quantise_activations {
        Some(format) => x.chunks_exact(inner).flat_map(|row| format.round_f64(row)).collect(),
        None => x,
    };
    compute(problem, inputs, rounded, move |w, x, bias| {
        let sum = w.zip(x).fold(0.0_f32, |sum, (w, x)| sum + *w as f32 * *x as f32);
        let sum = sum + bias as f32;
        match dtype {
            Dtype::F16 => f16::from_f32(sum).to_f64(),
            Dtype::Bf16 => bf16::from_f32(sum).to_f64(),
            _ => f64::from(sum),
        }
    })
}

/// Numbers of a row.
type Row<'a> = std::slice::Iter<'a, f64>;

/// Every element of out, by `element` of rows of w and of x as `rounded` gives them.
fn compute(
    problem: &MatmulProblem,
    inputs: &BTreeMap<String, HostTensor>,
    rounded: impl Fn(Vec<f64>) -> Vec<f64>,
    element: impl Fn(Row<'_>, Row<'_>, f64) -> f64 + Sync,
) -> Result<Vec<f64>, SpecError> {
    for (name, desc) in problem.tensors.iter().filter(|(name, _)| *name != "out") {
        let input = inputs.get(name).ok_or_else(|| SpecError::MissingTensor {
            name: name.clone(),
            why: "an input of this call".to_owned(),
        })?;
        if input.shape != desc.shape() || input.dtype != desc.dtype {
            let expected = format!("{} {:?}", desc.dtype, desc.shape());
            let got = format!("{} {:?}", input.dtype, input.shape);
            return Err(SpecError::value(name, expected, got));
        }
    }
    let MatmulExtents { columns, inner, .. } = problem.extents;
    let (columns, inner) = (columns as usize, inner as usize);
    let x = rounded(inputs["x"].to_f64());
    let scales = inputs.get("w_scales").filter(|_| problem.tensors.contains_key("w_scales"));
    let w = weights::numbers(problem.spec.weight_format(), &inputs["w"], scales)?;
    let bias = match problem.tensors.contains_key("bias") {
        true => inputs["bias"].to_f64(),
        false => vec![0.0; columns],
    };
    let row = |x: &[f64]| -> Vec<f64> {
        let element = |(w, bias): (&[f64], &f64)| element(w.iter(), x.iter(), *bias);
        w.chunks_exact(inner).zip(&bias).map(element).collect()
    };
    Ok(x.par_chunks_exact(inner).flat_map_iter(row).collect())
}
