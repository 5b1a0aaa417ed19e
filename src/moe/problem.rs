//! The question, checked: every extent known, every tensor's shape and type right.

use std::collections::BTreeMap;
use std::fmt;

use super::spec::{Activation, MoeOutput, MoeSpec, Router, TokenChoice};
use crate::error::SpecError;
use crate::tensor::{Dtype, TensorDesc};

/// Most experts that the kernels take.
pub const MAX_EXPERTS: u32 = 1024;

/// Most experts that a token chooses.
pub const MAX_TOP_K: u32 = 32;

/// Tensors by name: inputs and, where the caller has them, outputs.
pub(super) type TensorDescs = BTreeMap<String, TensorDesc>;

/// A mixture of experts with every extent, stride and type known and checked; made by [`MoeProblem::new`].
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct MoeProblem {
    /// The caller's spec with its defaults and extents filled in.
    pub spec: MoeSpec,
    /// The extents.
    pub extents: MoeExtents,
    /// Every tensor, inputs and outputs.
    pub tensors: TensorDescs,
}

/// The extents of a mixture of experts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct MoeExtents {
    /// Number of tokens.
    pub tokens: u32,
    /// Elements of a token.
    pub model_dim: u32,
    /// Number of experts.
    pub experts: u32,
    /// Elements between an expert's two matmuls.
    pub expert_dim: u32,
    /// Elements between the shared expert's two matmuls; 0 without one.
    pub shared_dim: u32,
    /// Experts that a token may go to: `top_k`; all of them with expert choice; 1 for a slot of a soft router.
    pub top_k: u32,
    /// Slots an expert has in a soft router; 0 in the others.
    pub slots: u32,
}

impl MoeExtents {
    /// What is routed: tokens, or the slots of a soft router.
    pub const fn routed(&self) -> u32 {
        if self.slots > 0 { self.experts * self.slots } else { self.tokens }
    }

    /// Columns of the router's logits.
    pub const fn router_columns(&self) -> u32 {
        if self.slots > 0 { self.experts * self.slots } else { self.experts }
    }
}

impl MoeProblem {
    /// Checks a question against the tensors it is asked of. `tensors` holds the inputs by their contract names and,
    /// where the caller has buffers for them, the outputs; those that are absent are laid out without gaps.
    ///
    /// # Errors
    /// [`SpecError`] names what is wrong, what would be right and what was given.
    pub fn new(spec: &MoeSpec, tensors: &TensorDescs) -> Result<Self, SpecError> {
        check_numbers(spec)?;
        let given = Given { tensors };
        let extents = extents_of(spec, given)?;
        check_router(spec, &extents)?;
        let mut spec = spec.clone();
        name_correction_bias(&mut spec, tensors);
        let mut checked = TensorDescs::new();
        for Wanted { name, shape, kind } in wanted(&spec, &extents, tensors) {
            let desc = given.find(&name, "this mixture of experts")?;
            check_tensor(&name, desc, &shape, kind)?;
            checked.insert(name, desc.clone());
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
                let got = format!("strides {:?}", desc.layout.strides);
                return Err(SpecError::value(output.name(), "a tensor without gaps", got));
            }
            if desc.layout.overlaps_itself() {
                let got = format!("strides {:?}", desc.layout.strides);
                return Err(SpecError::value(output.name(), "elements of their own", got));
            }
            checked.insert(output.name().to_owned(), desc.clone());
        }
        fill_in(&mut spec, &extents);
        Ok(Self { spec, extents, tensors: checked })
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

    /// Element type of out.
    pub fn out_dtype(&self) -> Dtype {
        self.spec.out_dtype.unwrap_or(self.spec.dtype)
    }

    /// Multiply-adds times two of the experts' matmuls when nothing is dropped, shared experts aside.
    pub fn expert_flops(&self) -> f64 {
        let e = &self.extents;
        let rows = match self.spec.router {
            Router::ExpertChoice { capacity } => f64::from(e.experts) * f64::from(capacity),
            _ => f64::from(e.routed()) * f64::from(e.top_k),
        };
        let matmuls = if self.spec.activation.is_gated() { 3.0 } else { 2.0 };
        2.0 * matmuls * rows * f64::from(e.model_dim) * f64::from(e.expert_dim)
    }
}

/// A command line that reproduces the question.
impl fmt::Display for MoeProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut json = serde_json::to_value(&self.spec).map_err(|_| fmt::Error)?;
        json["op"] = "moe".into();
        write!(f, "tilewise explain '{json}'")
    }
}

/// The caller's tensors.
#[derive(Clone, Copy)]
struct Given<'a> {
    tensors: &'a TensorDescs,
}

impl<'a> Given<'a> {
    fn find(self, name: &str, why: &str) -> Result<&'a TensorDesc, SpecError> {
        self.tensors.get(name).ok_or_else(|| SpecError::MissingTensor {
            name: name.to_owned(),
            why: format!("asked for by {why}"),
        })
    }

    /// Extents of a tensor that must have as many axes as `axes` names.
    fn shape<const N: usize>(
        self,
        name: &str,
        why: &str,
        axes: [&str; N],
    ) -> Result<[u64; N], SpecError> {
        let shape = self.find(name, why)?.shape();
        shape.try_into().map_err(|_| {
            let expected = format!("{N} axes ({})", axes.join(", "));
            SpecError::value(name, expected, format!("shape {shape:?}"))
        })
    }
}

/// Which element types a tensor may have.
#[derive(Clone, Copy)]
enum Kind {
    Exactly(Dtype),
    /// f32, or the spec's dtype.
    Side(Dtype),
}

struct Wanted {
    name: String,
    shape: Vec<u64>,
    kind: Kind,
}

fn check_numbers(spec: &MoeSpec) -> Result<(), SpecError> {
    let floats = |field: &str, dtype: Dtype| match dtype.is_float() {
        true => Ok(()),
        false => Err(SpecError::value(field, "f32, f16 or bf16", dtype)),
    };
    floats("dtype", spec.dtype)?;
    floats("weights", spec.weights.unwrap_or(spec.dtype))?;
    if let Some(out) = spec.out_dtype
        && out != spec.dtype
        && out != Dtype::F32
    {
        let expected = format!("{} (the dtype) or f32", spec.dtype);
        return Err(SpecError::value("out_dtype", expected, out));
    }
    if spec.outputs.is_empty() {
        return Err(SpecError::value("outputs", "at least one, such as out", "none"));
    }
    if let Activation::ClampedSwiglu { alpha, limit } = spec.activation {
        let finite = alpha.is_finite() && limit.is_finite() && limit.0 > 0.0;
        if !finite {
            let got = format!("alpha {alpha}, limit {limit}");
            let expected = "a finite alpha and a finite limit above 0";
            return Err(SpecError::value("activation.clamped_swiglu", expected, got));
        }
    }
    if let Router::TokenChoice(TokenChoice { scale, epsilon, .. }) = &spec.router {
        for (field, value) in [("scale", scale), ("epsilon", epsilon)] {
            if !value.is_finite() {
                let field = format!("router.token_choice.{field}");
                return Err(SpecError::value(field, "a finite number", value));
            }
        }
    }
    Ok(())
}

fn extents_of(spec: &MoeSpec, given: Given<'_>) -> Result<MoeExtents, SpecError> {
    let [tokens, model_dim] = given.shape("x", "moe", ["tokens", "model_dim"])?;
    let up = ["experts", "expert_dim", "model_dim"];
    let [experts, expert_dim, _] = given.shape("w_up", "moe", up)?;
    let most = u64::from(u32::MAX >> 3);
    let ranged = |field: &str, asked: Option<u32>, found: u64, least: u64, most: u64| {
        if !(least..=most).contains(&found) {
            return Err(SpecError::value(field, format!("{least} to {most}"), found));
        }
        match asked {
            Some(asked) if u64::from(asked) != found => {
                Err(SpecError::value(field, format!("{found} as the tensors have"), asked))
            }
            _ => Ok(found as u32),
        }
    };
    let experts = ranged("experts", spec.experts, experts, 1, u64::from(MAX_EXPERTS))?;
    let tokens = ranged("tokens", spec.tokens, tokens, 0, most)?;
    let mut slots = 0;
    let top_k = match &spec.router {
        Router::TokenChoice(_) => spec.top_k.ok_or_else(|| {
            SpecError::value("top_k", "a number (token choice needs it)", "nothing")
        })?,
        Router::External => {
            let [_, found] = given.shape("topk_ids", "the external router", ["tokens", "top_k"])?;
            ranged("top_k", spec.top_k, found, 1, u64::from(MAX_TOP_K))?
        }
        Router::ExpertChoice { .. } => experts,
        Router::Soft { slots: count } => {
            slots = *count;
            1
        }
    };
    let shared_dim = match given.tensors.contains_key("shared_w_up") {
        true => given.shape("shared_w_up", "moe", ["shared_dim", "model_dim"])?[0],
        false => 0,
    };
    Ok(MoeExtents {
        tokens,
        model_dim: ranged("model_dim", spec.model_dim, model_dim, 1, most)?,
        experts,
        expert_dim: ranged("expert_dim", spec.expert_dim, expert_dim, 1, most)?,
        shared_dim: ranged("shared_dim", None, shared_dim, 0, most)?,
        top_k,
        slots,
    })
}

fn check_router(spec: &MoeSpec, extents: &MoeExtents) -> Result<(), SpecError> {
    let MoeExtents { tokens, experts, top_k, .. } = *extents;
    let within = |field: &str, value: u32, most: u32| match (1..=most).contains(&value) {
        true => Ok(()),
        false => Err(SpecError::value(field, format!("1 to {most}"), value)),
    };
    match &spec.router {
        Router::TokenChoice(choice) => {
            within("top_k", top_k, MAX_TOP_K.min(experts))?;
            if let Some(groups) = choice.groups {
                let field = "router.token_choice.groups";
                if groups.count == 0 || !experts.is_multiple_of(groups.count) {
                    let expected = format!("a divisor of experts ({experts})");
                    return Err(SpecError::value(format!("{field}.count"), expected, groups.count));
                }
                within(&format!("{field}.keep"), groups.keep, groups.count)?;
                within("top_k", top_k, experts / groups.count * groups.keep)?;
            }
        }
        Router::ExpertChoice { capacity } => {
            let field = "router.expert_choice.capacity";
            if *capacity > tokens || (*capacity == 0 && tokens > 0) {
                let expected = format!("1 to tokens ({tokens})");
                return Err(SpecError::value(field, expected, capacity));
            }
        }
        Router::Soft { slots } => within("router.soft.slots", *slots, u32::MAX >> 16)?,
        Router::External => {}
    }
    if u64::from(extents.routed()) * u64::from(top_k) > u64::from(u32::MAX >> 2) {
        let expected = format!("at most {} rows (tokens times top_k)", u32::MAX >> 2);
        let got = u64::from(extents.routed()) * u64::from(top_k);
        return Err(SpecError::value("tokens", expected, got));
    }
    check_capacity(spec, tokens)?;
    check_asked(spec)
}

fn check_capacity(spec: &MoeSpec, tokens: u32) -> Result<(), SpecError> {
    let Some(capacity) = spec.capacity else { return Ok(()) };
    if matches!(spec.router, Router::ExpertChoice { .. } | Router::Soft { .. }) {
        let expected = "nothing: expert choice and soft routers have a capacity of their own";
        return Err(SpecError::value("capacity", expected, format!("rows {}", capacity.rows)));
    }
    if capacity.sequences == 0 || !tokens.is_multiple_of(capacity.sequences) {
        let expected = format!("a divisor of tokens ({tokens})");
        return Err(SpecError::value("capacity.sequences", expected, capacity.sequences));
    }
    Ok(())
}

/// Outputs that the router does not have.
fn check_asked(spec: &MoeSpec) -> Result<(), SpecError> {
    for output in &spec.outputs {
        let routers: &[&str] = match output {
            MoeOutput::Out => continue,
            MoeOutput::TopkIds | MoeOutput::TopkWeights => &["token_choice"],
            MoeOutput::TokenIds | MoeOutput::TokenWeights => &["expert_choice"],
            MoeOutput::Counts | MoeOutput::Dropped => &["token_choice", "external"],
            MoeOutput::RouterLogits => &["token_choice", "expert_choice", "soft"],
            MoeOutput::LoadBalancingLoss | MoeOutput::ZLoss => &["token_choice"],
        };
        let router = router_name(&spec.router);
        if !routers.contains(&router) {
            let expected = format!("{} with a {} router", output.name(), routers.join(" or "));
            return Err(SpecError::value("outputs", expected, format!("{router} router")));
        }
    }
    Ok(())
}

fn router_name(router: &Router) -> &'static str {
    match router {
        Router::TokenChoice(_) => "token_choice",
        Router::ExpertChoice { .. } => "expert_choice",
        Router::Soft { .. } => "soft",
        Router::External => "external",
    }
}

fn name_correction_bias(spec: &mut MoeSpec, tensors: &TensorDescs) {
    if let Router::TokenChoice(TokenChoice { correction_bias: name @ None, .. }) = &mut spec.router
        && tensors.contains_key("correction_bias")
    {
        *name = Some("correction_bias".to_owned());
    }
}

/// Every input that the question takes, in the contract's shapes.
fn wanted(spec: &MoeSpec, extents: &MoeExtents, tensors: &TensorDescs) -> Vec<Wanted> {
    let MoeExtents { tokens, model_dim, experts, expert_dim, shared_dim, top_k, slots } = *extents;
    let [tokens, model_dim, experts, expert_dim, shared_dim, top_k, slots] =
        [tokens, model_dim, experts, expert_dim, shared_dim, top_k, slots].map(u64::from);
    let weights = Kind::Exactly(spec.weights.unwrap_or(spec.dtype));
    let side = Kind::Side(spec.dtype);
    let mut all = Vec::new();
    let mut want = |name: &str, shape: &[u64], kind: Kind| {
        all.push(Wanted { name: name.to_owned(), shape: shape.to_vec(), kind });
    };
    let has = |name: &str| tensors.contains_key(name);
    want("x", &[tokens, model_dim], Kind::Exactly(spec.dtype));
    let logits_given = has("router_logits") && !has("router_w");
    match &spec.router {
        Router::External => {
            want("topk_ids", &[tokens, top_k], Kind::Exactly(Dtype::I32));
            want("topk_weights", &[tokens, top_k], side);
        }
        Router::Soft { .. } => want("phi", &[experts, slots, model_dim], side),
        _ if logits_given => want("router_logits", &[tokens, experts], side),
        _ => want("router_w", &[experts, model_dim], side),
    }
    if matches!(spec.router, Router::TokenChoice(_) | Router::ExpertChoice { .. }) {
        if has("router_b") && !logits_given {
            want("router_b", &[experts], side);
        }
        if has("logit_mask") {
            want("logit_mask", &[tokens, experts], Kind::Exactly(Dtype::Bool));
        }
    }
    if let Router::TokenChoice(choice) = &spec.router {
        if let Some(name) = &choice.correction_bias {
            want(name, &[experts], side);
        }
        if has("token_top_k") {
            want("token_top_k", &[tokens], Kind::Exactly(Dtype::I32));
        }
    }
    want("w_up", &[experts, expert_dim, model_dim], weights);
    want("w_down", &[experts, model_dim, expert_dim], weights);
    let gated = spec.activation.is_gated();
    if gated {
        want("w_gate", &[experts, expert_dim, model_dim], weights);
    }
    for (name, extent) in [("b_gate", expert_dim), ("b_up", expert_dim), ("b_down", model_dim)] {
        if has(name) && (gated || name != "b_gate") {
            want(name, &[experts, extent], side);
        }
    }
    if shared_dim > 0 {
        want("shared_w_up", &[shared_dim, model_dim], weights);
        want("shared_w_down", &[model_dim, shared_dim], weights);
        if gated {
            want("shared_w_gate", &[shared_dim, model_dim], weights);
        }
        if has("shared_gate_w") {
            want("shared_gate_w", &[1, model_dim], side);
        }
    }
    all
}

fn check_tensor(name: &str, desc: &TensorDesc, shape: &[u64], kind: Kind) -> Result<(), SpecError> {
    if desc.shape() != shape {
        let got = format!("{:?}", desc.shape());
        return Err(SpecError::value(name, format!("shape {shape:?}"), got));
    }
    let (accepted, fits) = match kind {
        Kind::Exactly(dtype) => (dtype.to_string(), desc.dtype == dtype),
        Kind::Side(Dtype::F32) => ("f32".to_owned(), desc.dtype == Dtype::F32),
        Kind::Side(dtype) => {
            (format!("f32 or {dtype}"), desc.dtype == dtype || desc.dtype == Dtype::F32)
        }
    };
    if !fits {
        return Err(SpecError::Dtype {
            tensor: name.to_owned(),
            expected: accepted,
            got: desc.dtype,
        });
    }
    if let (Some(&stride), Some(&extent)) = (desc.layout.strides.last(), shape.last())
        && stride != 1
        && extent > 1
    {
        return Err(SpecError::value(format!("{name} stride of the last axis"), 1, stride));
    }
    match desc.layout.end() {
        Some(_) => Ok(()),
        None => Err(SpecError::value(name, "elements within u64", "strides past it")),
    }
}

fn output_desc(output: MoeOutput, spec: &MoeSpec, extents: &MoeExtents) -> TensorDesc {
    let tokens = u64::from(extents.tokens);
    let experts = u64::from(extents.experts);
    let (dtype, shape) = match output {
        MoeOutput::Out => {
            let dtype = spec.out_dtype.unwrap_or(spec.dtype);
            (dtype, vec![tokens, u64::from(extents.model_dim)])
        }
        MoeOutput::TopkIds => (Dtype::I32, vec![tokens, u64::from(extents.top_k)]),
        MoeOutput::TopkWeights => (Dtype::F32, vec![tokens, u64::from(extents.top_k)]),
        MoeOutput::Counts => (Dtype::I32, vec![experts]),
        MoeOutput::RouterLogits if extents.slots > 0 => {
            (Dtype::F32, vec![tokens, experts, u64::from(extents.slots)])
        }
        MoeOutput::RouterLogits => (Dtype::F32, vec![tokens, experts]),
        MoeOutput::Dropped => (Dtype::I32, vec![1]),
        MoeOutput::TokenIds | MoeOutput::TokenWeights => {
            let rows = match spec.router {
                Router::ExpertChoice { capacity } => u64::from(capacity),
                _ => 0,
            };
            let dtype = if output == MoeOutput::TokenIds { Dtype::I32 } else { Dtype::F32 };
            (dtype, vec![experts, rows])
        }
        MoeOutput::LoadBalancingLoss | MoeOutput::ZLoss => (Dtype::F32, vec![1]),
    };
    TensorDesc::contiguous(dtype, &shape)
}

fn fill_in(spec: &mut MoeSpec, extents: &MoeExtents) {
    spec.tokens = Some(extents.tokens);
    spec.model_dim = Some(extents.model_dim);
    spec.experts = Some(extents.experts);
    spec.expert_dim = Some(extents.expert_dim);
    if matches!(spec.router, Router::TokenChoice(_) | Router::External) {
        spec.top_k = Some(extents.top_k);
    }
}
