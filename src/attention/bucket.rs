//! The question that stands for all of its size.

use super::problem::{AttentionProblem, TensorDescs};
use super::side::SideRole;
use crate::error::Error;
use crate::operator::rounded;
use crate::tensor::TensorDesc;

/// The same question with batch, lengths and prefix rounded, without gaps and without an offset of its own.
pub(super) fn bucket(problem: &AttentionProblem) -> Result<AttentionProblem, Error> {
    let e = &problem.extents;
    let mut spec = problem.spec.clone();
    spec.batch = Some(rounded(e.batch));
    spec.seq_len_q = Some(rounded(e.seq_len_q));
    spec.seq_len_kv = Some(rounded(e.seq_len_kv));
    spec.q_offset = None;
    let mut tensors: TensorDescs = spec.assumed_tensors()?;
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
        SideRole::Bias | SideRole::DenseMask => of_axes(&[0, 2, 3]),
        SideRole::BlockMask { block } => {
            let e = &problem.extents;
            let blocks = |extent: u32, block: u32| rounded(extent).div_ceil(block.max(1)).into();
            let [rows, columns] = [blocks(e.seq_len_q, block[0]), blocks(e.seq_len_kv, block[1])];
            vec![grown(shape[0]), shape[1], rows, columns]
        }
    }
}
