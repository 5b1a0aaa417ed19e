//! From a kernel's text to a pipeline.

use super::shader::Shader;
use crate::error::GpuError;

/// A compiled kernel.
#[derive(Debug)]
pub(crate) struct Pipeline {
    pub pipeline: wgpu::ComputePipeline,
    pub layout: wgpu::BindGroupLayout,
}

/// Compiles a kernel; `checked` turns every runtime check on whatever the kernel says.
pub(crate) async fn compile(
    device: &wgpu::Device,
    shader: &Shader,
    checked: bool,
    cache: Option<&wgpu::PipelineCache>,
) -> Result<Pipeline, GpuError> {
    let scope = device.push_error_scope(wgpu::ErrorFilter::Validation);
    let memory = device.push_error_scope(wgpu::ErrorFilter::OutOfMemory);
    let internal = device.push_error_scope(wgpu::ErrorFilter::Internal);
    let module = create_module(device, shader, checked || shader.is_checked());
    let pipeline = create_pipeline(device, shader, &module, cache);
    // Scopes are popped at once, in reverse, before any of them is waited for.
    let (internal, memory, scope) = (internal.pop(), memory.pop(), scope.pop());
    if memory.await.is_some() {
        return Err(GpuError::OutOfMemory { what: format!("kernel {}", shader.entry), bytes: 0 });
    }
    match (scope.await, internal.await) {
        (None, None) => Ok(pipeline),
        (Some(error), _) | (None, Some(error)) => Err(located(shader, &module, &error).await),
    }
}

fn create_pipeline(
    device: &wgpu::Device,
    shader: &Shader,
    module: &wgpu::ShaderModule,
    cache: Option<&wgpu::PipelineCache>,
) -> Pipeline {
    let entry = |binding: usize, ty| wgpu::BindGroupLayoutEntry {
        binding: binding as u32,
        visibility: wgpu::ShaderStages::COMPUTE,
        ty: wgpu::BindingType::Buffer { ty, has_dynamic_offset: false, min_binding_size: None },
        count: None,
    };
    let mut entries = vec![entry(0, wgpu::BufferBindingType::Uniform)];
    entries.extend(shader.bindings.iter().enumerate().map(|(index, declared)| {
        entry(index + 1, wgpu::BufferBindingType::Storage { read_only: !declared.writes })
    }));
    let layout = device.create_bind_group_layout(&wgpu::BindGroupLayoutDescriptor {
        label: Some(shader.entry),
        entries: &entries,
    });
    let pipeline_layout = device.create_pipeline_layout(&wgpu::PipelineLayoutDescriptor {
        label: Some(shader.entry),
        bind_group_layouts: &[Some(&layout)],
        immediate_size: 0,
    });
    let pipeline = device.create_compute_pipeline(&wgpu::ComputePipelineDescriptor {
        label: Some(shader.entry),
        layout: Some(&pipeline_layout),
        module,
        entry_point: Some(shader.entry),
        // Kernels write workgroup memory before they read it.
        compilation_options: wgpu::PipelineCompilationOptions {
            zero_initialize_workgroup_memory: false,
            ..wgpu::PipelineCompilationOptions::default()
        },
        cache,
    });
    Pipeline { pipeline, layout }
}

/// The one door by which shaders reach wgpu.
#[allow(unsafe_code, reason = "our own kernels run without bounds checks, see SAFETY")]
fn create_module(device: &wgpu::Device, shader: &Shader, checked: bool) -> wgpu::ShaderModule {
    let descriptor = wgpu::ShaderModuleDescriptor {
        label: Some(shader.entry),
        source: wgpu::ShaderSource::Wgsl(shader.text().into()),
    };
    if checked {
        return device.create_shader_module(descriptor);
    }
    // SAFETY: without its checks wgpu asks that a kernel stays within its bindings and variables, and ends. No machine
    // proves it; the tests run every kernel amid poison, and once with the checks on. It rests on this:
    // 1. Places in tensors and scratch are sums of strides and indices. The plan of each operator sees to it that they end
    //    within what it binds, `Plan::fitting` that a device takes it, and `Prepared` binds no buffer that has fewer bytes
    //    than the problem's tensor.
    // 2. Indices and lengths that come as data are cut to what there is by the kernel that reads them: ids of experts
    //    (moe/given.wgsl), pages (fused/keys_paged.wgsl), lengths and begins of sequences (attention/kernel/addressing.rs).
    // 3. Indices of a kernel's own arrays, and its loops, are bounded by constants, by params, or by what 2. cuts.
    // 4. A caller's WGSL comes here only if it has no loop and no index but constants and those into its aux tensors,
    //    which accessors cut (kernel/extra.rs). Else the kernel carries no `Proven` (snippet/check.rs).
    // 5. Only this crate makes a `Proven`, a `Shader`, a `Plan` or an `Operator`, and what they are made of is closed.
    unsafe {
        device.create_shader_module_trusted(descriptor, wgpu::ShaderRuntimeChecks::unchecked())
    }
}

/// The compiler's message with the fragment's file and line.
async fn located(shader: &Shader, module: &wgpu::ShaderModule, error: &wgpu::Error) -> GpuError {
    let info = module.get_compilation_info().await;
    for message in info.messages {
        if let Some(at) = message.location {
            let (file, line) = shader.locate(at.line_number);
            return GpuError::Shader { file: file.to_owned(), line, message: message.message };
        }
    }
    GpuError::Shader { file: shader.entry.to_owned(), line: 0, message: error.to_string() }
}
