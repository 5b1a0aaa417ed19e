//! Burn's attention and matmul on wgpu.

use std::cell::RefCell;

use burn_backend::ops::{AttentionModuleOptions, FloatTensorOps};
use burn_backend::{Backend, DType, TensorData};
use burn_cubecl::cubecl::device::{WgpuDevice, WgpuDeviceKind};
use burn_cubecl::kernel::attention::{AttentionStrategy, attention};
use burn_cubecl::kernel::matmul::{MatmulStrategy, matmul};
use burn_cubecl::ops::into_data_sync;
use burn_cubecl::tensor::CubeTensor;
use burn_cubecl::{CubeBackend, CubeDevice};
use tilewise::tensor::HostTensor;

use crate::contest::{Call, Failure, Tensors};

/// Which of Burn's attentions.
#[derive(Clone, Copy)]
pub enum Fused {
    /// The fused kernel that needs no matrix instructions.
    Unit,
    /// What Burn's own tuner takes.
    Tuned,
}

struct Run<F> {
    device: CubeDevice,
    call: F,
    last: RefCell<Option<CubeTensor>>,
}

fn device(software: bool) -> CubeDevice {
    let kind = if software { WgpuDeviceKind::Cpu } else { WgpuDeviceKind::DefaultDevice };
    CubeDevice::Wgpu(WgpuDevice::new(kind))
}

fn upload(tensor: &HostTensor, device: &CubeDevice) -> CubeTensor {
    let values: Vec<f32> = tensor.to_f64().into_iter().map(|value| value as f32).collect();
    let shape: Vec<usize> = tensor.shape.iter().map(|&extent| extent as usize).collect();
    CubeBackend::float_from_data(TensorData::new(values, shape), device)
}

/// Attention of q, k, v `[batch, heads, seq, dim]`, f32, as many key heads as query heads.
pub fn fused(
    tensors: &Tensors,
    causal: bool,
    which: Fused,
    software: bool,
) -> Result<Box<dyn Call>, Failure> {
    let device = device(software);
    let [q, k, v] = ["q", "k", "v"].map(|name| upload(&tensors[name], &device));
    let options = AttentionModuleOptions { scale: None, softcap: None, is_causal: causal };
    let call = move || {
        let strategy = match which {
            Fused::Unit => AttentionStrategy::FlashUnit,
            Fused::Tuned => AttentionStrategy::Autotune,
        };
        attention(q.clone(), k.clone(), v.clone(), None, None, options, strategy)
            .map_err(|failure| format!("{failure:?}").into())
    };
    Ok(Box::new(Run { device, call, last: RefCell::new(None) }))
}

/// `x · wᵀ` by the kernel that Burn's own tuner takes.
pub fn dense(tensors: &Tensors, software: bool) -> Result<Box<dyn Call>, Failure> {
    let device = device(software);
    let [x, w] = ["x", "w"].map(|name| upload(&tensors[name], &device));
    let w = CubeBackend::float_transpose(w);
    let call = move || {
        matmul(x.clone(), w.clone(), None, MatmulStrategy::Autotune, DType::F32)
            .map_err(|failure| format!("{failure:?}").into())
    };
    Ok(Box::new(Run { device, call, last: RefCell::new(None) }))
}

impl<F: Fn() -> Result<CubeTensor, Failure>> Call for Run<F> {
    fn run(&self, times: u32) -> Result<(), Failure> {
        for _ in 0..times {
            self.last.replace(Some((self.call)()?));
        }
        CubeBackend::sync(&self.device).map_err(|failure| format!("{failure:?}").into())
    }

    fn output(&self) -> Result<Vec<f32>, Failure> {
        let last = self.last.borrow().clone().ok_or("not run yet")?;
        into_data_sync(last).try_to_vec::<f32>().map_err(|failure| format!("{failure:?}").into())
    }
}
