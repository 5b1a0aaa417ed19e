//! The question, checked: every extent known, every tensor's shape and type right.

use std::collections::BTreeMap;
use std::fmt;

use super::checks::{Given, check_numbers, check_router, check_unused, extents_of};
use super::routing::{NullExperts, Router, TokenChoice};
use super::spec::{MoeOutput, MoeSpec};
use super::tensors::{Kind, Wanted, check_tensor, output_desc, wanted};
use crate::error::SpecError;
use crate::matmul::Operands;
use crate::matmul::weights::{check_blocks, scales_name};
use crate::operator::command_line;
use crate::tensor::check;
use crate::tensor::{Dtype, TensorDesc, WeightFormat};

/// Most experts that the kernels take.
pub const MAX_EXPERTS: u32 = 1024;

/// Most experts that a token chooses.
pub const MAX_TOP_K: u32 = 32;

/// Tensors by name: inputs and, where the caller has them, outputs.
pub(super) type TensorDescs = BTreeMap<String, TensorDesc>;

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

/// The extents of a mixture of experts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct MoeExtents {
    /// Number of tokens.
    pub tokens: u32,
    /// Elements of a token.
    pub model_dim: u32,
    /// Number of experts that have weights, here or elsewhere.
    pub experts: u32,
    /// Experts without weights, behind them.
    pub null_experts: NullExperts,
    /// The first expert whose weights are here.
    pub expert_start: u32,
    /// The end of the experts whose weights are here.
    pub expert_end: u32,
    /// Elements between an expert's two matmuls; without `out` they may be unknown, 0.
    pub expert_dim: u32,
    /// Elements between the shared expert's two matmuls; 0 without one.
    pub shared_dim: u32,
    /// Experts that a token may go to: `top_k`; all columns of the router with expert choice; 1 for a slot of a soft router.
    pub top_k: u32,
    /// Slots an expert has in a soft router; 0 in the others.
    pub slots: u32,
}

impl MoeExtents {
    /// What is routed: tokens, or the slots of a soft router.
    pub const fn routed(&self) -> u32 {
        if self.slots > 0 { self.experts * self.slots } else { self.tokens }
    }

    /// What a token chooses from: experts with weights and without.
    pub const fn choices(&self) -> u32 {
        self.experts + self.null_experts.count()
    }

    /// Columns of the router's logits.
    pub const fn router_columns(&self) -> u32 {
        if self.slots > 0 { self.experts * self.slots } else { self.choices() }
    }

    /// Experts whose weights are here.
    pub const fn local_experts(&self) -> u32 {
        self.expert_end - self.expert_start
    }

    /// The end of the choices that are computed here: the null experts come with the last expert.
    pub const fn local_end(&self) -> u32 {
        if self.expert_end == self.experts { self.choices() } else { self.expert_end }
    }
}

impl MoeProblem {
    /// Checks a question against the tensors it is asked of. `tensors` holds the inputs by their contract names and,
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
            if checked.contains_key(output.name()) {
                let expected = format!("{} to be no input of the same call", output.name());
                return Err(SpecError::value("outputs", expected, "both"));
            }
            let expected = output_desc(*output, &spec, &extents);
            let desc = tensors.get(output.name()).unwrap_or(&expected);
            check_tensor(output.name(), desc, expected.shape(), Kind::Exactly(expected.dtype))?;
            if *output != MoeOutput::Out && !desc.layout.is_contiguous() {
                let got = format!("strides {:?}", desc.layout.strides());
                return Err(SpecError::value(output.name(), "a tensor without gaps", got));
            }
            if desc.layout.overlaps_itself() {
                let got = format!("strides {:?}", desc.layout.strides());
                return Err(SpecError::value(output.name(), "elements of their own", got));
            }
            checked.insert(output.name().to_owned(), desc.clone());
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

/// Whether these are weights that the spec's format is that of.
pub(super) fn is_expert_weights(name: &str) -> bool {
    matches!(name.strip_prefix("shared_").unwrap_or(name), "w_gate" | "w_up" | "w_down")
}

/// A command line that reproduces the question.
impl fmt::Display for MoeProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        command_line(f, "explain", "moe", &self.spec)
    }
}

fn name_correction_bias(spec: &mut MoeSpec, tensors: &TensorDescs) {
    if let Router::TokenChoice(TokenChoice { correction_bias: name @ None, .. }) = &mut spec.router
        && tensors.contains_key("correction_bias")
    {
        *name = Some("correction_bias".to_owned());
    }
}

fn fill_in(spec: &mut MoeSpec, extents: &MoeExtents) {
    spec.tokens = Some(extents.tokens);
    spec.model_dim = Some(extents.model_dim);
    spec.experts = Some(extents.experts);
    spec.expert_dim = Some(extents.expert_dim).filter(|dim| *dim > 0);
    if matches!(spec.router, Router::TokenChoice(_) | Router::External) {
        spec.top_k = Some(extents.top_k);
    }
}
