//! Adapters and devices: which there are, which to take, what they offer.

use serde::Serialize;

use super::limits::{GpuLimits, SubgroupSizes};
use crate::error::GpuError;

/// Which adapter to take.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum AdapterChoice {
    /// A discrete GPU before an integrated one before software. A browser is asked for `high-performance`.
    #[default]
    HighPerformance,
    /// An integrated GPU before a discrete one before software. A browser is asked for `low-power`.
    LowPower,
    /// The adapter of this index in [`adapters`].
    Index(usize),
    /// The first adapter whose name contains this, letter case aside.
    Name(String),
}

impl std::str::FromStr for AdapterChoice {
    type Err = std::convert::Infallible;

    /// A number is an index, anything else a name.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Ok(text.parse().map_or_else(|_| Self::Name(text.to_owned()), Self::Index))
    }
}

/// An adapter, described.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct AdapterDescription {
    /// Its name. A browser tells none: there it is what the device says of vendor, architecture, device and
    /// description, and nothing before a device is opened.
    pub name: String,
    /// `discrete gpu`, `integrated gpu`, `virtual gpu`, `software` or `other`.
    pub kind: &'static str,
    /// The API it is reached by.
    pub backend: String,
    /// The driver and its version.
    pub driver: String,
    /// What kernels may use of it.
    pub limits: GpuLimits,
    /// Names of wgpu's features that kernels can profit from and that it has.
    pub features: Vec<&'static str>,
}

impl AdapterDescription {
    /// Whether kernels run on processor cores: its timings say nothing about GPUs.
    pub fn is_software(&self) -> bool {
        self.limits.is_cpu
    }
}

/// Features that are asked for where an adapter has them.
const FEATURES: [(wgpu::Features, &str); 4] = [
    (wgpu::Features::SUBGROUP, "subgroups"),
    (wgpu::Features::SHADER_F16, "shader f16"),
    (wgpu::Features::TIMESTAMP_QUERY, "timestamps"),
    (wgpu::Features::PIPELINE_CACHE, "pipeline cache"),
];

fn instance() -> wgpu::Instance {
    let mut descriptor = wgpu::InstanceDescriptor::new_without_display_handle();
    // Validation layers of a debug build cost minutes over a test run; they are a request by environment, as in wgpu.
    descriptor.flags = wgpu::InstanceFlags::empty().with_env();
    #[cfg(all(unix, not(target_vendor = "apple")))]
    if let Some(instance) = windowless(&descriptor) {
        return instance;
    }
    wgpu::Instance::new(descriptor)
}

/// An instance without the extensions of window systems, which nothing is ever shown in; `None` where Vulkan is missing.
/// Mesa's layer that picks devices asks the window systems whose extensions it sees, and libwayland writes to stderr in
/// every process without a desktop.
#[cfg(all(unix, not(target_vendor = "apple")))]
#[allow(unsafe_code, reason = "wgpu asks for a promise, see SAFETY")]
fn windowless(descriptor: &wgpu::InstanceDescriptor) -> Option<wgpu::Instance> {
    let descriptor = wgpu::hal::InstanceDescriptor {
        name: "tilewise",
        flags: descriptor.flags,
        memory_budget_thresholds: descriptor.memory_budget_thresholds,
        backend_options: descriptor.backend_options.clone(),
        telemetry: None,
        display: None,
    };
    let windows = [
        c"VK_KHR_wayland_surface",
        c"VK_KHR_xcb_surface",
        c"VK_KHR_xlib_surface",
        c"VK_EXT_acquire_drm_display",
    ];
    let without: Box<wgpu::hal::vulkan::CreateInstanceCallback<'_>> =
        Box::new(|instance| instance.extensions.retain(|name| !windows.contains(name)));
    // SAFETY: the extensions are taken off a list from which wgpu takes them itself where a system has none of them; it
    // looks for each before it calls it, and only to make a surface, which nobody can ask of this instance.
    let made =
        unsafe { wgpu::hal::vulkan::Instance::init_with_callback(&descriptor, Some(without)) };
    // SAFETY: the instance is a new one of wgpu's own, and used by nothing else.
    Some(unsafe { wgpu::Instance::from_hal::<wgpu::hal::api::Vulkan>(made.ok()?) })
}

/// The adapters of this machine, GPUs first.
pub async fn adapters() -> Vec<AdapterDescription> {
    sorted_adapters(&AdapterChoice::HighPerformance).await.iter().map(describe_adapter).collect()
}

/// The adapters of this machine, those wished for first.
#[cfg(not(target_arch = "wasm32"))]
async fn sorted_adapters(choice: &AdapterChoice) -> Vec<wgpu::Adapter> {
    let mut adapters = instance().enumerate_adapters(wgpu::Backends::all()).await;
    let low_power = *choice == AdapterChoice::LowPower;
    adapters.sort_by_key(|adapter| match adapter.get_info().device_type {
        wgpu::DeviceType::DiscreteGpu => u8::from(low_power),
        wgpu::DeviceType::IntegratedGpu => u8::from(!low_power),
        wgpu::DeviceType::VirtualGpu => 2,
        wgpu::DeviceType::Other => 3,
        wgpu::DeviceType::Cpu => 4,
    });
    adapters
}

/// The adapter that the browser has for a wish: it shows no other.
#[cfg(target_arch = "wasm32")]
async fn sorted_adapters(choice: &AdapterChoice) -> Vec<wgpu::Adapter> {
    let power_preference = match choice {
        AdapterChoice::LowPower => wgpu::PowerPreference::LowPower,
        AdapterChoice::HighPerformance => wgpu::PowerPreference::HighPerformance,
        AdapterChoice::Index(_) | AdapterChoice::Name(_) => wgpu::PowerPreference::None,
    };
    let options =
        wgpu::RequestAdapterOptions { power_preference, ..wgpu::RequestAdapterOptions::default() };
    instance().request_adapter(&options).await.into_iter().collect()
}

fn describe_adapter(adapter: &wgpu::Adapter) -> AdapterDescription {
    describe(&adapter.get_info(), &adapter.limits(), adapter.features(), offered_matrix(adapter))
}

/// What a device in use offers.
pub(crate) fn describe_device(device: &wgpu::Device, matrix: Option<u32>) -> AdapterDescription {
    let (limits, features) = (device.limits(), device.features());
    let described = describe(&device.adapter_info(), &limits, features, matrix);
    #[cfg(target_arch = "wasm32")]
    let described = AdapterDescription { name: name_in_browser(device), ..described };
    described
}

/// What a browser tells of a device: vendor, architecture, device, description, each of which may be empty.
#[cfg(target_arch = "wasm32")]
fn name_in_browser(device: &wgpu::Device) -> String {
    let Some(device) = device.as_webgpu() else { return String::new() };
    let info = device.adapter_info();
    let told = [info.vendor(), info.architecture(), info.device(), info.description()];
    let told: Vec<&str> = told.iter().map(|part| part.trim()).filter(|it| !it.is_empty()).collect();
    told.join(", ")
}

/// Rows and columns of the cooperative matrices that an adapter offers, f16 times f16 with sums in f32.
pub(crate) fn offered_matrix(adapter: &wgpu::Adapter) -> Option<u32> {
    let needed = wgpu::Features::EXPERIMENTAL_COOPERATIVE_MATRIX
        | wgpu::Features::SHADER_F16
        | wgpu::Features::SUBGROUP;
    // Mesa's processor driver offers matrices for its subgroups of 4 too, and then refuses the device.
    if !adapter.features().contains(needed) || adapter.get_info().subgroup_min_size < 8 {
        return None;
    }
    let offered = adapter.cooperative_matrix_properties();
    let has = |size: &u32| {
        offered.iter().any(|one| {
            [one.m_size, one.n_size, one.k_size] == [*size; 3]
                && one.ab_type == wgpu::CooperativeScalarType::F16
                && one.cr_type == wgpu::CooperativeScalarType::F32
        })
    };
    [16, 8].into_iter().find(has)
}

/// wgpu's experimental features may be used, of which one is: matrices.
#[allow(unsafe_code, reason = "wgpu asks for a promise, see SAFETY")]
fn experimental() -> wgpu::ExperimentalFeatures {
    // SAFETY: wgpu asks for two promises.
    // 1. To know that what is experimental may have bugs, undefined behaviour among them. Of all that, kernels use
    //    matrices alone, where the app did not turn them off (`Matrices::Off`), and, unless it told otherwise
    //    (`Matrices::Assumed`), on devices that multiply two rightly (fused/matrix.rs). That finds wrong products; no
    //    more is proved.
    // 2. To report such bugs to wgpu: whoever maintains this crate does.
    unsafe { wgpu::ExperimentalFeatures::enabled() }
}

/// What a device or adapter offers.
fn describe(
    info: &wgpu::AdapterInfo,
    limits: &wgpu::Limits,
    features: wgpu::Features,
    matrix: Option<u32>,
) -> AdapterDescription {
    let kind = match info.device_type {
        wgpu::DeviceType::DiscreteGpu => "discrete gpu",
        wgpu::DeviceType::IntegratedGpu => "integrated gpu",
        wgpu::DeviceType::VirtualGpu => "virtual gpu",
        wgpu::DeviceType::Cpu => "software",
        wgpu::DeviceType::Other => "other",
    };
    let subgroup = features
        .contains(wgpu::Features::SUBGROUP)
        .then_some(SubgroupSizes { least: info.subgroup_min_size, most: info.subgroup_max_size });
    AdapterDescription {
        name: info.name.clone(),
        kind,
        backend: info.backend.to_string(),
        driver: format!("{} {}", info.driver, info.driver_info).trim().to_owned(),
        features: FEATURES
            .into_iter()
            .filter(|(feature, _)| features.contains(*feature))
            .map(|(_, name)| name)
            .collect(),
        limits: GpuLimits {
            workgroup_bytes: limits.max_compute_workgroup_storage_size,
            workgroup_invocations: limits
                .max_compute_invocations_per_workgroup
                .min(limits.max_compute_workgroup_size_x),
            workgroups_per_dimension: limits.max_compute_workgroups_per_dimension,
            storage_buffers: limits.max_storage_buffers_per_shader_stage,
            // Kernels find words and bytes by u32.
            storage_binding_bytes: limits
                .max_storage_buffer_binding_size
                .min(u64::from(u32::MAX - 3)),
            uniform_binding_bytes: limits.max_uniform_buffer_binding_size,
            buffer_bytes: limits.max_buffer_size,
            storage_alignment: limits.min_storage_buffer_offset_alignment,
            uniform_alignment: limits.min_uniform_buffer_offset_alignment,
            subgroup,
            f16: features.contains(wgpu::Features::SHADER_F16),
            matrix,
            packed_dot: info.backend != wgpu::Backend::Metal, // its language has none
            is_cpu: info.device_type == wgpu::DeviceType::Cpu,
        },
    }
}

/// A device, its queue, and the size of the matrices that it was asked to have.
pub(crate) type Opened = (wgpu::Device, wgpu::Queue, Option<u32>);

/// Opens a device with all that the adapter has of what kernels use, `matrices` only if asked for, or, at the `floor`,
/// with WebGPU's defaults alone.
pub(crate) async fn open(
    choice: &AdapterChoice,
    floor: bool,
    matrices: bool,
) -> Result<Opened, GpuError> {
    let adapters = sorted_adapters(choice).await;
    let names: Vec<String> = adapters.iter().map(|adapter| adapter.get_info().name).collect();
    let (index, wanted) = match choice {
        AdapterChoice::HighPerformance | AdapterChoice::LowPower => (0, "at all".to_owned()),
        AdapterChoice::Index(index) => (*index, format!("of index {index}")),
        AdapterChoice::Name(part) => {
            let fits = |name: &String| name.to_lowercase().contains(&part.to_lowercase());
            (names.iter().position(fits).unwrap_or(usize::MAX), format!("named {part}"))
        }
    };
    let Some(adapter) = adapters.get(index) else {
        return Err(GpuError::NoAdapter { wanted, found: names });
    };
    let matrix = if matrices && !floor { offered_matrix(adapter) } else { None };
    let mut wished = FEATURES.iter().fold(wgpu::Features::empty(), |all, (one, _)| all | *one);
    if matrix.is_some() {
        wished |= wgpu::Features::EXPERIMENTAL_COOPERATIVE_MATRIX;
    }
    let descriptor = wgpu::DeviceDescriptor {
        label: Some("tilewise"),
        required_features: if floor {
            wgpu::Features::empty()
        } else {
            adapter.features() & wished
        },
        required_limits: if floor { wgpu::Limits::defaults() } else { adapter.limits() },
        experimental_features: if matrix.is_some() {
            experimental()
        } else {
            wgpu::ExperimentalFeatures::disabled()
        },
        ..wgpu::DeviceDescriptor::default()
    };
    let opened = adapter.request_device(&descriptor).await;
    let (device, queue) = opened.map_err(|error| GpuError::NoDevice {
        adapter: names[index].clone(),
        message: error.to_string(),
    })?;
    Ok((device, queue, matrix))
}
