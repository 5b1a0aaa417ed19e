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
    // SAFETY: every index of our kernels is a sum of strides and indices that the plan proves to end inside the
    // binding (plan.rs and bind.rs or kernel.rs of each operator); ids that callers bring are checked where they are
    // read (moe/given.wgsl); every local index is bounded by constants, and every loop by constants or params. A
    // caller's WGSL gets here only if it has no loop and indexes nothing but its aux tensors, through accessors that
    // clamp (attention/snippet.rs); else the kernel carries no `Proven`. The tests run all kernels on NaN-poisoned
    // surroundings, and once with the checks on.
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
