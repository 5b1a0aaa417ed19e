//! The problems: specs checked against tensors, every extent known, every tensor's shape and type right.

use std::fmt;

use ordered_float::OrderedFloat;

use super::spec::{NeighborhoodAggregateSpec, NeighborhoodScoresSpec};
use crate::error::{Error, SpecError};
use crate::fused::MAX_HEAD_DIM;
use crate::neighborhood::axes::{MAX_TOKENS, check_core, shape_over};
use crate::neighborhood::window::{Axis, axes3};
use crate::operator::{Spec, command_line};
use crate::tensor::check::{self, Output};
use crate::tensor::{Dtype, TensorDesc, TensorDescs};

/// Neighborhood scores with every extent, stride and type known and checked.
///
/// Only this crate changes one, since kernels run without bounds checks on what it says:
///
/// ```compile_fail,E0616
/// fn changed(mut problem: tilewise::neighborhood::NeighborhoodScoresProblem) {
///     problem.spec.window.clear();
/// }
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct NeighborhoodScoresProblem {
    pub(crate) spec: NeighborhoodScoresSpec,
    pub(super) slots: Slots,
}

/// An aggregate of values with every extent, stride and type known and checked.
///
/// Only this crate changes one, since kernels run without bounds checks on what it says:
///
/// ```compile_fail,E0616
/// fn changed(mut problem: tilewise::neighborhood::NeighborhoodAggregateProblem) {
///     problem.spec.window.clear();
/// }
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct NeighborhoodAggregateProblem {
    pub(crate) spec: NeighborhoodAggregateSpec,
    pub(super) slots: Slots,
}

/// What the two have in common.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Slots {
    pub axes: Vec<Axis>,
    pub batch: u32,
    pub q_heads: u32,
    pub kv_heads: u32,
    /// Elements of a row of q and k, or of v.
    pub dim: u32,
    /// Inputs and outputs.
    pub tensors: TensorDescs,
}

impl Slots {
    /// Slots of a window.
    pub fn volume(&self) -> u32 {
        self.axes.iter().map(|axis| axis.window).product()
    }

    /// Queries, and keys, of a batch.
    pub fn tokens(&self) -> u32 {
        self.axes.iter().map(|axis| axis.extent).product()
    }

    /// Multiply-adds times two: a row of `dim` for each slot of each query.
    pub fn flops(&self) -> f64 {
        let queries = f64::from(self.batch) * f64::from(self.tokens()) * f64::from(self.q_heads);
        2.0 * queries * f64::from(self.volume()) * f64::from(self.dim)
    }

    /// The axes as three.
    pub fn axes3(&self) -> [Axis; 3] {
        axes3(&self.axes)
    }

    /// Query heads that share a key head.
    pub const fn group_size(&self) -> u32 {
        self.q_heads / self.kv_heads
    }

    /// Extents of the axes.
    fn spatial(&self) -> Vec<u32> {
        self.axes.iter().map(|axis| axis.extent).collect()
    }
}

impl Spec for NeighborhoodScoresSpec {
    type Problem = NeighborhoodScoresProblem;

    fn ask(&self, tensors: &TensorDescs) -> Result<NeighborhoodScoresProblem, Error> {
        Ok(NeighborhoodScoresProblem::new(self, tensors)?)
    }
}

impl NeighborhoodScoresProblem {
    /// Checks a spec against the tensors of a call: `q k [batch, X…, heads, head_dim]` and, where the caller
    /// has a buffer for it, `scores`.
    ///
    /// # Errors
    /// [`SpecError`] names what is wrong: the field or the axis, and the numbers.
    pub fn new(spec: &NeighborhoodScoresSpec, tensors: &TensorDescs) -> Result<Self, SpecError> {
        check::all_within_u64(tensors)?;
        check::float_dtypes(spec.dtype, None)?;
        check::finite("softmax_scale", spec.softmax_scale)?;
        let windows = spec.windows();
        let rank = windows.rank()?;
        let mut known = known(tensors, "neighborhood_scores", &["q", "k"], &["scores"])?;
        for name in ["q", "k"] {
            check_core(name, &known[name], spec.dtype, (rank, "dim"))?;
        }
        let axes = windows.axes(&known, &["q", "k"])?;
        let (q, k) = (outer(&known["q"], rank), outer(&known["k"], rank));
        check::equal("batch", ("k", k[0]), ("q", q[0]))?;
        check::equal("head_dim", ("k", k[2]), ("q", q[2]))?;
        let asked = [spec.batch, spec.q_heads, spec.kv_heads, spec.head_dim];
        let [batch, q_heads, kv_heads, dim] = extents("head_dim", asked, [q[0], q[1], k[1], q[2]])?;
        let volume = volume(&axes)?;
        let scores = Output {
            name: "scores",
            wanted: true,
            dtype: Dtype::F32,
            shape: &shape_over(&axes, batch, &[q_heads, volume]),
            by_rows: true,
        };
        check::output(&mut known, &scores)?;
        let slots = Slots { axes, batch, q_heads, kv_heads, dim, tensors: known };
        Ok(Self { spec: Self::resolved(spec, &slots), slots })
    }

    /// The spec with its defaults and extents filled in.
    fn resolved(spec: &NeighborhoodScoresSpec, slots: &Slots) -> NeighborhoodScoresSpec {
        let scale = OrderedFloat(1.0 / (slots.dim as f32).sqrt());
        NeighborhoodScoresSpec {
            softmax_scale: Some(spec.softmax_scale.unwrap_or(scale)),
            batch: Some(slots.batch),
            spatial: Some(slots.spatial()),
            q_heads: Some(slots.q_heads),
            kv_heads: Some(slots.kv_heads),
            head_dim: Some(slots.dim),
            ..spec.clone()
        }
    }

    /// The caller's spec with its defaults filled in.
    pub const fn spec(&self) -> &NeighborhoodScoresSpec {
        &self.spec
    }

    /// Every tensor, inputs and outputs.
    pub fn tensors(&self) -> &TensorDescs {
        &self.slots.tensors
    }

    /// Multiply-adds times two.
    pub fn flops(&self) -> f64 {
        self.slots.flops()
    }

    /// `softmax_scale`, resolved.
    pub fn softmax_scale(&self) -> f32 {
        self.spec.softmax_scale.map_or(1.0, OrderedFloat::into_inner)
    }
}

impl Spec for NeighborhoodAggregateSpec {
    type Problem = NeighborhoodAggregateProblem;

    fn ask(&self, tensors: &TensorDescs) -> Result<NeighborhoodAggregateProblem, Error> {
        Ok(NeighborhoodAggregateProblem::new(self, tensors)?)
    }
}

impl NeighborhoodAggregateProblem {
    /// Checks a spec against the tensors of a call: `weights [batch, X…, q_heads, slots]`, `v [batch, X…,
    /// kv_heads, value_dim]` and, where the caller has a buffer for it, `out`.
    ///
    /// # Errors
    /// As [`NeighborhoodScoresProblem::new`].
    pub fn new(spec: &NeighborhoodAggregateSpec, tensors: &TensorDescs) -> Result<Self, SpecError> {
        check::all_within_u64(tensors)?;
        check::float_dtypes(spec.dtype, spec.out_dtype)?;
        let windows = spec.windows();
        let rank = windows.rank()?;
        let mut known = known(tensors, "neighborhood_aggregate", &["weights", "v"], &["out"])?;
        check_core("v", &known["v"], spec.dtype, (rank, "dim"))?;
        check::element_type("weights", &known["weights"], &[Dtype::F32, spec.dtype])?;
        check_core("weights", &known["weights"], known["weights"].dtype, (rank, "slots"))?;
        let axes = windows.axes(&known, &["v", "weights"])?;
        let (w, v) = (outer(&known["weights"], rank), outer(&known["v"], rank));
        check::equal("batch", ("weights", w[0]), ("v", v[0]))?;
        let volume = volume(&axes)?;
        if w[2] != u64::from(volume) {
            let expected = format!("{volume} slots, as many as the window has keys");
            return Err(SpecError::value("weights", expected, w[2]));
        }
        let asked = [spec.batch, spec.q_heads, spec.kv_heads, spec.value_dim];
        let [batch, q_heads, kv_heads, dim] =
            extents("value_dim", asked, [v[0], w[1], v[1], v[2]])?;
        let out_dtype = spec.out_dtype.unwrap_or(spec.dtype);
        let out = Output {
            name: "out",
            wanted: true,
            dtype: out_dtype,
            shape: &shape_over(&axes, batch, &[q_heads, dim]),
            by_rows: true,
        };
        check::output(&mut known, &out)?;
        let slots = Slots { axes, batch, q_heads, kv_heads, dim, tensors: known };
        let spec = NeighborhoodAggregateSpec {
            out_dtype: Some(out_dtype),
            batch: Some(batch),
            spatial: Some(slots.spatial()),
            q_heads: Some(q_heads),
            kv_heads: Some(kv_heads),
            value_dim: Some(dim),
            ..spec.clone()
        };
        Ok(Self { spec, slots })
    }

    /// The caller's spec with its defaults filled in.
    pub const fn spec(&self) -> &NeighborhoodAggregateSpec {
        &self.spec
    }

    /// Every tensor, inputs and outputs.
    pub fn tensors(&self) -> &TensorDescs {
        &self.slots.tensors
    }

    /// Multiply-adds times two.
    pub fn flops(&self) -> f64 {
        self.slots.flops()
    }
}

/// The tensors that a problem reads, which must be there, and those that it writes.
fn known(
    tensors: &TensorDescs,
    op: &str,
    inputs: &[&str],
    outputs: &[&str],
) -> Result<TensorDescs, SpecError> {
    for name in inputs {
        check::find(tensors, name, op)?;
    }
    let mut known = tensors.clone();
    known.retain(|name, _| inputs.contains(&name.as_str()) || outputs.contains(&name.as_str()));
    Ok(known)
}

/// Batch, query heads, key heads and the dim of that name, as spec and tensors agree on them.
fn extents(dim: &str, asked: [Option<u32>; 4], found: [u64; 4]) -> Result<[u32; 4], SpecError> {
    let batch = check::extent("batch", asked[0], found[0], 0..=MAX_TOKENS)?;
    let q_heads = check::extent("q_heads", asked[1], found[1], 1..=MAX_TOKENS)?;
    let kv_heads = check::extent("kv_heads", asked[2], found[2], 1..=MAX_TOKENS)?;
    let dim = check::extent(dim, asked[3], found[3], 1..=MAX_HEAD_DIM)?;
    check::heads_divide(q_heads, kv_heads)?;
    Ok([batch, q_heads, kv_heads, dim])
}

/// Extents of batch, heads and the last axis.
fn outer(desc: &TensorDesc, rank: usize) -> [u64; 3] {
    let shape = desc.shape();
    [shape[0], shape[rank + 1], shape[rank + 2]]
}

/// Slots of a window.
fn volume(axes: &[Axis]) -> Result<u32, SpecError> {
    let volume = axes.iter().fold(1_u64, |volume, axis| volume.saturating_mul(axis.window.into()));
    match u32::try_from(volume) {
        Ok(slots) if slots <= MAX_TOKENS => Ok(slots),
        _ => Err(SpecError::value("window", format!("at most {MAX_TOKENS} keys in all"), volume)),
    }
}

/// A command line that reproduces the problem.
impl fmt::Display for NeighborhoodScoresProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        command_line(f, "explain", "neighborhood_scores", &self.spec)
    }
}

/// A command line that reproduces the problem.
impl fmt::Display for NeighborhoodAggregateProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        command_line(f, "explain", "neighborhood_aggregate", &self.spec)
    }
}
