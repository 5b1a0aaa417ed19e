//! The question that stands for all of its size.

use super::gate::HEAD_GATE;
use super::problem::{AttentionProblem, TensorDescs};
use super::side::SideRole;
use crate::error::Error;
use crate::operator::rounded;
use crate::tensor::{Layout, TensorDesc};

/// The same question with batch, lengths and prefix rounded, without gaps and without an offset of its own.
pub(super) fn bucket(problem: &AttentionProblem) -> Result<AttentionProblem, Error> {
    let e = &problem.extents;
    let mut spec = problem.spec.clone();
    spec.batch = Some(rounded(e.sequences));
    spec.seq_len_q = Some(rounded(e.seq_len_q));
    spec.seq_len_kv = Some(keys(problem) as u32);
    spec.q_offset = None;
    let mut tensors: TensorDescs = spec.assumed_tensors()?;
    for name in problem.storage.core().into_iter().chain([HEAD_GATE]) {
        if let Some(desc) = problem.tensors.get(name) {
            let mut shape = desc.shape().to_vec();
            let pages = matches!(name, "k_pages" | "v_pages");
            // The rows of a page stay what they are.
            let grow = if pages { &[0][..] } else { &[0, 2] };
            grow.iter().for_each(|axis: &usize| shape[*axis] = shape[*axis].next_power_of_two());
            let shape = problem
                .storage
                .outward(name, &Layout::contiguous(&shape), spec.layout)
                .shape()
                .to_vec();
            tensors.insert(name.to_owned(), TensorDesc::contiguous(desc.dtype, &shape));
        }
    }
    for side in problem.side_tensors() {
        let desc = &problem.tensors[&side.name];
        let desc =
            TensorDesc::contiguous(desc.dtype, &side_shape(problem, side.role, desc.shape()));
        tensors.insert(side.name, desc);
    }
    for name in ["prefix_k", "prefix_v"] {
        if let Some(desc) = problem.tensors.get(name) {
            let shape = desc.shape();
            let shape = [shape[0], rounded(e.prefix_len).into(), shape[2]];
            tensors.insert(name.to_owned(), TensorDesc::contiguous(desc.dtype, &shape));
        }
    }
    AttentionProblem::new(&spec, &tensors)
}

/// Keys of a batch, rounded; of pages their number is.
fn keys(problem: &AttentionProblem) -> u64 {
    let extent = problem.extents.seq_len_kv;
    let Some(pages) = problem.tensors.get("k_pages") else { return rounded(extent).into() };
    let page_size = pages.shape()[2];
    (u64::from(extent) / page_size).next_power_of_two() * page_size
}

/// The shape of a side tensor where the extents are rounded.
fn side_shape(problem: &AttentionProblem, role: SideRole, shape: &[u64]) -> Vec<u64> {
    let grown = |extent: u64| extent.next_power_of_two();
    let of_axes = |axes: &[usize]| {
        let grow = |(axis, &extent)| if axes.contains(&axis) { grown(extent) } else { extent };
        shape.iter().enumerate().map(grow).collect()
    };
    match role {
        SideRole::HeadCount | SideRole::SinkLogits | SideRole::Aux => shape.to_vec(),
        SideRole::AlibiSlopes if shape.len() == 1 => shape.to_vec(),
        SideRole::AlibiSlopes | SideRole::KvLens | SideRole::BatchCount => of_axes(&[0]),
        SideRole::QueryDocuments | SideRole::KeyDocuments => of_axes(&[0, 1]),
        SideRole::Bias | SideRole::DenseMask => {
            let columns = if shape[3] == 1 { 1 } else { keys(problem) };
            [&of_axes(&[0, 2])[..3], &[columns]].concat()
        }
        SideRole::Starts { .. } => vec![u64::from(rounded(problem.extents.sequences)) + 1],
        SideRole::BlockTable => of_axes(&[0, 1]),
        SideRole::BlockMask { block } => {
            let e = &problem.extents;
            let blocks = |extent: u64, block: u32| extent.div_ceil(block.max(1).into());
            let rows = blocks(rounded(e.seq_len_q).into(), block[0]);
            let columns = blocks(keys(problem), block[1]);
            vec![grown(shape[0]), shape[1], rows, columns]
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::spec::AttentionSpec;
    use super::*;
    use crate::tensor::Dtype;

    fn bucket_of(tensors: &[(&str, Dtype, &[u64])]) -> AttentionProblem {
        let desc = |(name, dtype, shape): &(&str, Dtype, &[u64])| {
            ((*name).to_owned(), TensorDesc::contiguous(*dtype, shape))
        };
        let tensors = tensors.iter().map(desc).collect();
        bucket(&AttentionProblem::new(&AttentionSpec::default(), &tensors).unwrap()).unwrap()
    }

    #[test]
    fn packed_sequences_and_pages_have_buckets() {
        let (f32, i32) = (Dtype::F32, Dtype::I32);
        let packed = bucket_of(&[
            ("q", f32, &[90, 4, 8]),
            ("k", f32, &[70, 2, 8]),
            ("v", f32, &[70, 2, 8]),
            ("cu_seqlens_q", i32, &[4]),
            ("cu_seqlens_kv", i32, &[4]),
            ("head_gate", f32, &[4, 90]),
        ]);
        let e = packed.extents;
        assert_eq!([e.batch, e.sequences, e.seq_len_q, e.seq_len_kv], [1, 4, 128, 128]);
        let paged = bucket_of(&[
            ("q", f32, &[3, 4, 5, 8]),
            ("k_pages", f32, &[6, 12, 2, 8]),
            ("v_pages", f32, &[6, 12, 2, 8]),
            ("block_table", i32, &[3, 3]),
            ("kv_lens", i32, &[3]),
            ("bias", f32, &[1, 1, 5, 36]),
        ]);
        let e = paged.extents;
        assert_eq!([e.batch, e.sequences, e.seq_len_q, e.seq_len_kv], [4, 4, 8, 48]);
        assert_eq!(paged.tensors["bias"].shape(), [1, 1, 8, 48]);
    }
}
