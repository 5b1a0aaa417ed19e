//! What the tensors beside the core's are for: their axes and element types follow from it.

use super::axes::shape_over;
use super::extents::NeighborhoodExtents;
use super::snippets;
use super::spec::NeighborhoodSpec;
use super::window::Axis;
use crate::error::SpecError;
use crate::fused::domain::HEAD_GATE;
use crate::fused::{Normaliser, ScoreModifier};
use crate::tensor::check;
use crate::tensor::{Dtype, TensorDesc, TensorDescs};

/// Names of the tensors that the contract knows; no other tensor may have one.
const CORE: [&str; 8] = ["q", "k", "v", "extra_k", "extra_v", "out", "lse", HEAD_GATE];

/// What an extra input is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
    /// Float `[batch|1, q_heads|1, tokens|1, tokens|1]`, tokens of all axes row-major.
    Bias,
    /// Float `[q_heads]`.
    SinkLogits,
    /// Float or i32, any shape.
    Aux,
}

/// An extra input of a spec.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct ExtraInput {
    pub name: String,
    pub role: Role,
    /// Which field of the spec asks for it.
    pub field: String,
}

/// The extra inputs that a spec asks for, in the order in which it names them.
pub(super) fn extra_inputs(spec: &NeighborhoodSpec) -> Vec<ExtraInput> {
    let mut extras: Vec<ExtraInput> = Vec::new();
    let mut add = |name: &str, role: Role, field: &str| {
        let extra = ExtraInput { name: name.to_owned(), role, field: field.to_owned() };
        if !extras.contains(&extra) {
            extras.push(extra);
        }
    };
    for modifier in &spec.score {
        if let ScoreModifier::Bias(name) = modifier {
            add(name, Role::Bias, "score.bias");
        }
    }
    for (_, snippet, field) in snippets::of_spec(spec, 1) {
        let field = format!("{}.aux", field.trim_end_matches(".wgsl"));
        snippet.aux.iter().for_each(|name| add(name, Role::Aux, &field));
    }
    if let Normaliser::Softmax { sink: Some(name) } = &spec.normaliser {
        add(name, Role::SinkLogits, "normaliser.softmax.sink");
    }
    extras
}

/// Holds an extra input against its role.
pub(super) fn check_extra(
    ExtraInput { name, role, field }: &ExtraInput,
    tensors: &TensorDescs,
    (spec, extents, axes): (&NeighborhoodSpec, &NeighborhoodExtents, &[Axis]),
) -> Result<(), SpecError> {
    if CORE.contains(&name.as_str()) {
        let expected = "a name other than those of the core tensors";
        return Err(SpecError::value(field, expected, name));
    }
    let desc = check::find(tensors, name, field)?;
    match role {
        Role::Aux => {
            let accepted = [Dtype::F32, Dtype::F16, Dtype::Bf16, Dtype::I32];
            check::element_type(name, desc, &accepted)?;
        }
        Role::SinkLogits => {
            check::element_type(name, desc, &[Dtype::F32, spec.dtype])?;
            check::shape(name, desc, &[u64::from(extents.q_heads)])?;
        }
        Role::Bias => {
            check::element_type(name, desc, &[Dtype::F32, spec.dtype])?;
            check_bias(name, desc, extents, axes)?;
        }
    }
    check::contiguous(name, desc)
}

fn check_bias(
    name: &str,
    desc: &TensorDesc,
    extents: &NeighborhoodExtents,
    axes: &[Axis],
) -> Result<(), SpecError> {
    let tokens = axes.iter().map(|axis| u64::from(axis.extent)).product();
    let full = [u64::from(extents.batch), u64::from(extents.q_heads), tokens, tokens];
    let fits = desc.shape().len() == full.len()
        && desc.shape().iter().zip(full).all(|(&got, full)| got == full || got == 1);
    if fits {
        return Ok(());
    }
    let expected =
        format!("shape {full:?} (batch, q_heads, tokens, tokens; or 1 where it broadcasts)");
    Err(SpecError::value(name, expected, format!("{:?}", desc.shape())))
}

/// Holds the gate, `[batch, X…, q_heads]` with any strides, against the problem.
pub(super) fn check_gate(
    desc: &TensorDesc,
    (spec, extents, axes): (&NeighborhoodSpec, &NeighborhoodExtents, &[Axis]),
) -> Result<(), SpecError> {
    check::shape(HEAD_GATE, desc, &shape_over(axes, extents.batch, &[extents.q_heads]))?;
    check::element_type(HEAD_GATE, desc, &[Dtype::F32, spec.dtype])?;
    check::within_u64(HEAD_GATE, desc)
}
