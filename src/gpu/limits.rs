//! What a device offers, as plain numbers: plans are computed from these, without a device.

use serde::{Deserialize, Serialize};

use crate::error::PlanError;

/// Limits and features that plans depend on.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct GpuLimits {
    /// Workgroup memory, in bytes.
    pub workgroup_bytes: u32,
    /// Invocations a workgroup.
    pub workgroup_invocations: u32,
    /// Workgroups along one dimension of a dispatch.
    pub workgroups_per_dimension: u32,
    /// Storage buffers a kernel may bind.
    pub storage_buffers: u32,
    /// Bytes of one storage binding.
    pub storage_binding_bytes: u64,
    /// Bytes of one uniform binding.
    pub uniform_binding_bytes: u64,
    /// Bytes of one buffer.
    pub buffer_bytes: u64,
    /// Alignment of a storage binding's offset, in bytes.
    pub storage_alignment: u32,
    /// Alignment of a uniform binding's offset, in bytes.
    pub uniform_alignment: u32,
    /// Smallest and largest subgroup; `None` where kernels cannot use subgroups.
    pub subgroup: Option<SubgroupSizes>,
    /// Kernels may compute and keep f16 (`shader-f16`).
    #[serde(default)]
    pub f16: bool,
    /// Rows and columns of the cooperative matrices that kernels may use, f16 times f16 with sums in f32; `None` where
    /// the device has none, or they failed their check.
    #[serde(default)]
    pub matrix: Option<u32>,
    /// Whether products of four signed bytes are an instruction; without it they are written out, slower than floats.
    #[serde(default = "yes")]
    pub packed_dot: bool,
    /// Whether kernels run on a processor's own cores: candidates that stream come first there.
    pub is_cpu: bool,
}

const fn yes() -> bool {
    true
}

/// The sizes a subgroup may have on a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct SubgroupSizes {
    /// The smallest.
    pub least: u32,
    /// The largest.
    pub most: u32,
}

/// Processors of a GPU in the middle of what there is, which no limit tells, and invocations that keep one busy.
const GPU_PROCESSORS: u64 = 64;
const INVOCATIONS_A_PROCESSOR: u64 = 1024;
const CPU_WORKGROUPS: u64 = 16;

impl GpuLimits {
    /// Workgroups of so many invocations that keep the device busy: where a call has fewer, its sums may be split; with
    /// more, that only adds merging.
    pub(crate) fn filling_workgroups(&self, workgroup_size: u32) -> u64 {
        let resident = INVOCATIONS_A_PROCESSOR / u64::from(workgroup_size.max(1));
        if self.is_cpu { CPU_WORKGROUPS } else { GPU_PROCESSORS * resident.max(1) }
    }

    /// Whether the device has what every kernel may use. Bindings may be smaller: calls are cut to fit them, or refused by their
    /// plans.
    ///
    /// # Errors
    /// [`PlanError::Limit`] naming the first limit that is below [`GpuLimits::floor`], with both numbers.
    pub(crate) fn check_floor(&self) -> Result<(), PlanError> {
        let floor = Self::floor();
        for (limit, needed, available) in [
            (
                "bytes of workgroup memory (max_compute_workgroup_storage_size)",
                floor.workgroup_bytes.into(),
                self.workgroup_bytes.into(),
            ),
            (
                "invocations a workgroup (max_compute_invocations_per_workgroup)",
                floor.workgroup_invocations.into(),
                self.workgroup_invocations.into(),
            ),
            (
                "workgroups a dimension (max_compute_workgroups_per_dimension)",
                floor.workgroups_per_dimension.into(),
                self.workgroups_per_dimension.into(),
            ),
            (
                "storage buffers (max_storage_buffers_per_shader_stage)",
                floor.storage_buffers.into(),
                self.storage_buffers.into(),
            ),
            (
                "bytes of a uniform binding (max_uniform_buffer_binding_size)",
                floor.uniform_binding_bytes,
                self.uniform_binding_bytes,
            ),
            ("bytes of one buffer (max_buffer_size)", floor.buffer_bytes, self.buffer_bytes),
        ] {
            if available < needed {
                let what = "any kernel".to_owned();
                return Err(PlanError::Limit { what, limit, needed, available });
            }
        }
        Ok(())
    }

    /// WebGPU's default limits: what every device has at least.
    pub const fn floor() -> Self {
        Self {
            workgroup_bytes: 16 << 10,
            workgroup_invocations: 256,
            workgroups_per_dimension: 65_535,
            storage_buffers: 8,
            storage_binding_bytes: 128 << 20,
            uniform_binding_bytes: 64 << 10,
            buffer_bytes: 256 << 20,
            storage_alignment: 256,
            uniform_alignment: 256,
            subgroup: None,
            f16: false,
            matrix: None,
            packed_dot: true,
            is_cpu: false,
        }
    }
}
