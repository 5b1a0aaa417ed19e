//! candle's attention and matmul on the processor.

use std::cell::RefCell;

use candle_core::{Device, Tensor};
use candle_nn::attention::{AttnMask, flash_attn};
use tilewise::tensor::HostTensor;

use crate::contest::{Call, Failure, Tensors};

struct Run<F> {
    call: F,
    last: RefCell<Option<Tensor>>,
}

fn tensor(host: &HostTensor) -> Result<Tensor, Failure> {
    let values: Vec<f32> = host.to_f64().into_iter().map(|value| value as f32).collect();
    let shape: Vec<usize> = host.shape.iter().map(|&extent| extent as usize).collect();
    Ok(Tensor::from_vec(values, shape, &Device::Cpu)?)
}

fn run<F>(call: F) -> Result<Box<dyn Call>, Failure>
where
    F: Fn() -> candle_core::Result<Tensor> + 'static,
{
    Ok(Box::new(Run { call, last: RefCell::new(None) }))
}

/// Attention by matmuls and a softmax: scores are stored.
pub fn unfused(tensors: &Tensors) -> Result<Box<dyn Call>, Failure> {
    let [q, k, v] = ["q", "k", "v"].map(|name| tensor(&tensors[name]));
    let (q, k, v) = (q?, k?.t()?.contiguous()?, v?);
    let scale = (q.dim(3)? as f64).powf(-0.5);
    run(move || candle_nn::ops::softmax_last_dim(&(q.matmul(&k)? * scale)?)?.matmul(&v))
}

/// Its fused attention.
pub fn fused(tensors: &Tensors, causal: bool) -> Result<Box<dyn Call>, Failure> {
    // It wants heads last.
    let heads_last = |name: &str| -> Result<Tensor, Failure> {
        Ok(tensor(&tensors[name])?.transpose(1, 2)?.contiguous()?)
    };
    let (q, k, v) = (heads_last("q")?, heads_last("k")?, heads_last("v")?);
    let scale = (q.dim(3)? as f32).powf(-0.5);
    let offset = k.dim(1)? - q.dim(1)?;
    run(move || {
        let mask = if causal { AttnMask::causal_with_offset(offset) } else { AttnMask::None };
        flash_attn::<f32>(&q, &k, &v, scale, mask, None, None)
    })
}

/// `x · wᵀ`.
pub fn dense(tensors: &Tensors) -> Result<Box<dyn Call>, Failure> {
    let (x, w) = (tensor(&tensors["x"])?, tensor(&tensors["w"])?.t()?);
    run(move || x.matmul(&w))
}

impl<F: Fn() -> candle_core::Result<Tensor>> Call for Run<F> {
    fn run(&self, times: u32) -> Result<(), Failure> {
        for _ in 0..times {
            self.last.replace(Some((self.call)()?));
        }
        Ok(())
    }

    fn output(&self) -> Result<Vec<f32>, Failure> {
        let last = self.last.borrow();
        Ok(last.as_ref().ok_or("not run yet")?.flatten_all()?.to_vec1()?)
    }
}
