//! Merging partial results: attention over parts of the keys, each with its own lse, as one.
//!
//! `lse = ln Σ exp(lse_i)`, `out = Σ out_i · exp(lse_i − lse)`, exact to rounding: for keys split over calls, a cache
//! shared by requests, or a ring of devices. A part whose lse is −inf counts nothing; one whose lse is NaN or +inf makes
//! its row NaN, lse too.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::kernel::{places, rows_of};
use crate::error::{Error, PlanError, SpecError};
use crate::fused::MAX_HEAD_DIM;
use crate::fused::merge::{Parts, merge_step};
use crate::fused::outputs::no_gate;
use crate::gpu::limits::GpuLimits;
use crate::gpu::recording::{Bound, Plan};
use crate::kernel::source::{Access, KernelSource, bound_range};
use crate::operator::{Operator, Spec, Tiles};
use crate::tensor::check;
use crate::tensor::{Dtype, TensorDesc, TensorDescs};

/// What to merge: `outs [parts, batch, heads, seq, dim]` and `lses [parts, batch, heads, seq]` give `out` and `lse`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct MergeSpec {
    /// Element type of outs and out; lses and lse are f32.
    pub dtype: Dtype,
}

impl Default for MergeSpec {
    fn default() -> Self {
        Self { dtype: Dtype::F32 }
    }
}

/// A merge, checked; made by [`MergeProblem::new`].
///
/// Only this crate changes one, since kernels run without bounds checks on what it says:
///
/// ```compile_fail,E0616
/// fn changed(mut problem: tilewise::attention::MergeProblem) {
///     problem.tensors.clear();
/// }
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct MergeProblem {
    pub(crate) spec: MergeSpec,
    pub(crate) tensors: TensorDescs,
}

/// The merge has one shape of work: a lane for four dims of a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MergeTiles {}

impl Tiles for MergeTiles {}

impl fmt::Display for MergeTiles {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("{}")
    }
}

impl Spec for MergeSpec {
    type Problem = MergeProblem;

    fn ask(&self, tensors: &TensorDescs) -> Result<MergeProblem, Error> {
        MergeProblem::new(self, tensors)
    }
}

impl MergeProblem {
    /// Checks `outs` and `lses`, and `out` and `lse` where the caller has buffers for them.
    ///
    /// # Errors
    /// [`SpecError`] naming the tensor, what it should be and what it is.
    pub fn new(spec: &MergeSpec, tensors: &TensorDescs) -> Result<Self, Error> {
        check::all_within_u64(tensors)?;
        check::float_dtypes(spec.dtype, None)?;
        let find = |name: &str| check::find(tensors, name, "attention_merge");
        let outs = find("outs")?.shape().to_vec();
        let [parts, batch, heads, seq, dim] = outs[..] else {
            let expected = "5 axes (parts, batch, heads, seq, dim)";
            return Err(SpecError::value("outs", expected, format!("shape {outs:?}")).into());
        };
        if parts == 0 || !(1..=u64::from(MAX_HEAD_DIM)).contains(&dim) {
            let expected = format!("at least 1 part, dim 1 to {MAX_HEAD_DIM}");
            return Err(SpecError::value("outs", expected, format!("shape {outs:?}")).into());
        }
        let rows = [batch, heads, seq];
        let mut checked = TensorDescs::new();
        for (name, dtype, shape) in [
            ("outs", spec.dtype, outs.clone()),
            ("lses", Dtype::F32, [&[parts], &rows[..]].concat()),
            ("out", spec.dtype, [&rows[..], &[dim]].concat()),
            ("lse", Dtype::F32, rows.to_vec()),
        ] {
            let expected = TensorDesc::contiguous(dtype, &shape);
            let given = match name {
                "out" | "lse" => tensors.get(name).unwrap_or(&expected),
                _ => find(name)?,
            };
            check_tensor(name, given, &expected)?;
            checked.insert(name.to_owned(), given.clone());
        }
        Ok(Self { spec: spec.clone(), tensors: checked })
    }

    /// The caller's spec.
    pub const fn spec(&self) -> &MergeSpec {
        &self.spec
    }

    /// outs, lses, out and lse, all without gaps.
    pub const fn descs(&self) -> &TensorDescs {
        &self.tensors
    }
}

fn check_tensor(name: &str, given: &TensorDesc, expected: &TensorDesc) -> Result<(), SpecError> {
    check::shape(name, given, expected.shape())?;
    check::element_type(name, given, &[expected.dtype])?;
    check::contiguous(name, given)
}

/// A command line that reproduces the problem.
impl fmt::Display for MergeProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shape = self.tensors["outs"].shape();
        write!(f, "attention_merge of {} outs {shape:?}", self.spec.dtype)
    }
}

impl MergeProblem {
    /// Extent of an axis of outs.
    fn extent(&self, axis: usize) -> u32 {
        self.tensors["outs"].shape()[axis] as u32
    }

    /// A whole tensor as a binding, and where its first element lies.
    fn whole(&self, name: &str, limits: &GpuLimits) -> Result<(Bound, u32), PlanError> {
        let desc = &self.tensors[name];
        let (first, end) = (desc.layout.offset(), desc.layout.offset() + desc.layout.len());
        let (bound, origin) = bound_range(name, desc.dtype, first, end, limits.storage_alignment);
        if bound.size > limits.storage_binding_bytes {
            return Err(PlanError::Limit {
                what: name.to_owned(),
                limit: "bytes of one binding (max_storage_buffer_binding_size)",
                needed: bound.size,
                available: limits.storage_binding_bytes,
            });
        }
        Ok((bound, origin.wrapping_add(desc.layout.offset() as u32)))
    }

    /// Binds out and lse, with their writers.
    fn bind_outputs(&self, source: &mut KernelSource, limits: &GpuLimits) -> Result<(), PlanError> {
        for name in ["out", "lse"] {
            let desc = &self.tensors[name];
            let (bound, first) = self.whole(name, limits)?;
            source.params.u32(format!("{name}_first"), first);
            for (axis, stride) in ["batch", "head", "seq"].into_iter().zip(desc.layout.strides()) {
                source.params.u32(format!("{name}_{axis}_stride"), *stride as u32);
            }
            source.accessor(&rows_of(name));
            if name == "out" {
                let access = Access::of(desc);
                let element = KernelSource::written_element(desc.dtype, access);
                source.bind(name, element, true, bound);
                source.row_writer(name, desc.dtype, access, self.extent(4));
            } else {
                source.bind(name, "u32", true, bound);
                source.lse_writer(name);
            }
        }
        Ok(())
    }

    /// What is merged.
    fn parts(&self, limits: &GpuLimits) -> Result<Parts, PlanError> {
        let (outs, outs_first) = self.whole("outs", limits)?;
        let (lses, lses_first) = self.whole("lses", limits)?;
        Ok(Parts {
            parts: self.extent(0),
            batch: self.extent(1),
            heads: self.extent(2),
            queries: self.extent(3),
            value_dim: self.extent(4),
            dtype: self.spec.dtype,
            access: Access::of(&self.tensors["outs"]),
            row_stride: self.extent(4),
            outs,
            outs_first,
            lses: Some(lses),
            lses_first,
        })
    }
}

impl crate::operator::sealed::Sealed for MergeProblem {}

impl Operator for MergeProblem {
    type Tiles = MergeTiles;

    fn candidates(&self, _: &GpuLimits) -> Result<Vec<MergeTiles>, PlanError> {
        Ok(vec![MergeTiles {}])
    }

    fn plan(&self, limits: &GpuLimits, _: &MergeTiles) -> Result<Plan, PlanError> {
        if self.tensors["out"].layout.is_empty() {
            return Plan::fitting(Vec::new(), Vec::new(), limits);
        }
        let mut source = KernelSource::default();
        source.const_f32("LOWEST", f32::MIN);
        source.const_bool("HAS_OUT", true);
        source.const_bool("HAS_LSE", true);
        places(&mut source, 0);
        no_gate(&mut source);
        source.params.u32("batch_first", 0);
        source.params.u32("head_first", 0);
        self.bind_outputs(&mut source, limits)?;
        let step = merge_step(source, self.parts(limits)?, limits)?;
        Plan::fitting(vec![step], Vec::new(), limits)
    }

    fn tensors(&self) -> Vec<(&str, TensorDesc)> {
        self.tensors.iter().map(|(name, desc)| (name.as_str(), desc.clone())).collect()
    }

    fn outputs(&self) -> Vec<&'static str> {
        vec!["out", "lse"]
    }
}
