//! The problem: a spec checked against tensors, every extent known, every tensor's shape and type right.

use std::fmt;

use super::checks::{check_numbers, check_router, check_unused};
use super::extents::MoeExtents;
use super::given::{Given, extents_of};
use super::routing::{Router, TokenChoice};
use super::spec::{MoeOutput, MoeSpec};
use super::tensors::{Kind, Wanted, check_tensor, output_desc, wanted};
use crate::error::{Error, SpecError};
use crate::matmul::Operands;
use crate::matmul::weights::{check_blocks, scales_name};
use crate::operator::{Spec, command_line};
use crate::tensor::check;
use crate::tensor::{Dtype, TensorDesc, TensorDescs, WeightFormat};

/// A mixture of experts with every extent, stride and type known and checked; made by [`MoeProblem::new`].
///
/// Only this crate changes one, since kernels run without bounds checks on what it says:
///
/// ```compile_fail,E0616
/// fn changed(mut problem: tilewise::moe::MoeProblem) {
///     problem.extents.tokens += 1;
/// }
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct MoeProblem {
    pub(crate) spec: MoeSpec,
    pub(crate) extents: MoeExtents,
    pub(crate) tensors: TensorDescs,
}

impl Spec for MoeSpec {
    type Problem = MoeProblem;

    fn ask(&self, tensors: &TensorDescs) -> Result<MoeProblem, Error> {
        Ok(MoeProblem::new(self, tensors)?)
    }
}

impl MoeProblem {
    /// Checks a spec against the tensors of a call. `tensors` holds the inputs by their contract names and,
    /// where the caller has buffers for them, the outputs; those that are absent are laid out without gaps.
    ///
    /// # Errors
    /// [`SpecError`] names what is wrong, what would be right and what was given.
    pub fn new(spec: &MoeSpec, tensors: &TensorDescs) -> Result<Self, SpecError> {
        check::all_within_u64(tensors)?;
        check_numbers(spec)?;
        let given = Given { tensors };
        let extents = extents_of(spec, given)?;
        check_router(spec, &extents)?;
        check_unused(spec, tensors)?;
        let mut spec = spec.clone();
        name_correction_bias(&mut spec, tensors);
        let mut checked = TensorDescs::new();
        for Wanted { name, shape, kind } in wanted(&spec, &extents, tensors) {
            let desc = given.find(&name, "this mixture of experts")?;
            check_tensor(&name, desc, &shape, kind)?;
            checked.insert(name, desc.clone());
        }
        for (name, desc) in checked.iter().filter(|(name, _)| is_expert_weights(name)) {
            let matrices = if name.starts_with("shared_") { 1 } else { extents.experts };
            let scales = checked.get(&scales_name(name));
            check_blocks(spec.weight_format(), name, desc, scales, matrices)?;
        }
        for output in &spec.outputs {
            add_output(&mut checked, *output, output_desc(*output, &spec, &extents), tensors)?;
        }
        fill_in(&mut spec, &extents);
        Ok(Self { spec, extents, tensors: checked })
    }

    /// The caller's spec with its defaults and extents filled in.
    pub const fn spec(&self) -> &MoeSpec {
        &self.spec
    }

    /// The extents.
    pub const fn extents(&self) -> &MoeExtents {
        &self.extents
    }

    /// Every tensor, inputs and outputs.
    pub const fn descs(&self) -> &TensorDescs {
        &self.tensors
    }

    /// Whether an output was asked for.
    pub fn wants(&self, output: MoeOutput) -> bool {
        self.spec.outputs.contains(&output)
    }

    /// Whether a tensor of this name is an output.
    pub(super) fn gives(&self, name: &str) -> bool {
        self.spec.outputs.iter().any(|output| output.name() == name)
    }

    /// Whether there is a tensor of this name.
    pub fn has(&self, name: &str) -> bool {
        self.tensors.contains_key(name)
    }

    /// The token choice, where that is the router.
    pub fn token_choice(&self) -> Option<&TokenChoice> {
        match &self.spec.router {
            Router::TokenChoice(choice) => Some(choice),
            _ => None,
        }
    }

    /// How a matrix of weights is stored.
    pub(super) fn format_of(&self, name: &str) -> WeightFormat {
        match is_expert_weights(name) {
            true => self.spec.weight_format(),
            false => WeightFormat::plain(self.tensors[name].dtype),
        }
    }

    /// What the experts multiply.
    pub fn operands(&self) -> Operands {
        let MoeSpec { dtype, quantise_activations, .. } = self.spec;
        Operands::of(dtype, self.spec.weight_format(), quantise_activations)
    }

    /// Element type of out.
    pub fn out_dtype(&self) -> Dtype {
        self.spec.out_dtype.unwrap_or(self.spec.dtype)
    }

    /// Multiply-adds times two of the experts' matmuls when nothing is dropped, shared experts aside.
    pub fn expert_flops(&self) -> f64 {
        let e = &self.extents;
        let rows = match self.spec.router {
            Router::ExpertChoice { capacity } => f64::from(e.experts) * f64::from(capacity),
            _ => f64::from(e.routed()) * f64::from(e.top_k.min(e.experts)),
        };
        let matmuls = if self.spec.activation.is_gated() { 3.0 } else { 2.0 };
        2.0 * matmuls * rows * f64::from(e.model_dim) * f64::from(e.expert_dim)
    }
}

/// Checks the caller's tensor for an output, or takes `expected` where there is none.
fn add_output(
    checked: &mut TensorDescs,
    output: MoeOutput,
    expected: TensorDesc,
    tensors: &TensorDescs,
) -> Result<(), SpecError> {
    let name = output.name();
    if checked.contains_key(name) {
        let expected = format!("{name} to be no input of the same call");
        return Err(SpecError::value("outputs", expected, "both"));
    }
    let desc = tensors.get(name).unwrap_or(&expected);
    check_tensor(name, desc, expected.shape(), Kind::Exactly(expected.dtype))?;
    let got = || format!("strides {:?}", desc.layout.strides());
    if output != MoeOutput::Out && !desc.layout.is_contiguous() {
        return Err(SpecError::value(name, "a tensor without gaps", got()));
    }
    if desc.layout.overlaps_itself() {
        return Err(SpecError::value(name, "elements of their own", got()));
    }
    checked.insert(name.to_owned(), desc.clone());
    Ok(())
}

/// Whether these are weights that the spec's format is that of.
pub(super) fn is_expert_weights(name: &str) -> bool {
    matches!(name.strip_prefix("shared_").unwrap_or(name), "w_gate" | "w_up" | "w_down")
}

/// A command line that reproduces the problem.
impl fmt::Display for MoeProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        command_line(f, "explain", "moe", &self.spec)
    }
}

/// Names the tensor that is taken by default.
fn name_correction_bias(spec: &mut MoeSpec, tensors: &TensorDescs) {
    if let Router::TokenChoice(TokenChoice { correction_bias: name @ None, .. }) = &mut spec.router
        && tensors.contains_key("correction_bias")
    {
        *name = Some("correction_bias".to_owned());
    }
}

/// Puts the extents into the spec.
fn fill_in(spec: &mut MoeSpec, extents: &MoeExtents) {
    spec.tokens = Some(extents.tokens);
    spec.model_dim = Some(extents.model_dim);
    spec.experts = Some(extents.experts);
    spec.expert_dim = Some(extents.expert_dim).filter(|dim| *dim > 0);
    if matches!(spec.router, Router::TokenChoice(_) | Router::External) {
        spec.top_k = Some(extents.top_k);
    }
}
