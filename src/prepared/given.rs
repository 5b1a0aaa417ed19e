//! What a call needs of the buffers that it is given.

use super::overlap::overlap;
use crate::error::SpecError;
use crate::gpu::bound::{Given, Givens};
use crate::names::{refuse_others, refuse_twice};
use crate::operator::Operator;
use crate::tensor::{Dtype, TensorDesc};

/// A tensor of a call.
#[derive(Debug)]
pub(super) struct Needed {
    pub name: String,
    desc: TensorDesc,
    /// What its buffer holds at least.
    bytes: u64,
    written: bool,
}

impl Needed {
    /// Every tensor of a problem.
    pub fn of<O: Operator>(operator: &O) -> Vec<Self> {
        let outputs = operator.outputs();
        let need = |(name, desc): (&str, TensorDesc)| Self {
            name: name.to_owned(),
            bytes: desc.bytes().checked_next_multiple_of(4).unwrap_or(u64::MAX),
            written: outputs.contains(&name),
            desc,
        };
        operator.tensors().into_iter().map(need).collect()
    }

    /// Whether its elements are lengths, ids or places.
    pub fn is_of_whole_numbers(&self) -> bool {
        self.desc.dtype == Dtype::I32
    }

    /// Its buffer, which is large enough.
    fn find<'a>(&self, mut given: impl Givens<'a>) -> Result<Given<'a>, SpecError> {
        let Self { name, bytes, .. } = self;
        let found = given.find(|given| given.name == name);
        let found = found.ok_or_else(|| SpecError::MissingTensor {
            name: name.clone(),
            why: "no buffer was given".to_owned(),
        })?;
        let field = || format!("{name}'s buffer");
        if !found.buffer.usage().contains(wgpu::BufferUsages::STORAGE) {
            let got = format!("{:?}", found.buffer.usage());
            return Err(SpecError::value(field(), "usage STORAGE", got));
        }
        let bytes = bytes.saturating_add(found.shift);
        if found.buffer.size() < bytes {
            let expected = format!("{bytes} bytes (whole words)");
            return Err(SpecError::value(field(), expected, found.buffer.size()));
        }
        Ok(found)
    }

    /// First byte in its buffer and one past its last.
    fn span(&self, given: &Given<'_>) -> [u64; 2] {
        let first = self.desc.layout.offset().saturating_mul(self.desc.dtype.bytes());
        [first, self.desc.bytes().max(first)].map(|byte| byte.saturating_add(given.shift))
    }
}

/// The buffers of a problem's tensors, in the order in which it has them.
///
/// # Errors
/// [`SpecError`] for one that is missing, given twice, not asked for, or of no use, and for one that is written where
/// another lies.
pub(super) fn resolved<'a, O: Operator>(
    operator: &O,
    needed: &[Needed],
    given: impl Givens<'a>,
) -> Result<Vec<Given<'a>>, SpecError> {
    let found = needed.iter().map(|needed| needed.find(given.clone()));
    let found = found.collect::<Result<Vec<_>, _>>()?;
    if given.clone().count() > found.len() {
        refuse_twice(given.clone().map(|given| given.name))?;
        refuse_others(operator, given.map(|given| given.name))?;
    }
    let tensors = || needed.iter().zip(&found);
    for (index, (written, at)) in tensors().enumerate().filter(|(_, (it, _))| it.written) {
        let mut others = tensors().enumerate().filter(|(other, _)| *other != index);
        let touched = others.find(|(_, (other, there))| {
            there.buffer == at.buffer
                && overlap((&written.desc, at.shift), (&other.desc, there.shift))
        });
        if let Some((_, (other, there))) = touched {
            let ([first, end], [from, to]) = (written.span(at), other.span(there));
            let expected = "bytes of its own, since it is written";
            let got = format!(
                "bytes {first}..{end} of a buffer in which {} has {from}..{to}",
                other.name
            );
            return Err(SpecError::value(&written.name, expected, got));
        }
    }
    Ok(found)
}
