//! Kernels that fused neighborhood attention is compared with: a naive one, which nobody should use, and one that only
//! copies q to out, which none can be faster than.

use std::collections::BTreeMap;

use tilewise::tensor::{Dtype, HostTensor};
use tilewise::{Engine, Error};

/// What the kernel is written for: one batch, f32, as many heads of queries as of keys, one or two axes.
pub struct Shape<'a> {
    pub spatial: &'a [u64],
    pub window: &'a [u32],
    pub stride: &'a [u32],
    pub heads: u64,
    pub head_dim: u64,
}

/// Which kernel.
#[derive(Clone, Copy)]
pub enum Entry {
    /// An invocation owns a query and walks its window.
    Naive,
    /// Reads q and writes out, rows of a workgroup as many as in the fused kernels' usual tile.
    Copy,
}

impl Entry {
    const fn name(self) -> &'static str {
        match self {
            Self::Naive => "neighborhood_naive",
            Self::Copy => "queries_copied",
        }
    }

    /// Inputs, each with its binding; out follows at 3.
    const fn inputs(self) -> &'static [(u32, &'static str)] {
        match self {
            Self::Naive => &[(0, "q"), (1, "k"), (2, "v")],
            Self::Copy => &[(0, "q")],
        }
    }
}

/// A kernel with buffers of its own.
pub struct Naive {
    engine: Engine,
    pipeline: wgpu::ComputePipeline,
    bound: wgpu::BindGroup,
    out: wgpu::Buffer,
    bytes: u64,
    workgroups: u32,
}

impl Naive {
    pub fn new(
        engine: &Engine,
        shape: &Shape<'_>,
        entry: Entry,
        inputs: &BTreeMap<String, HostTensor>,
    ) -> Result<Self, Error> {
        let (device, pipeline) = (engine.device(), pipeline(engine, shape, entry));
        let invocations = shape.spatial.iter().product::<u64>() * shape.heads;
        let bytes = invocations * shape.head_dim * Dtype::F32.bytes();
        let nan = vec![0xff; bytes as usize];
        let nan = HostTensor { dtype: Dtype::F32, shape: Vec::new(), bytes: nan };
        let mut buffers = Vec::new();
        for (binding, name) in entry.inputs() {
            buffers.push((*binding, engine.upload(name, &inputs[*name])?));
        }
        let out = engine.upload("out", &nan)?;
        buffers.push((3, out.clone()));
        let entries: Vec<_> = buffers
            .iter()
            .map(|(binding, buffer)| wgpu::BindGroupEntry {
                binding: *binding,
                resource: buffer.as_entire_binding(),
            })
            .collect();
        let bound = device.create_bind_group(&wgpu::BindGroupDescriptor {
            label: None,
            layout: &pipeline.get_bind_group_layout(0),
            entries: &entries,
        });
        let workgroups = invocations.div_ceil(64) as u32;
        Ok(Self { engine: engine.clone(), pipeline, bound, out, bytes, workgroups })
    }

    /// Runs it so many times in one submission, and waits.
    pub fn run(&self, times: u32) -> Result<(), Error> {
        let mut encoder = self.engine.device().create_command_encoder(&Default::default());
        for _ in 0..times {
            let mut pass = encoder.begin_compute_pass(&Default::default());
            pass.set_pipeline(&self.pipeline);
            pass.set_bind_group(0, &self.bound, &[]);
            pass.dispatch_workgroups(self.workgroups, 1, 1);
        }
        self.engine.queue().submit([encoder.finish()]);
        Ok(self.engine.wait()?)
    }

    pub fn out(&self) -> Result<Vec<f64>, Error> {
        let bytes = self.engine.download(&self.out, ..self.bytes)?;
        let shape = vec![self.bytes / Dtype::F32.bytes()];
        Ok(HostTensor { dtype: Dtype::F32, shape, bytes }.to_f64())
    }
}

/// The pipeline alone.
pub fn pipeline(engine: &Engine, shape: &Shape<'_>, entry: Entry) -> wgpu::ComputePipeline {
    let device = engine.device();
    let module = wgpu::ShaderModuleDescriptor {
        label: Some(entry.name()),
        source: wgpu::ShaderSource::Wgsl(text(shape).into()),
    };
    // SAFETY: a query's window lies within the image and the image within the buffers, and all loops end. It runs
    // unchecked as the fused kernels do.
    let checks = wgpu::ShaderRuntimeChecks::unchecked();
    let module = unsafe { device.create_shader_module_trusted(module, checks) };
    device.create_compute_pipeline(&wgpu::ComputePipelineDescriptor {
        label: Some(entry.name()),
        layout: None,
        module: &module,
        entry_point: Some(entry.name()),
        compilation_options: wgpu::PipelineCompilationOptions {
            zero_initialize_workgroup_memory: false,
            ..Default::default()
        },
        cache: None,
    })
}

fn text(shape: &Shape<'_>) -> String {
    let [height, width] = match *shape.spatial {
        [width] => [1, width],
        [height, width] => [height, width],
        _ => unreachable!("the bench asks for one or two axes"),
    };
    let pair = |sides: &[u32]| match *sides {
        [x] => format!("vec2(1u, {x}u)"),
        ref sides => format!("vec2({}u, {}u)", sides[0], sides[1]),
    };
    let scale = 1.0 / (shape.head_dim as f32).sqrt();
    format!(
        "const HEIGHT: u32 = {height}u;\nconst WIDTH: u32 = {width}u;\nconst HEADS: u32 = {}u;\nconst VECS: u32 = {}u;\n\
         const WINDOW: vec2<u32> = {};\nconst STRIDE: vec2<u32> = {};\nconst SCALE: f32 = {scale:?}f;\n{}",
        shape.heads,
        shape.head_dim / 4,
        pair(shape.window),
        pair(shape.stride),
        include_str!("naive.wgsl"),
    )
}
