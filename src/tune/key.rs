//! Under what a tuning is known.

use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::Xxh3;

use crate::cache::VERSION;
use crate::error::PlanError;
use crate::gpu::device::AdapterDescription;
use crate::operator::Operator;

/// Under what a tuning is known: the device, the kernels, and the problem's size class. Two problems with the same key
/// take the same tiles.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TuneKey {
    /// Name of the adapter.
    pub adapter: String,
    /// The API it is reached by, the driver and its version.
    pub driver: String,
    /// Version of this crate.
    pub version: String,
    /// Hash of the text of every candidate's kernels, as hexadecimal digits: a changed kernel is another key.
    pub kernels: String,
    /// The problem that stands for all of its size, [`Operator::bucket`], as text.
    pub problem: String,
}

impl TuneKey {
    /// The key of a problem, whose `bucket` is given, on a device.
    ///
    /// # Errors
    /// [`PlanError`] when no tile set fits the device.
    pub(crate) fn of<O: Operator>(
        adapter: &AdapterDescription,
        bucket: &O,
    ) -> Result<Self, PlanError> {
        Ok(Self {
            adapter: adapter.name.clone(),
            driver: format!("{}, {}", adapter.backend, adapter.driver),
            version: VERSION.to_owned(),
            kernels: kernels_hash(adapter, bucket)?,
            problem: bucket.to_string(),
        })
    }
}

/// The hash of every candidate's tiles and kernels. The algorithm is XXH3, whose results do not change.
fn kernels_hash<O: Operator>(
    adapter: &AdapterDescription,
    bucket: &O,
) -> Result<String, PlanError> {
    let mut hash = Xxh3::new();
    for tiles in bucket.candidates(&adapter.limits)? {
        hash.update(tiles.to_string().as_bytes());
        // One that cannot be planned at this size counts by its numbers alone.
        let Ok(plan) = bucket.plan(&adapter.limits, &tiles) else { continue };
        for step in &plan.steps {
            hash.update(step.shader.entry.as_bytes());
            hash.update(&step.shader.workgroup_size.to_le_bytes());
            hash.update(&[u8::from(step.shader.is_checked())]);
            for part in &step.shader.parts {
                hash.update(part.text.as_bytes());
            }
        }
    }
    Ok(format!("{:016x}", hash.digest()))
}
