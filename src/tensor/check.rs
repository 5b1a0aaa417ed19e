//! Checks that operators share. Each refusal names the tensor or the field, and both numbers.

use std::fmt::Display;
use std::ops::RangeInclusive;

use ordered_float::OrderedFloat;

use super::{Dtype, TensorDesc, TensorDescs};
use crate::error::SpecError;

pub(crate) fn missing(name: &str, why: &str) -> SpecError {
    SpecError::MissingTensor { name: name.to_owned(), why: format!("asked for by {why}") }
}

pub(crate) fn find<'a>(
    tensors: &'a TensorDescs,
    name: &str,
    why: &str,
) -> Result<&'a TensorDesc, SpecError> {
    tensors.get(name).ok_or_else(|| missing(name, why))
}

/// The element types of an operator's rows.
pub(crate) fn float_dtypes(dtype: Dtype, out_dtype: Option<Dtype>) -> Result<(), SpecError> {
    if !dtype.is_float() {
        return Err(SpecError::value("dtype", "f32, f16 or bf16", dtype));
    }
    match out_dtype {
        Some(out) if out != dtype && out != Dtype::F32 => {
            Err(SpecError::value("out_dtype", format!("{dtype} (the dtype) or f32"), out))
        }
        _ => Ok(()),
    }
}

pub(crate) fn finite(field: &str, value: Option<OrderedFloat<f32>>) -> Result<(), SpecError> {
    match value {
        Some(value) if !value.is_finite() => Err(SpecError::value(field, "a finite number", value)),
        _ => Ok(()),
    }
}

/// A softcap is what scores come close to.
pub(crate) fn softcap(cap: OrderedFloat<f32>) -> Result<(), SpecError> {
    if cap.is_finite() && cap.0 > 0.0 {
        return Ok(());
    }
    Err(SpecError::value("score.softcap", "a finite number above 0", cap))
}

pub(crate) fn element_type(
    name: &str,
    desc: &TensorDesc,
    accepted: &[Dtype],
) -> Result<(), SpecError> {
    if accepted.contains(&desc.dtype) {
        return Ok(());
    }
    let mut names: Vec<String> = accepted.iter().map(Dtype::to_string).collect();
    names.dedup();
    let (tensor, expected) = (name.to_owned(), names.join(" or "));
    Err(SpecError::Dtype { tensor, expected, got: desc.dtype.to_string() })
}

pub(crate) fn shape(name: &str, desc: &TensorDesc, expected: &[u64]) -> Result<(), SpecError> {
    if desc.shape() == expected {
        return Ok(());
    }
    let expected = format!("shape {expected:?}");
    Err(SpecError::value(name, expected, format!("{:?}", desc.shape())))
}

/// A tensor that is read or written by rows along its last axis.
pub(crate) fn rows(name: &str, desc: &TensorDesc, dtype: Dtype) -> Result<(), SpecError> {
    element_type(name, desc, &[dtype])?;
    unit_stride(name, desc)?;
    within_u64(name, desc)
}

pub(crate) fn unit_stride(name: &str, desc: &TensorDesc) -> Result<(), SpecError> {
    if let (Some(&stride), Some(&extent)) = (desc.layout.strides().last(), desc.shape().last())
        && stride != 1
        && extent > 1
    {
        return Err(SpecError::value(format!("{name} stride of dim"), 1, stride));
    }
    Ok(())
}

/// Tensors whose elements and bytes u64 counts: what a problem's tensors are before anything else is asked of them.
pub(crate) fn all_within_u64(tensors: &TensorDescs) -> Result<(), SpecError> {
    tensors.iter().try_for_each(|(name, desc)| within_u64(name, desc))
}

/// A tensor whose last element has an index.
pub(crate) fn within_u64(name: &str, desc: &TensorDesc) -> Result<(), SpecError> {
    match desc.layout.end() {
        Some(_) => Ok(()),
        None => {
            let got = format!("shape {:?}, strides {:?}", desc.shape(), desc.layout.strides());
            Err(SpecError::value(name, "elements whose bytes u64 counts", got))
        }
    }
}

pub(crate) fn contiguous(name: &str, desc: &TensorDesc) -> Result<(), SpecError> {
    if desc.layout.is_contiguous() {
        return Ok(());
    }
    let got = format!("strides {:?}", desc.layout.strides());
    Err(SpecError::value(name, "a tensor without gaps", got))
}

/// An extent of `tensor` that `other` has too.
pub(crate) fn equal(
    what: impl Display,
    (tensor, got): (&str, u64),
    (other, expected): (&str, u64),
) -> Result<(), SpecError> {
    if got == expected {
        return Ok(());
    }
    let expected = format!("{what} {expected} as {other} has");
    Err(SpecError::value(tensor, expected, format!("{what} {got}")))
}

/// An extent found in the tensors, held against its range and the spec's.
pub(crate) fn extent(
    field: &str,
    given: Option<u32>,
    found: u64,
    range: RangeInclusive<u32>,
) -> Result<u32, SpecError> {
    let (least, most) = (u64::from(*range.start()), u64::from(*range.end()));
    if !(least..=most).contains(&found) {
        return Err(SpecError::value(field, format!("{least} to {most}"), found));
    }
    match given {
        Some(given) if u64::from(given) != found => {
            Err(SpecError::value(field, format!("{found} as the tensors have"), given))
        }
        _ => Ok(found as u32),
    }
}

pub(crate) fn heads_divide(q_heads: u32, kv_heads: u32) -> Result<(), SpecError> {
    if q_heads.is_multiple_of(kv_heads) {
        return Ok(());
    }
    Err(SpecError::value("q_heads", format!("a multiple of kv_heads {kv_heads}"), q_heads))
}

/// An extent that has to be in the spec, where no tensor tells it.
pub(crate) fn stated(field: &str, value: Option<u32>) -> Result<u64, SpecError> {
    value.map(u64::from).ok_or_else(|| unstated(field))
}

pub(crate) fn unstated(field: &str) -> SpecError {
    SpecError::value(field, "a number (there are no tensors to take it from)", "nothing")
}

/// An output as it should be.
pub(crate) struct Output<'a> {
    pub name: &'a str,
    pub wanted: bool,
    pub dtype: Dtype,
    pub shape: &'a [u64],
    /// Written by rows along the last axis.
    pub by_rows: bool,
}

/// Holds an output that the caller brings against the problem; lays out one that it does not; drops one that was not
/// asked for.
pub(crate) fn output(tensors: &mut TensorDescs, output: &Output<'_>) -> Result<(), SpecError> {
    let Output { name, wanted, dtype, shape: expected, by_rows } = *output;
    if !wanted {
        tensors.remove(name);
        return Ok(());
    }
    let desc =
        tensors.entry(name.to_owned()).or_insert_with(|| TensorDesc::contiguous(dtype, expected));
    shape(name, desc, expected)?;
    element_type(name, desc, &[dtype])?;
    if by_rows {
        unit_stride(name, desc)?;
    }
    within_u64(name, desc)?;
    if desc.layout.overlaps_itself() {
        let got = format!("strides {:?}", desc.layout.strides());
        return Err(SpecError::value(name, "strides that keep elements apart", got));
    }
    Ok(())
}
