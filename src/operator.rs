//! What every operator is to the engine: a checked problem that plans itself.

use std::collections::BTreeMap;
use std::fmt::{self, Debug, Display};
use std::hash::Hash;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::error::{Error, PlanError, SpecError};
use crate::gpu::limits::GpuLimits;
use crate::gpu::recording::Plan;
use crate::tensor::{Dtype, HostTensor, Random, TensorDesc, TensorDescs};

/// How an operator's kernels cut the work. Displayed, JSON that reads back.
pub trait Tiles:
    Copy + Debug + Display + Eq + Hash + Send + Sync + Serialize + DeserializeOwned + 'static
{
    /// The tiles in a word, for tables.
    fn label(&self) -> String {
        self.to_string()
    }
}

/// Where a call's tiles come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum TilesFrom {
    /// The caller named them.
    Forced,
    /// They were measured or imported.
    Stored,
    /// The first candidate.
    Heuristic,
}

/// What a caller wishes. Asked of tensors, it is a checked problem.
pub trait Spec: Clone + Eq + Hash + Send + Sync + 'static {
    /// The checked problem.
    type Problem: Operator;

    /// Checks the wish against the tensors it is asked of.
    ///
    /// # Errors
    /// [`SpecError`] names what is wrong, what would be right and what was given.
    fn ask(&self, tensors: &TensorDescs) -> Result<Self::Problem, Error>;
}

/// What only this crate implements, since kernels run without bounds checks on what an operator says.
pub(crate) mod sealed {
    /// The operators of this crate.
    pub trait Sealed {}
}

/// A checked problem. Displayed, it is a command line that reproduces it. It is sealed: what it plans is proven here.
///
/// ```compile_fail,E0277
/// use tilewise::gpu::{limits::GpuLimits, recording::Plan};
/// use tilewise::{PlanError, attention::MergeTiles, operator::Operator, tensor::TensorDesc};
///
/// #[derive(Clone, Debug, PartialEq, Eq, Hash)]
/// struct Own;
/// impl std::fmt::Display for Own {
///     fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
///         f.write_str("own")
///     }
/// }
/// impl Operator for Own {
///     type Tiles = MergeTiles;
///     fn candidates(&self, _: &GpuLimits) -> Result<Vec<MergeTiles>, PlanError> {
///         Ok(Vec::new())
///     }
///     fn plan(&self, _: &GpuLimits, _: &MergeTiles) -> Result<Plan, PlanError> {
///         unimplemented!()
///     }
///     fn tensors(&self) -> Vec<(&str, TensorDesc)> {
///         Vec::new()
///     }
///     fn outputs(&self) -> Vec<&'static str> {
///         Vec::new()
///     }
/// }
/// ```
pub trait Operator:
    sealed::Sealed + Clone + Debug + Display + Eq + Hash + Send + Sync + 'static
{
    /// How its kernels cut the work.
    type Tiles: Tiles;

    /// Every tile set worth trying on a device, the heuristic's choice first; never empty.
    ///
    /// # Errors
    /// [`PlanError`] when no tile set fits the device.
    fn candidates(&self, limits: &GpuLimits) -> Result<Vec<Self::Tiles>, PlanError>;

    /// The launches that answer the problem with these tiles on a device with these limits.
    ///
    /// # Errors
    /// [`PlanError`] when the tiles or the tensors do not fit the device.
    fn plan(&self, limits: &GpuLimits, tiles: &Self::Tiles) -> Result<Plan, PlanError>;

    /// Every tensor by name, axes in the caller's order, outputs included.
    fn tensors(&self) -> Vec<(&str, TensorDesc)>;

    /// Names of the tensors that it writes.
    fn outputs(&self) -> Vec<&'static str>;

    /// Names that the operator knows tensors by, whether this problem has them or not. By default it knows none beside
    /// those that every problem has.
    fn known_names(&self) -> &'static [&'static str] {
        &[]
    }

    /// Refuses numbers of host tensors that mean nothing to it, such as lengths beyond what there is. Where only the device
    /// sees them, kernels stay within their tensors and the outputs of such a call are undefined. By default all is right.
    ///
    /// # Errors
    /// [`SpecError`] names the element, what would be right and what is there.
    fn check_values(&self, inputs: &BTreeMap<String, HostTensor>) -> Result<(), SpecError> {
        let _ = inputs;
        Ok(())
    }

    /// The problem that stands for all of its size: extents that change from call to call are [`rounded`], tensors
    /// lie without gaps. Problems with the same bucket take the same tuned tiles. By default each stands for itself.
    #[must_use]
    fn bucket(&self) -> Self {
        self.clone()
    }

    /// Inputs to measure with, by name, axes in the caller's order, without gaps: the same for the same seed. By default
    /// floats have mean 0 and variance 1, integers are 0 and booleans true; an operator whose tensors mean more, such
    /// as lengths or ids, says so here.
    fn sample(&self, seed: u64) -> BTreeMap<String, HostTensor> {
        let outputs = self.outputs();
        let inputs = self.tensors().into_iter().filter(|(name, _)| !outputs.contains(name));
        inputs.map(|(name, desc)| (name.to_owned(), noise(name, &desc, seed, 1.0))).collect()
    }
}

/// An extent as [`Operator::bucket`] takes it: the next power of two.
pub fn rounded(extent: u32) -> u32 {
    extent.checked_next_power_of_two().unwrap_or(extent)
}

/// A tensor without gaps whose floats have mean 0 and standard deviation `scale`; integers are 0, booleans true.
pub(crate) fn noise(name: &str, desc: &TensorDesc, seed: u64, scale: f64) -> HostTensor {
    let count = desc.layout.len() as usize;
    let values = match desc.dtype {
        Dtype::I32 => vec![0.0; count],
        Dtype::Bool => vec![1.0; count],
        _ => Random::of(seed, name).normals(count).into_iter().map(|x| x * scale).collect(),
    };
    HostTensor::from_f64(desc.dtype, desc.shape(), &values)
}

/// Writes the command line that asks `command` of a spec: what a problem is displayed as.
pub(crate) fn command_line(
    f: &mut fmt::Formatter<'_>,
    command: &str,
    op: &str,
    spec: &impl Serialize,
) -> fmt::Result {
    let mut json = serde_json::to_value(spec).map_err(|_| fmt::Error)?;
    json["op"] = op.into();
    write!(f, "tilewise {command} '{json}'")
}
