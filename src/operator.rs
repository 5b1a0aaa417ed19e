//! What every operator is to the engine: a checked question that plans itself.

use std::fmt::{Debug, Display};
use std::hash::Hash;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::error::PlanError;
use crate::gpu::limits::GpuLimits;
use crate::gpu::recording::Plan;
use crate::tensor::TensorDesc;

/// A checked question. Displayed, it is a command line that reproduces it.
pub trait Operator: Clone + Debug + Display + Eq + Hash + Send + Sync + 'static {
    /// How its kernels cut the work.
    type Tiles: Copy + Debug + Display + Eq + Hash + Send + Sync + Serialize + DeserializeOwned;

    /// Every tile set worth trying on a device, the heuristic's choice first; never empty.
    ///
    /// # Errors
    /// [`PlanError`] when no tile set fits the device.
    fn candidates(&self, limits: &GpuLimits) -> Result<Vec<Self::Tiles>, PlanError>;

    /// The launches that answer the question with these tiles on a device with these limits.
    ///
    /// # Errors
    /// [`PlanError`] when the tiles or the tensors do not fit the device.
    fn plan(&self, limits: &GpuLimits, tiles: &Self::Tiles) -> Result<Plan, PlanError>;

    /// Every tensor by name, axes in the caller's order, outputs included.
    fn tensors(&self) -> Vec<(&str, TensorDesc)>;

    /// Names of the tensors that it writes.
    fn outputs(&self) -> Vec<&'static str>;
}
