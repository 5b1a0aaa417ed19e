//! The problem, checked: every extent known, every tensor's shape and type right.

use std::fmt;

use ordered_float::OrderedFloat;

use super::axes::{MAX_TOKENS, check_core, shape_over, window_fields};
use super::extents::NeighborhoodExtents;
use super::roles::{Role, check_extra, check_gate, extra_inputs};
use super::snippets;
use super::spec::{NeighborhoodOutput, NeighborhoodSpec};
use super::window::{Axis, axes3};
use crate::error::{Error, SpecError};
use crate::fused::domain::HEAD_GATE;
use crate::fused::{MAX_HEAD_DIM, Normaliser, ScoreModifier};
use crate::operator::{Spec, command_line};
use crate::tensor::Dtype;
use crate::tensor::check::{self, Output, missing};

pub use crate::tensor::TensorDescs;

/// Most windows of heads: a kernel's params hold three numbers for each.
const MAX_HEAD_WINDOWS: usize = 4096;

/// Inputs that every problem has.
const CORE: [&str; 3] = ["q", "k", "v"];

/// A neighborhood problem with every extent, stride and type known and checked; made by [`NeighborhoodProblem::new`].
///
/// Only this crate changes one, since kernels run without bounds checks on what it says:
///
/// ```compile_fail,E0616
/// fn changed(mut problem: tilewise::neighborhood::NeighborhoodProblem) {
///     problem.axes[0].window += 1;
/// }
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct NeighborhoodProblem {
    pub(crate) spec: NeighborhoodSpec,
    pub(crate) extents: NeighborhoodExtents,
    pub(crate) axes: Vec<Axis>,
    pub(crate) tensors: TensorDescs,
}

impl Spec for NeighborhoodSpec {
    type Problem = NeighborhoodProblem;

    fn ask(&self, tensors: &TensorDescs) -> Result<NeighborhoodProblem, Error> {
        Ok(NeighborhoodProblem::new(self, tensors)?)
    }
}

impl NeighborhoodProblem {
    /// Checks a spec against tensors: `q k v [batch, X…, heads, dim]`, `extra_k` and `extra_v [batch, extra, kv_heads,
    /// dim]`, `head_gate [batch, X…, q_heads]`, what the spec names, and, where the caller has buffers for them, `out` and
    /// `lse`; outputs that are absent are laid out without gaps. `bias` and `sink_logits` count by being there.
    ///
    /// # Errors
    /// [`SpecError`] names what is wrong: the field or the axis, and the numbers.
    pub fn new(spec: &NeighborhoodSpec, tensors: &TensorDescs) -> Result<Self, SpecError> {
        check::all_within_u64(tensors)?;
        let spec = &with_implied(spec, tensors);
        check_numbers(spec)?;
        let windows = window_fields!(spec, &spec.head_windows);
        let rank = windows.rank()?;
        for name in CORE {
            let desc = check::find(tensors, name, "neighborhood")?;
            check_core(name, desc, spec.dtype, (rank, "dim"))?;
        }
        let axes = windows.axes(tensors, &CORE)?;
        let mut extents = extents_of(spec, tensors, rank)?;
        extents.extra = extra_of(spec, tensors, &extents)?;
        check_head_windows(spec, &extents)?;
        let extras = extra_inputs(spec);
        extras.iter().try_for_each(|it| check_extra(it, tensors, (spec, &extents, &axes)))?;
        snippets::check(spec, rank, tensors)?;
        if let Some(desc) = tensors.get(HEAD_GATE) {
            check_gate(desc, (spec, &extents, &axes))?;
        }
        let spec = with_defaults(spec, &extents, &axes);
        let core = ["q", "k", "v", "extra_k", "extra_v", HEAD_GATE, "out", "lse"];
        let mut known = core.map(String::from).to_vec();
        known.extend(extras.into_iter().map(|extra| extra.name));
        let mut tensors = tensors.clone();
        tensors.retain(|name, _| known.contains(name));
        if extents.extra == 0 {
            tensors.retain(|name, _| !name.starts_with("extra_"));
        }
        check_outputs(&spec, &extents, &axes, &mut tensors)?;
        Ok(Self { spec, extents, axes, tensors })
    }

    /// The caller's spec with its defaults filled in.
    pub fn spec(&self) -> &NeighborhoodSpec {
        &self.spec
    }

    /// The extents.
    pub fn extents(&self) -> &NeighborhoodExtents {
        &self.extents
    }

    /// The axes, first to last; where windows differ by head, with the largest along each.
    pub fn axes(&self) -> &[Axis] {
        &self.axes
    }

    /// Every tensor, inputs and outputs.
    pub fn descs(&self) -> &TensorDescs {
        &self.tensors
    }

    /// Names of its extra inputs.
    pub(super) fn extra_names(&self) -> Vec<String> {
        extra_inputs(&self.spec).into_iter().map(|extra| extra.name).collect()
    }

    /// Whether a tensor is a table over queries and keys.
    pub(super) fn is_table(&self, name: &str) -> bool {
        self.uses(name).contains(&Role::Bias)
    }

    /// What an extra input is for.
    pub(super) fn uses(&self, name: &str) -> Vec<Role> {
        let extras = extra_inputs(&self.spec).into_iter().filter(|extra| extra.name == name);
        extras.map(|extra| extra.role).collect()
    }

    /// Whether an output was asked for.
    pub fn wants(&self, output: NeighborhoodOutput) -> bool {
        self.spec.outputs.contains(&output)
    }

    /// `softmax_scale`, resolved.
    pub fn softmax_scale(&self) -> f32 {
        self.spec.softmax_scale.map_or(1.0, OrderedFloat::into_inner)
    }

    /// Tokens of one image.
    pub fn tokens(&self) -> u64 {
        self.axes.iter().map(|axis| u64::from(axis.extent)).product()
    }

    /// The axes as three, those that are not there before the others.
    pub fn axes3(&self) -> [Axis; 3] {
        axes3(&self.axes)
    }

    /// The axes as a query head sees them.
    pub fn axes_of_head(&self, head: u32) -> Vec<Axis> {
        let window = self.spec.head_windows.get(head as usize).unwrap_or(&self.spec.window);
        self.axes.iter().zip(window).map(|(axis, &window)| Axis { window, ..*axis }).collect()
    }

    /// The different windows that heads have and how many have each; one, where all have the same.
    pub(super) fn head_windows(&self) -> Vec<([Axis; 3], u64)> {
        let mut windows: Vec<([Axis; 3], u64)> = Vec::new();
        for window in &self.spec.head_windows {
            let mut axes = self.axes3();
            axes.iter_mut().rev().zip(window.iter().rev()).for_each(|(axis, n)| axis.window = *n);
            match windows.iter_mut().find(|(known, _)| *known == axes) {
                Some((_, heads)) => *heads += 1,
                None => windows.push((axes, 1)),
            }
        }
        if windows.len() < 2 {
            windows = vec![(self.axes3(), 1)];
        }
        windows
    }

    /// Scores that the problem asks for: of all batches and heads, extra tokens included. What a mask of the caller's
    /// drops is counted.
    pub fn needed_scores(&self) -> f64 {
        let of_axes =
            |axes: &[Axis; 3]| axes.iter().map(|axis| axis.needed() as f64).product::<f64>();
        let windows = self.head_windows();
        let counted: u64 = windows.iter().map(|(_, heads)| heads).sum();
        let windows: f64 =
            windows.iter().map(|(axes, heads)| of_axes(axes) * *heads as f64).sum::<f64>();
        let extra = self.tokens() as f64 * f64::from(self.extents.extra);
        let heads = f64::from(self.extents.q_heads);
        (windows / counted as f64 + extra) * f64::from(self.extents.batch) * heads
    }

    /// Multiply-adds times two of these scores and of their values.
    pub fn flops(&self) -> f64 {
        let e = &self.extents;
        2.0 * self.needed_scores() * (f64::from(e.head_dim) + f64::from(e.value_dim))
    }
}

/// A command line that reproduces the problem.
impl fmt::Display for NeighborhoodProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        command_line(f, "explain", "neighborhood", &self.spec)
    }
}

/// `bias` and `sink_logits` count by being there, as in attention; named ones keep their place.
fn with_implied(spec: &NeighborhoodSpec, tensors: &TensorDescs) -> NeighborhoodSpec {
    let mut spec = spec.clone();
    let has_bias = |m: &ScoreModifier| matches!(m, ScoreModifier::Bias(name) if name == "bias");
    if tensors.contains_key("bias") && !spec.score.iter().any(has_bias) {
        spec.score.push(ScoreModifier::Bias("bias".to_owned()));
    }
    if let Normaliser::Softmax { sink: sink @ None } = &mut spec.normaliser
        && tensors.contains_key("sink_logits")
    {
        *sink = Some("sink_logits".to_owned());
    }
    spec
}

/// What the spec says by itself, its windows aside.
fn check_numbers(spec: &NeighborhoodSpec) -> Result<(), SpecError> {
    check::float_dtypes(spec.dtype, spec.out_dtype)?;
    check::finite("softmax_scale", spec.softmax_scale)?;
    for modifier in &spec.score {
        match modifier {
            ScoreModifier::Softcap(cap) => check::softcap(*cap)?,
            ScoreModifier::Alibi(_) => {
                let expected =
                    "softcap, bias or wgsl (tokens of several axes have no one distance)";
                return Err(SpecError::value("score", expected, "alibi"));
            }
            ScoreModifier::Bias(_) | ScoreModifier::Wgsl(_) => {}
        }
    }
    if let Normaliser::Sigmoid { bias } = &spec.normaliser {
        check::finite("normaliser.sigmoid.bias", Some(*bias))?;
        if spec.outputs.contains(&NeighborhoodOutput::Lse) {
            let got = "lse with the sigmoid normaliser, which has no denominator";
            return Err(SpecError::value("outputs", "out alone", got));
        }
    }
    if spec.outputs.is_empty() {
        return Err(SpecError::value("outputs", "at least one of out, lse", "none"));
    }
    Ok(())
}

fn extents_of(
    spec: &NeighborhoodSpec,
    tensors: &TensorDescs,
    rank: usize,
) -> Result<NeighborhoodExtents, SpecError> {
    let shapes = ["q", "k", "v"].map(|name| tensors[name].shape());
    let [q, k, v] = shapes.map(|shape| [shape[0], shape[rank + 1], shape[rank + 2]]);
    check::equal("batch", ("k", k[0]), ("q", q[0]))?;
    check::equal("head_dim", ("k", k[2]), ("q", q[2]))?;
    check::equal("batch", ("v", v[0]), ("q", q[0]))?;
    check::equal("kv_heads", ("v", v[1]), ("k", k[1]))?;
    let (heads, dims) = (1..=MAX_TOKENS, 1..=MAX_HEAD_DIM);
    let extents = NeighborhoodExtents {
        batch: check::extent("batch", spec.batch, q[0], 0..=MAX_TOKENS)?,
        q_heads: check::extent("q_heads", spec.q_heads, q[1], heads.clone())?,
        kv_heads: check::extent("kv_heads", spec.kv_heads, k[1], heads)?,
        head_dim: check::extent("head_dim", spec.head_dim, q[2], dims.clone())?,
        value_dim: check::extent("value_dim", spec.value_dim, v[2], dims)?,
        extra: 0,
    };
    check::heads_divide(extents.q_heads, extents.kv_heads)?;
    Ok(extents)
}

fn check_head_windows(
    spec: &NeighborhoodSpec,
    extents: &NeighborhoodExtents,
) -> Result<(), SpecError> {
    let (got, q_heads) = (spec.head_windows.len(), extents.q_heads);
    if got != 0 && got != q_heads as usize {
        let expected = format!("{q_heads} entries, one for each query head");
        return Err(SpecError::value("head_windows", expected, got));
    }
    if got > MAX_HEAD_WINDOWS {
        let expected = format!("at most {MAX_HEAD_WINDOWS} entries");
        return Err(SpecError::value("head_windows", expected, got));
    }
    Ok(())
}

/// The number of extra tokens.
fn extra_of(
    spec: &NeighborhoodSpec,
    tensors: &TensorDescs,
    extents: &NeighborhoodExtents,
) -> Result<u32, SpecError> {
    let (k, v) = match (tensors.get("extra_k"), tensors.get("extra_v")) {
        (None, None) => return Ok(0),
        (Some(k), Some(v)) => (k, v),
        (None, Some(_)) => return Err(missing("extra_k", "extra_v")),
        (Some(_), None) => return Err(missing("extra_v", "extra_k")),
    };
    let count = k.shape().get(1).copied().unwrap_or(0);
    for (name, desc, dim) in [("extra_k", k, extents.head_dim), ("extra_v", v, extents.value_dim)] {
        let [batch, kv_heads, dim] = [extents.batch, extents.kv_heads, dim].map(u64::from);
        let expected = [batch, count, kv_heads, dim];
        if desc.shape() != expected {
            let expected = format!("shape {expected:?} (batch, extra, kv_heads, dim)");
            return Err(SpecError::value(name, expected, format!("{:?}", desc.shape())));
        }
        check::rows(name, desc, spec.dtype)?;
    }
    if count > u64::from(MAX_TOKENS) {
        return Err(SpecError::value("extra_k", format!("at most {MAX_TOKENS} tokens"), count));
    }
    Ok(count as u32)
}

fn with_defaults(
    spec: &NeighborhoodSpec,
    extents: &NeighborhoodExtents,
    axes: &[Axis],
) -> NeighborhoodSpec {
    let default_scale = OrderedFloat(1.0 / (extents.head_dim as f32).sqrt());
    NeighborhoodSpec {
        window: axes.iter().map(|axis| axis.window).collect(),
        group_offset: axes.iter().map(|axis| axis.group_offset).collect(),
        stride: axes.iter().map(|axis| axis.stride).collect(),
        dilation: axes.iter().map(|axis| axis.dilation).collect(),
        causal: axes.iter().map(|axis| axis.causal).collect(),
        out_dtype: Some(spec.out_dtype.unwrap_or(spec.dtype)),
        softmax_scale: Some(spec.softmax_scale.unwrap_or(default_scale)),
        batch: Some(extents.batch),
        spatial: Some(axes.iter().map(|axis| axis.extent).collect()),
        q_heads: Some(extents.q_heads),
        kv_heads: Some(extents.kv_heads),
        head_dim: Some(extents.head_dim),
        value_dim: Some(extents.value_dim),
        ..spec.clone()
    }
}

/// Holds the outputs that the caller brings against the problem; lays out those it does not.
fn check_outputs(
    spec: &NeighborhoodSpec,
    extents: &NeighborhoodExtents,
    axes: &[Axis],
    tensors: &mut TensorDescs,
) -> Result<(), SpecError> {
    let wants = |output| spec.outputs.contains(&output);
    let out = Output {
        name: "out",
        wanted: wants(NeighborhoodOutput::Out),
        dtype: spec.out_dtype.unwrap_or(spec.dtype),
        shape: &shape_over(axes, extents.batch, &[extents.q_heads, extents.value_dim]),
        by_rows: true,
    };
    let lse = Output {
        name: "lse",
        wanted: wants(NeighborhoodOutput::Lse),
        dtype: Dtype::F32,
        shape: &shape_over(axes, extents.batch, &[extents.q_heads]),
        by_rows: false,
    };
    check::output(tensors, &out)?;
    check::output(tensors, &lse)
}
