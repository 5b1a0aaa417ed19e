//! Weights as tensors: the shapes that each format has, what is wrong with others, and their numbers on the CPU.

use crate::error::SpecError;
use crate::operator;
#[cfg(feature = "reference")]
use crate::tensor::dequantise_mxfp4_pair;
use crate::tensor::{
    ActivationFormat, BLOCK, BlockFormat, HostTensor, Random, TensorDesc, WeightFormat,
};

/// The tensor that holds the scales of `name`, where those are a tensor of their own.
pub(crate) fn scales_name(name: &str) -> String {
    format!("{name}_scales")
}

/// The tensors of weights `[.., inner]` in a format, by name and shape; `pair` where blocks and scales are two.
pub(crate) fn stored(
    format: WeightFormat,
    name: &str,
    shape: &[u64],
    pair: bool,
) -> Vec<(String, Vec<u64>)> {
    let (Some(blocks), Some((&inner, outer))) = (format.blocks(), shape.split_last()) else {
        return vec![(name.to_owned(), shape.to_vec())];
    };
    let count = inner / BLOCK as u64;
    if pair && blocks == BlockFormat::Mxfp4 {
        return vec![
            (name.to_owned(), [outer, &[count, 16]].concat()),
            (scales_name(name), [outer, &[count]].concat()),
        ];
    }
    vec![(name.to_owned(), [outer, &[count * blocks.bytes() as u64]].concat())]
}

/// Whole blocks fill a row.
pub(crate) fn check_inner(format: WeightFormat, field: &str, inner: u64) -> Result<(), SpecError> {
    if format.blocks().is_none() || inner.is_multiple_of(BLOCK as u64) {
        return Ok(());
    }
    let expected = format!("a multiple of {BLOCK} ({format} weights come in blocks of as many)");
    Err(SpecError::value(field, expected, inner))
}

/// Activations are rounded only for weights in blocks.
pub(crate) fn check_activations(
    activations: Option<ActivationFormat>,
    format: WeightFormat,
) -> Result<(), SpecError> {
    let (Some(rounded), None) = (activations, format.blocks()) else { return Ok(()) };
    let expected = format!("none ({format} weights are not in blocks)");
    Err(SpecError::value("quantise_activations", expected, rounded))
}

/// Blocks lie where kernels can read them: an f16 scale at an even byte; of a pair of tensors the blocks of a row in
/// order, at multiples of 16 bytes, and the scales spread as the blocks are.
/// `matrices` is how many are counted, with those that lie elsewhere.
///
/// # Errors
/// [`SpecError::Value`] with both.
pub(crate) fn check_blocks(
    format: WeightFormat,
    name: &str,
    desc: &TensorDesc,
    scales: Option<&TensorDesc>,
    matrices: u32,
) -> Result<(), SpecError> {
    let Some(blocks) = format.blocks() else { return Ok(()) };
    let strides = desc.layout.strides();
    let alignment = match (blocks, scales) {
        (BlockFormat::Q8_0 | BlockFormat::Q4_0, _) => 2,
        (BlockFormat::Mxfp4, None) => 1,
        (BlockFormat::Mxfp4, Some(_)) => 16,
    };
    let rows = strides.len().saturating_sub(1);
    let aligned = desc.layout.offset().is_multiple_of(alignment)
        && strides[..rows].iter().all(|stride| stride.is_multiple_of(alignment));
    if !aligned {
        let expected = format!("offset and strides of multiples of {alignment} bytes");
        let got = format!("offset {}, strides {strides:?}", desc.layout.offset());
        return Err(SpecError::value(name, expected, got));
    }
    let Some(scales) = scales else { return Ok(()) };
    // A block's scale is found by how far the block is from the first.
    let far = strides[0].saturating_mul(matrices.into()).max(desc.layout.end().unwrap_or(u64::MAX));
    if far > u64::from(u32::MAX) {
        let expected = format!("at most {} bytes where scales are a tensor of their own", u32::MAX);
        return Err(SpecError::value(name, expected, far));
    }
    let sixteenth: Vec<u64> = strides[..rows].iter().map(|stride| stride / 16).collect();
    if sixteenth != scales.layout.strides() || sixteenth.last() != Some(&1) {
        let expected = format!("strides {sixteenth:?}, the last 1, as {name} has them");
        let got = format!("{:?}", scales.layout.strides());
        return Err(SpecError::value(scales_name(name), expected, got));
    }
    Ok(())
}

/// Weights that hold noise of mean 0 and standard deviation `scale`; of a pair of tensors either.
pub(crate) fn noise(
    format: WeightFormat,
    name: &str,
    desc: &TensorDesc,
    seed: u64,
    scale: f64,
) -> HostTensor {
    let Some(blocks) = format.blocks() else { return operator::noise(name, desc, seed, scale) };
    let mut random = Random::of(seed, name);
    let bytes = desc.layout.len() as usize;
    let bytes = if name.ends_with("_scales") {
        // An mxfp4 number is its scale times up to 6.
        let exponent = 127 + (scale / 3.0).log2().round() as i64;
        (0..bytes).map(|_| random.whole(exponent - 1, exponent) as u8).collect()
    } else if bytes.is_multiple_of(blocks.bytes()) {
        let mut all = Vec::with_capacity(bytes);
        for _ in 0..bytes / blocks.bytes() {
            let block: [f32; BLOCK] = std::array::from_fn(|_| (random.normal() * scale) as f32);
            all.extend(blocks.quantise(&block).unwrap_or_default()); // a whole block
        }
        all
    } else {
        (0..bytes).map(|_| random.below(256) as u8).collect()
    };
    HostTensor { dtype: desc.dtype, shape: desc.shape().to_vec(), bytes }
}

/// The numbers of weights in host memory, exactly.
///
/// # Errors
/// [`SpecError`] where the bytes are no whole blocks.
#[cfg(feature = "reference")]
pub(crate) fn numbers(
    format: WeightFormat,
    host: &HostTensor,
    scales: Option<&HostTensor>,
) -> Result<Vec<f64>, SpecError> {
    let values = match (format.blocks(), scales) {
        (None, _) => return Ok(host.to_f64()),
        (Some(_), Some(scales)) => dequantise_mxfp4_pair(&host.bytes, &scales.bytes)?,
        (Some(blocks), None) => blocks.dequantise(&host.bytes)?,
    };
    Ok(values.into_iter().map(f64::from).collect())
}
