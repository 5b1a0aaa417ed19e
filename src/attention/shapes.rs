//! Tensors that a spec alone implies, and those of the problem that stands for all of its size.

use super::extents::{AttentionExtents, Axis, PageExtents};
use super::problem::AttentionProblem;
use super::roles::{Role, extra_inputs};
use super::spec::AttentionSpec;
use super::storage::{KeyStorage, Storage};
use crate::error::{Error, SpecError};
use crate::operator::rounded;
use crate::tensor::check;
use crate::tensor::{Layout, TensorDesc, TensorDescs};

impl AttentionSpec {
    /// Tensors without gaps for a spec that says all its extents; extra inputs are f32 (i32, bool) in their fullest shape.
    ///
    /// # Errors
    /// [`SpecError::Value`] naming the first extent that the spec leaves open.
    pub fn assumed_tensors(&self) -> Result<TensorDescs, SpecError> {
        let extents = self.stated_extents()?;
        let storage = Storage::default();
        let shape = |role: Role| -> Vec<u64> {
            let axes = role.axes(storage).unwrap_or_default();
            axes.into_iter().map(|axis| axis.extent(&extents)).collect()
        };
        let core = |role: Role| {
            let layout = role.outward(storage, &Layout::contiguous(&shape(role)), self.layout);
            TensorDesc::contiguous(self.dtype, layout.shape())
        };
        let mut tensors = TensorDescs::from([
            ("q".to_owned(), core(Role::Queries)),
            ("k".to_owned(), core(Role::Keys)),
            ("v".to_owned(), core(Role::Values)),
        ]);
        for named in extra_inputs(self, &TensorDescs::new()) {
            let shape = match named.role {
                Role::Aux => vec![u64::from(extents.q_heads)],
                Role::DenseMask | Role::BlockMask { .. } => {
                    [&[1, 1], &shape(named.role)[2..]].concat()
                }
                role => shape(role),
            };
            let desc = TensorDesc::contiguous(named.role.dtypes(self)[0], &shape);
            put(&mut tensors, named.name, named.role, desc);
        }
        Ok(tensors)
    }

    /// The extents, all of which the spec has to say.
    fn stated_extents(&self) -> Result<AttentionExtents, SpecError> {
        let stated = |field: &str, value: Option<u32>| value.ok_or_else(|| check::unstated(field));
        let batch = stated("batch", self.batch)?;
        let q_heads = stated("q_heads", self.q_heads)?;
        let seq_len_q = stated("seq_len_q", self.seq_len_q)?;
        let head_dim = stated("head_dim", self.head_dim)?;
        Ok(AttentionExtents {
            batch,
            sequences: batch,
            q_heads,
            kv_heads: self.kv_heads.unwrap_or(q_heads),
            seq_len_q,
            seq_len_kv: self.seq_len_kv.unwrap_or(seq_len_q),
            head_dim,
            value_dim: self.value_dim.unwrap_or(head_dim),
            prefix_len: 0,
            pages: PageExtents::default(),
        })
    }
}

/// Adds a tensor; what the caller's functions read may have any shape, so that its other uses say it.
fn put(tensors: &mut TensorDescs, name: String, role: Role, desc: TensorDesc) {
    if role == Role::Aux {
        tensors.entry(name).or_insert(desc);
    } else {
        tensors.insert(name, desc);
    }
}

/// The same problem with batch, lengths, pages and prefix rounded, without gaps and without an offset of its own.
pub(super) fn bucket(problem: &AttentionProblem) -> Result<AttentionProblem, Error> {
    let extents = rounded_extents(problem);
    let mut spec = problem.spec.clone();
    spec.batch = Some(extents.sequences);
    spec.seq_len_q = Some(extents.seq_len_q);
    spec.seq_len_kv = Some(extents.seq_len_kv);
    spec.q_offset = None;
    let mut tensors = TensorDescs::new();
    for named in problem.roles().iter().filter(|named| !named.role.is_output()) {
        let desc = &problem.tensors[&named.name];
        let shape = match named.role.axes(problem.storage) {
            None => desc.shape().to_vec(),
            Some(axes) => {
                let broadcast = named.role.broadcast_axes();
                let extent = |(at, axis): (usize, &Axis)| {
                    let is_one = at < broadcast && desc.shape()[at] == 1;
                    if is_one { 1 } else { axis.extent(&extents) }
                };
                axes.iter().enumerate().map(extent).collect()
            }
        };
        let layout = Layout::contiguous(&shape);
        let layout = named.role.outward(problem.storage, &layout, spec.layout);
        let desc = TensorDesc::contiguous(desc.dtype, layout.shape());
        put(&mut tensors, named.name.clone(), named.role, desc);
    }
    AttentionProblem::new(&spec, &tensors)
}

fn rounded_extents(problem: &AttentionProblem) -> AttentionExtents {
    let e = problem.extents;
    let pages = PageExtents {
        count: rounded(e.pages.count),
        size: e.pages.size, // the rows of a page stay what they are
        of_sequence: rounded(e.pages.of_sequence),
    };
    let seq_len_kv = match problem.storage.keys {
        KeyStorage::Batched | KeyStorage::Packed => rounded(e.seq_len_kv),
        KeyStorage::Paged => pages.of_sequence.saturating_mul(pages.size),
    };
    let sequences = rounded(e.sequences);
    AttentionExtents {
        // Packed sequences are one batch.
        batch: rounded(e.batch),
        sequences,
        seq_len_q: rounded(e.seq_len_q),
        seq_len_kv,
        prefix_len: rounded(e.prefix_len),
        pages,
        ..e
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
