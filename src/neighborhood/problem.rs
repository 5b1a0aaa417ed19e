//! The question, checked: every extent known, every tensor's shape and type right.

use std::collections::BTreeMap;
use std::fmt;

use ordered_float::OrderedFloat;

use super::spec::{Border, NeighborhoodOutput, NeighborhoodSpec};
use super::window::Axis;
use crate::error::SpecError;
use crate::fused::MAX_HEAD_DIM;
use crate::tensor::{Dtype, TensorDesc};

/// Most tokens of one image, and most extra tokens: packed key coordinates and their sums stay within u32.
pub const MAX_TOKENS: u64 = 1 << 29;

/// Tensors by name: inputs and, where the caller has them, outputs.
pub type TensorDescs = BTreeMap<String, TensorDesc>;

/// A neighborhood question with every extent, stride and type known and checked; made by [`NeighborhoodProblem::new`].
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct NeighborhoodProblem {
    /// The caller's spec with its defaults filled in.
    pub spec: NeighborhoodSpec,
    /// The extents.
    pub extents: NeighborhoodExtents,
    /// The axes, first to last.
    pub axes: Vec<Axis>,
    /// Every tensor, inputs and outputs.
    pub tensors: TensorDescs,
}

/// The extents beside the axes'.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct NeighborhoodExtents {
    /// Number of sequences, images or videos.
    pub batch: u32,
    /// Heads of q and out.
    pub q_heads: u32,
    /// Heads of k and v.
    pub kv_heads: u32,
    /// Elements of a query and of a key.
    pub head_dim: u32,
    /// Elements of a value.
    pub value_dim: u32,
    /// Extra tokens, which every query sees.
    pub extra: u32,
}

impl NeighborhoodExtents {
    /// Query heads that share a key head.
    pub const fn group_size(&self) -> u32 {
        self.q_heads / self.kv_heads
    }
}

impl NeighborhoodProblem {
    /// Checks a question against the tensors it is asked of: `q k v [batch, X…, heads, dim]`, `extra_k` and `extra_v
    /// [batch, extra, kv_heads, dim]`, and, where the caller has buffers for them, `out` and `lse`; outputs that are
    /// absent are laid out without gaps.
    ///
    /// # Errors
    /// [`SpecError`] names what is wrong: the field or the axis, and the numbers.
    pub fn new(spec: &NeighborhoodSpec, tensors: &TensorDescs) -> Result<Self, SpecError> {
        let rank = check_numbers(spec)?;
        for name in ["q", "k", "v"] {
            check_core(name, find(tensors, name)?, spec.dtype, rank + 3)?;
        }
        let spatial = spatial_of(spec, tensors, rank)?;
        let axes = axes_of(spec, &spatial)?;
        let mut extents = extents_of(spec, tensors, rank)?;
        extents.extra = extra_of(spec, tensors, &extents)?;
        let spec = with_defaults(spec, &extents, spatial);
        let known = ["q", "k", "v", "extra_k", "extra_v", "out", "lse"];
        let mut tensors = tensors.clone();
        tensors.retain(|name, _| known.contains(&name.as_str()));
        if extents.extra == 0 {
            tensors.retain(|name, _| !name.starts_with("extra_"));
        }
        check_outputs(&spec, &extents, &axes, &mut tensors)?;
        Ok(Self { spec, extents, axes, tensors })
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
        let mut axes = [Axis::ONE; 3];
        for (place, axis) in axes.iter_mut().rev().zip(self.axes.iter().rev()) {
            *place = *axis;
        }
        axes
    }

    /// Scores that the question asks for: of all batches and heads, extra tokens included.
    pub fn needed_scores(&self) -> f64 {
        let windows: f64 = self.axes.iter().map(|axis| axis.needed() as f64).product();
        let extra = self.tokens() as f64 * f64::from(self.extents.extra);
        (windows + extra) * f64::from(self.extents.batch) * f64::from(self.extents.q_heads)
    }
}

/// A command line that reproduces the question.
impl fmt::Display for NeighborhoodProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut json = serde_json::to_value(&self.spec).map_err(|_| fmt::Error)?;
        json["op"] = "neighborhood".into();
        write!(f, "tilewise explain '{json}'")
    }
}

impl NeighborhoodSpec {
    /// Tensors without gaps for a spec that says all its extents; no extra tokens.
    ///
    /// # Errors
    /// [`SpecError::Value`] naming the first extent that the spec leaves open.
    pub fn assumed_tensors(&self) -> Result<TensorDescs, SpecError> {
        let open = |field: &str| {
            let expected = "a number (there are no tensors to take it from)";
            SpecError::value(field, expected, "nothing")
        };
        let need = |field, value: Option<u32>| value.map(u64::from).ok_or_else(|| open(field));
        let spatial = self.spatial.as_ref().ok_or_else(|| open("spatial"))?;
        let batch = need("batch", self.batch)?;
        let q_heads = need("q_heads", self.q_heads)?;
        let kv_heads = self.kv_heads.map_or(q_heads, u64::from);
        let head_dim = need("head_dim", self.head_dim)?;
        let value_dim = self.value_dim.map_or(head_dim, u64::from);
        let tensor = |heads: u64, dim: u64| {
            let spatial = spatial.iter().copied().map(u64::from);
            let shape: Vec<u64> = [batch].into_iter().chain(spatial).chain([heads, dim]).collect();
            TensorDesc::contiguous(self.dtype, &shape)
        };
        Ok(TensorDescs::from([
            ("q".to_owned(), tensor(q_heads, head_dim)),
            ("k".to_owned(), tensor(kv_heads, head_dim)),
            ("v".to_owned(), tensor(kv_heads, value_dim)),
        ]))
    }
}

fn find<'a>(tensors: &'a TensorDescs, name: &str) -> Result<&'a TensorDesc, SpecError> {
    tensors.get(name).ok_or_else(|| SpecError::MissingTensor {
        name: name.to_owned(),
        why: "asked for by neighborhood".to_owned(),
    })
}

/// What the spec says by itself; gives the number of axes.
fn check_numbers(spec: &NeighborhoodSpec) -> Result<usize, SpecError> {
    let NeighborhoodSpec { dtype, out_dtype, window, stride, dilation, causal, outputs, .. } = spec;
    if !matches!(dtype, Dtype::F32 | Dtype::F16 | Dtype::Bf16) {
        return Err(SpecError::value("dtype", "f32, f16 or bf16", dtype));
    }
    if let Some(out) = out_dtype
        && out != dtype
        && *out != Dtype::F32
    {
        return Err(SpecError::value("out_dtype", format!("{dtype} (the dtype) or f32"), out));
    }
    if let Some(scale) = spec.softmax_scale
        && !scale.is_finite()
    {
        return Err(SpecError::value("softmax_scale", "a finite number", scale));
    }
    if outputs.is_empty() {
        return Err(SpecError::value("outputs", "at least one of out, lse", "none"));
    }
    let rank = window.len();
    if !(1..=3).contains(&rank) {
        return Err(SpecError::value("window", "one number for each of one to three axes", rank));
    }
    for (field, len) in
        [("stride", stride.len()), ("dilation", dilation.len()), ("causal", causal.len())]
    {
        if len != 0 && len != rank {
            let expected = format!("{rank} entries as window has, or none");
            return Err(SpecError::value(field, expected, len));
        }
    }
    Ok(rank)
}

fn check_core(name: &str, desc: &TensorDesc, dtype: Dtype, rank: usize) -> Result<(), SpecError> {
    if desc.shape().len() != rank {
        let spatial = ["X0", "X0, X1", "X0, X1, X2"][rank - 4];
        let expected = format!("{rank} axes (batch, {spatial}, heads, dim) as window says");
        return Err(SpecError::value(name, expected, format!("shape {:?}", desc.shape())));
    }
    check_dtype(name, desc, dtype)?;
    check_strides(name, desc)
}

fn check_dtype(name: &str, desc: &TensorDesc, dtype: Dtype) -> Result<(), SpecError> {
    if desc.dtype == dtype {
        return Ok(());
    }
    let expected = dtype.to_string();
    Err(SpecError::Dtype { tensor: name.to_owned(), expected, got: desc.dtype })
}

fn check_strides(name: &str, desc: &TensorDesc) -> Result<(), SpecError> {
    if let (Some(&stride), Some(&extent)) = (desc.layout.strides.last(), desc.shape().last())
        && stride != 1
        && extent > 1
    {
        return Err(SpecError::value(format!("{name} stride of dim"), 1, stride));
    }
    match desc.layout.end() {
        Some(_) => Ok(()),
        None => Err(SpecError::value(name, "elements within u64", "strides past it")),
    }
}

/// The tokens along each axis: q's, which k and v share.
fn spatial_of(
    spec: &NeighborhoodSpec,
    tensors: &TensorDescs,
    rank: usize,
) -> Result<Vec<u32>, SpecError> {
    let q = tensors["q"].shape();
    for name in ["k", "v"] {
        let shape = tensors[name].shape();
        for axis in 0..rank {
            if shape[axis + 1] != q[axis + 1] {
                let expected = format!("X{axis} {} as q has", q[axis + 1]);
                return Err(SpecError::value(
                    name,
                    expected,
                    format!("X{axis} {}", shape[axis + 1]),
                ));
            }
        }
    }
    let found = &q[1..=rank];
    let tokens = found.iter().try_fold(1_u64, |product, &extent| product.checked_mul(extent));
    if tokens.is_none_or(|tokens| tokens > MAX_TOKENS) {
        let expected = format!("extents whose product is at most {MAX_TOKENS}");
        return Err(SpecError::value("spatial", expected, format!("{found:?}")));
    }
    let found: Vec<u32> = found.iter().map(|&extent| extent as u32).collect();
    match &spec.spatial {
        Some(given) if *given != found => {
            let expected = format!("{found:?} as the tensors have");
            Err(SpecError::value("spatial", expected, format!("{given:?}")))
        }
        _ => Ok(found),
    }
}

fn axes_of(spec: &NeighborhoodSpec, spatial: &[u32]) -> Result<Vec<Axis>, SpecError> {
    let axis = |(number, &extent): (usize, &u32)| {
        let axis = Axis {
            extent,
            window: spec.window[number],
            stride: spec.stride.get(number).copied().unwrap_or(1),
            dilation: spec.dilation.get(number).copied().unwrap_or(1),
            causal: spec.causal.get(number).copied().unwrap_or(false),
            clip: spec.border == Border::Clip,
        };
        check_axis(number, &axis).map(|()| axis)
    };
    spatial.iter().enumerate().map(axis).collect()
}

fn check_axis(number: usize, axis: &Axis) -> Result<(), SpecError> {
    let Axis { extent, window, stride, dilation, .. } = *axis;
    let wrong = |field: &str, expected: String, got: String| {
        Err(SpecError::value(format!("{field} of axis {number}"), expected, got))
    };
    if window < 1 {
        return wrong("window", "at least 1".to_owned(), window.to_string());
    }
    if stride < 1 {
        return wrong("stride", "at least 1".to_owned(), stride.to_string());
    }
    if stride > window {
        return wrong("stride", format!("at most the window, {window}"), stride.to_string());
    }
    if dilation < 1 {
        return wrong("dilation", "at least 1".to_owned(), dilation.to_string());
    }
    let reach = u64::from(window) * u64::from(dilation);
    if reach > u64::from(extent) {
        let got = format!("window {window} times dilation {dilation}, {reach}");
        return wrong("window", format!("window times dilation at most the extent, {extent}"), got);
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
    for (tensor, name, got, other, expected) in [
        ("k", "batch", k[0], "q", q[0]),
        ("k", "head_dim", k[2], "q", q[2]),
        ("v", "batch", v[0], "q", q[0]),
        ("v", "kv_heads", v[1], "k", k[1]),
    ] {
        if got != expected {
            let expected = format!("{name} {expected} as {other} has");
            return Err(SpecError::value(tensor, expected, format!("{name} {got}")));
        }
    }
    let ranged = |field: &str, given: Option<u32>, found: u64, least: u64, most: u64| {
        if !(least..=most).contains(&found) {
            return Err(SpecError::value(field, format!("{least} to {most}"), found));
        }
        match given {
            Some(given) if u64::from(given) != found => {
                Err(SpecError::value(field, format!("{found} as the tensors have"), given))
            }
            _ => Ok(found as u32),
        }
    };
    let dims = u64::from(MAX_HEAD_DIM);
    let extents = NeighborhoodExtents {
        batch: ranged("batch", spec.batch, q[0], 0, MAX_TOKENS)?,
        q_heads: ranged("q_heads", spec.q_heads, q[1], 1, MAX_TOKENS)?,
        kv_heads: ranged("kv_heads", spec.kv_heads, k[1], 1, MAX_TOKENS)?,
        head_dim: ranged("head_dim", spec.head_dim, q[2], 1, dims)?,
        value_dim: ranged("value_dim", spec.value_dim, v[2], 1, dims)?,
        extra: 0,
    };
    if !extents.q_heads.is_multiple_of(extents.kv_heads) {
        let expected = format!("a multiple of kv_heads {}", extents.kv_heads);
        return Err(SpecError::value("q_heads", expected, extents.q_heads));
    }
    Ok(extents)
}

/// The number of extra tokens.
fn extra_of(
    spec: &NeighborhoodSpec,
    tensors: &TensorDescs,
    extents: &NeighborhoodExtents,
) -> Result<u32, SpecError> {
    let missing = |name: &str, why: &str| SpecError::MissingTensor {
        name: name.to_owned(),
        why: format!("asked for by {why}"),
    };
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
        check_dtype(name, desc, spec.dtype)?;
        check_strides(name, desc)?;
    }
    if count > MAX_TOKENS {
        return Err(SpecError::value("extra_k", format!("at most {MAX_TOKENS} tokens"), count));
    }
    Ok(count as u32)
}

fn with_defaults(
    spec: &NeighborhoodSpec,
    extents: &NeighborhoodExtents,
    spatial: Vec<u32>,
) -> NeighborhoodSpec {
    let rank = spatial.len();
    let mut spec = spec.clone();
    spec.stride.resize(rank, 1);
    spec.dilation.resize(rank, 1);
    spec.causal.resize(rank, false);
    let default_scale = OrderedFloat(1.0 / (extents.head_dim as f32).sqrt());
    NeighborhoodSpec {
        out_dtype: Some(spec.out_dtype.unwrap_or(spec.dtype)),
        softmax_scale: Some(spec.softmax_scale.unwrap_or(default_scale)),
        batch: Some(extents.batch),
        spatial: Some(spatial),
        q_heads: Some(extents.q_heads),
        kv_heads: Some(extents.kv_heads),
        head_dim: Some(extents.head_dim),
        value_dim: Some(extents.value_dim),
        ..spec
    }
}

/// Holds the outputs that the caller brings against the question; lays out those it does not.
fn check_outputs(
    spec: &NeighborhoodSpec,
    extents: &NeighborhoodExtents,
    axes: &[Axis],
    tensors: &mut TensorDescs,
) -> Result<(), SpecError> {
    let spatial = axes.iter().map(|axis| u64::from(axis.extent));
    let mut lse_shape: Vec<u64> = [u64::from(extents.batch)].into_iter().chain(spatial).collect();
    lse_shape.push(u64::from(extents.q_heads));
    let mut out_shape = lse_shape.clone();
    out_shape.push(u64::from(extents.value_dim));
    let out_dtype = spec.out_dtype.unwrap_or(spec.dtype);
    for (output, name, dtype, shape) in [
        (NeighborhoodOutput::Out, "out", out_dtype, out_shape),
        (NeighborhoodOutput::Lse, "lse", Dtype::F32, lse_shape),
    ] {
        if !spec.outputs.contains(&output) {
            tensors.remove(name);
            continue;
        }
        let desc =
            tensors.entry(name.to_owned()).or_insert_with(|| TensorDesc::contiguous(dtype, &shape));
        if desc.shape() != shape {
            let expected = format!("shape {shape:?}");
            return Err(SpecError::value(name, expected, format!("{:?}", desc.shape())));
        }
        check_dtype(name, desc, dtype)?;
        if output == NeighborhoodOutput::Out {
            check_strides(name, desc)?;
        } else if desc.layout.end().is_none() {
            return Err(SpecError::value(name, "elements within u64", "strides past it"));
        }
        if desc.layout.overlaps_itself() {
            let got = format!("strides {:?}", desc.layout.strides);
            return Err(SpecError::value(name, "strides that keep elements apart", got));
        }
    }
    Ok(())
}
