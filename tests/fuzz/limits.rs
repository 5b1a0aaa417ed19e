//! Devices: usual ones, strange ones, and some that fall short of WebGPU's floor.

use tilewise::gpu::limits::{GpuLimits, SubgroupSizes};

use crate::draw::Draw;

fn desktop() -> GpuLimits {
    GpuLimits {
        workgroup_bytes: 48 << 10,
        workgroup_invocations: 1024,
        storage_buffers: 32,
        storage_binding_bytes: (1 << 32) - 4,
        buffer_bytes: 1 << 34,
        storage_alignment: 32,
        uniform_alignment: 64,
        subgroup: Some(SubgroupSizes { least: 32, most: 32 }),
        f16: true,
        matrix: Some(16),
        ..GpuLimits::floor()
    }
}

fn processor(least: u32, most: u32) -> GpuLimits {
    GpuLimits {
        workgroup_bytes: 32 << 10,
        workgroup_invocations: 1024,
        storage_binding_bytes: 128 << 20,
        buffer_bytes: 1 << 31,
        storage_alignment: 16,
        uniform_alignment: 16,
        subgroup: Some(SubgroupSizes { least, most }),
        is_cpu: true,
        ..GpuLimits::floor()
    }
}

/// Less than any device has.
fn tiny(draw: &mut Draw<'_>) -> GpuLimits {
    GpuLimits {
        workgroup_bytes: draw.pick(&[0, 64, 1 << 10, 4 << 10, 16 << 10]),
        workgroup_invocations: draw.pick(&[0, 1, 7, 16, 64, 256]),
        workgroups_per_dimension: draw.pick(&[0, 1, 7, 300, 65_535, u32::MAX]),
        storage_buffers: draw.pick(&[0, 1, 3, 4, 5, 8]),
        storage_binding_bytes: draw.pick(&[0, 16, 260, 4096, 1 << 20, 1 << 27, (1 << 32) - 4]),
        uniform_binding_bytes: draw.pick(&[0, 64, 256, 64 << 10]),
        buffer_bytes: draw.pick(&[0, 4096, 1 << 20, 1 << 28, u64::MAX]),
        storage_alignment: draw.pick(&[0, 1, 16, 48, 256, 1 << 20]),
        uniform_alignment: draw.pick(&[0, 1, 16, 48, 256, 1 << 20]),
        subgroup: strange_subgroups(draw),
        is_cpu: draw.once_in(2),
        ..GpuLimits::floor()
    }
}

/// Bindings so small that calls are cut.
fn small_bindings(draw: &mut Draw<'_>) -> GpuLimits {
    let storage_binding_bytes = draw.pick(&[300, 1000, 2048, 4096, 10_000, 40_000]);
    match draw.below(3) {
        0 => GpuLimits { storage_binding_bytes, ..GpuLimits::floor() },
        1 => GpuLimits { storage_binding_bytes, storage_alignment: 16, ..desktop() },
        _ => GpuLimits { storage_binding_bytes, ..processor(8, 8) },
    }
}

fn strange_subgroups(draw: &mut Draw<'_>) -> Option<SubgroupSizes> {
    let sizes = [0, 1, 2, 3, 4, 6, 8, 12, 16, 32, 48, 64, 128, 4096];
    let (least, most) = (draw.pick(&sizes), draw.pick(&sizes));
    (!draw.once_in(4)).then_some(SubgroupSizes { least, most })
}

pub fn limits(draw: &mut Draw<'_>) -> GpuLimits {
    match draw.below(9) {
        0 | 1 => GpuLimits::floor(),
        8 => small_bindings(draw),
        2 => desktop(),
        3 => GpuLimits { matrix: Some(8), storage_binding_bytes: 1 << 20, ..desktop() },
        4 => processor(8, 8),
        5 => processor(draw.pick(&[1, 4, 6, 8]), draw.pick(&[4, 6, 8, 12, 64])),
        6 => GpuLimits { subgroup: strange_subgroups(draw), ..desktop() },
        _ => tiny(draw),
    }
}
