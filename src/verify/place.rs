//! Where a case's tensors lie. Layouts have gaps, and buffers are NaN around tensors.

use super::case::Placement;
use crate::error::SpecError;
use crate::tensor::{Dtype, HostTensor, Layout, TensorDesc, TensorDescs};

/// What buffers hold where no tensor lies. It is NaN as f32, f16 and bf16, −1 as i32 and true as bool.
pub(super) const POISON: u8 = 0xff;

/// Bytes of poison behind a tensor.
const TAIL: usize = 272;

/// The layout that a placement gives a tensor.
pub(super) fn layout(placement: Placement, name: &str, shape: &[u64]) -> Layout {
    let dense = Layout::contiguous(shape);
    let core = matches!(
        name,
        "q" | "k"
            | "v"
            | "out"
            | "lse"
            | "prefix_k"
            | "prefix_v"
            | "extra_k"
            | "extra_v"
            | "x"
            | "w_gate"
            | "w_up"
            | "w_down"
            | "k_pages"
            | "v_pages"
            | "head_gate"
    );
    match placement {
        Placement::Dense | Placement::Exact | Placement::Packed => dense,
        Placement::Aligned if core => gapped(shape, 8, 4),
        Placement::Odd if core => gapped(shape, 5, 3),
        Placement::Aligned => moved(&dense, 4),
        Placement::Odd => moved(&dense, 3),
    }
}

/// Rows `gap` elements apart, and every outer axis one gap more.
fn gapped(shape: &[u64], offset: u64, gap: u64) -> Layout {
    let mut strides = vec![1; shape.len()];
    for axis in (1..shape.len()).rev() {
        strides[axis - 1] = strides[axis] * shape[axis].max(1) + gap;
    }
    laid_out(shape, &strides, offset)
}

fn moved(layout: &Layout, offset: u64) -> Layout {
    laid_out(layout.shape(), layout.strides(), offset)
}

/// A case's tensors are small: their elements can be counted.
fn laid_out(shape: &[u64], strides: &[u64], offset: u64) -> Layout {
    Layout::new(shape, strides, offset).unwrap_or_else(|_| Layout::contiguous(shape))
}

/// The layouts of q, k and v as views of one `bshd` tensor, odd numbers of elements apart.
pub(super) fn packed(q: &[u64], k: &[u64], v: &[u64]) -> [Layout; 3] {
    let row = q[2] * q[3] + k[2] * k[3] + v[2] * v[3] + 1;
    let view = |shape: &[u64], offset: u64| {
        laid_out(shape, &[shape[1] * row + 5, row, shape[3], 1], offset)
    };
    let first = 3;
    let k_first = first + q[2] * q[3];
    [view(q, first), view(k, k_first), view(v, k_first + k[2] * k[3])]
}

/// The tensors one behind the other in one buffer, as close as their elements can be: halves share words with their
/// neighbours. Packed views of one buffer stay as they are to each other.
///
/// # Errors
/// None of a case's tensors, which are small.
pub(super) fn in_one_buffer(
    placement: Placement,
    tensors: Vec<(&str, TensorDesc)>,
) -> Result<TensorDescs, SpecError> {
    let is_packed = |name: &str| placement == Placement::Packed && ["q", "k", "v"].contains(&name);
    let (packed, others) = tensors.into_iter().partition(|(name, _)| is_packed(name));
    let packed: Vec<(&str, TensorDesc)> = packed;
    let mut placed = TensorDescs::new();
    let mut end = packed.iter().map(|(_, desc)| desc.bytes()).max().unwrap_or(0);
    placed.extend(packed.into_iter().map(|(name, desc)| (name.to_owned(), desc)));
    for (name, TensorDesc { dtype, layout }) in others {
        // Blocks are read by vectors of 16 bytes.
        let closest = if dtype == Dtype::U8 { 16 } else { dtype.bytes() };
        let first = end.next_multiple_of(closest) / dtype.bytes() + layout.offset();
        let layout = Layout::new(layout.shape(), layout.strides(), first)?;
        let desc = TensorDesc { dtype, layout };
        end = end.max(desc.bytes());
        placed.insert(name.to_owned(), desc);
    }
    Ok(placed)
}

/// What a buffer of all tensors looks like to one of them: poison, but for itself and for bytes that changed and are of no
/// other output.
pub(super) fn seen_alone<'a>(
    (before, after): (&[u8], &[u8]),
    own: &TensorDesc,
    others: impl Iterator<Item = &'a TensorDesc>,
) -> Vec<u8> {
    let changed = before.iter().zip(after);
    let mut seen: Vec<u8> =
        changed.map(|(before, after)| if before == after { POISON } else { *after }).collect();
    let mut fill = |desc: &TensorDesc, byte: &dyn Fn(usize) -> u8| {
        let size = desc.dtype.bytes() as usize;
        for place in desc.layout.places().map(|place| place as usize * size) {
            (place..place + size).for_each(|at| seen[at] = byte(at));
        }
    };
    others.for_each(|other| fill(other, &|_| POISON));
    fill(own, &|at| after[at]);
    seen
}

/// A buffer's bytes with a tensor in it at its place. Elsewhere is poison, or what `bytes` had.
pub(super) fn put(bytes: &mut Vec<u8>, desc: &TensorDesc, tensor: &HostTensor, exact: bool) {
    let size = desc.dtype.bytes() as usize;
    let end = desc.layout.end().unwrap_or(0) as usize * size;
    let whole = if exact { end.next_multiple_of(4) } else { end.next_multiple_of(4) + TAIL };
    bytes.resize(bytes.len().max(whole), POISON);
    for (source, place) in desc.layout.places().enumerate() {
        let (from, to) = (source * size, place as usize * size);
        bytes[to..to + size].copy_from_slice(&tensor.bytes[from..from + size]);
    }
}

/// A buffer's bytes with room for an output, which is poison before the call.
pub(super) fn poison(bytes: &mut Vec<u8>, desc: &TensorDesc, exact: bool) {
    let end = desc.layout.end().unwrap_or(0) * desc.dtype.bytes();
    let tail = if exact { 0 } else { TAIL };
    let whole = (end as usize).next_multiple_of(4) + tail;
    bytes.resize(bytes.len().max(whole), POISON);
}

/// The tensor in a buffer, and the first byte beside it that is no longer poison.
pub(super) fn take(bytes: &[u8], desc: &TensorDesc) -> (HostTensor, Option<usize>) {
    let size = desc.dtype.bytes() as usize;
    let mut rest = bytes.to_vec();
    let mut taken = Vec::with_capacity(desc.layout.len() as usize * size);
    for place in desc.layout.places() {
        let at = place as usize * size;
        taken.extend_from_slice(&bytes[at..at + size]);
        rest[at..at + size].fill(POISON);
    }
    let tensor = HostTensor { dtype: desc.dtype, shape: desc.shape().to_vec(), bytes: taken };
    (tensor, rest.iter().position(|byte| *byte != POISON))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_put_is_taken_and_what_lies_beside_it_is_seen() {
        for placement in [Placement::Dense, Placement::Aligned, Placement::Odd] {
            let layout = layout(placement, "out", &[2, 1, 3, 2]);
            let desc = TensorDesc { dtype: Dtype::F16, layout };
            let values: Vec<f64> = (0..12).map(f64::from).collect();
            let tensor = HostTensor::from_f64(Dtype::F16, &[2, 1, 3, 2], &values);
            let mut bytes = Vec::new();
            put(&mut bytes, &desc, &tensor, false);
            assert_eq!(take(&bytes, &desc), (tensor, None), "{placement:?}");
            *bytes.last_mut().unwrap() = 0;
            assert_eq!(take(&bytes, &desc).1, Some(bytes.len() - 1));
        }
    }

    #[test]
    fn packed_views_keep_apart() {
        let [q, k, v] = packed(&[2, 5, 4, 8], &[2, 5, 2, 8], &[2, 5, 2, 8]);
        let mut seen: Vec<u64> = [&q, &k, &v].into_iter().flat_map(Layout::places).collect();
        let count = seen.len();
        seen.sort_unstable();
        seen.dedup();
        assert_eq!(seen.len(), count);
        assert!(q.offset() % 2 == 1 && q.strides()[1] % 2 == 1);
    }
}
