//! A gate for each query and head: `out` times it, `lse` as it is. With the gates of a router, heads are experts
//! (Jin et al. 2024, "MoH: Multi-Head Attention as Mixture-of-Head Attention").

use super::plan::Context;
use super::problem::AttentionExtents;
use super::spec::{AttentionOutput, AttentionSpec};
use crate::error::SpecError;
use crate::fused::forward::no_gate;
use crate::kernel::source::KernelSource;
use crate::tensor::{Dtype, TensorDesc, check};

/// Its tensor, `[batch, q_heads, seq_len_q]` whatever the layout; any strides. It counts by being there.
pub(super) const HEAD_GATE: &str = "head_gate";

/// Holds the gate against the question.
pub(super) fn check_gate(
    desc: &TensorDesc,
    spec: &AttentionSpec,
    extents: &AttentionExtents,
) -> Result<(), SpecError> {
    let shape = [extents.batch, extents.q_heads, extents.seq_len_q].map(u64::from);
    if desc.shape() != shape {
        let expected = format!("shape {shape:?} (batch, q_heads, seq_len_q)");
        return Err(SpecError::value(HEAD_GATE, expected, format!("{:?}", desc.shape())));
    }
    check::element_type(HEAD_GATE, desc, &[Dtype::F32, spec.dtype])?;
    check::within_u64(HEAD_GATE, desc)
}

impl Context<'_> {
    /// Where nothing but `out` is wanted, rows whose gates are all 0 need not be computed.
    pub fn gate_skips(&self) -> bool {
        let p = self.problem;
        p.tensors.contains_key(HEAD_GATE) && !p.wants(AttentionOutput::Lse)
    }

    /// `head_gate(b, h, q)` for a kernel that writes out, or one that may skip.
    pub fn gate(&self, source: &mut KernelSource) {
        let Some(desc) = self.problem.tensors.get(HEAD_GATE) else { return no_gate(source) };
        source.const_bool("HAS_GATE", true);
        self.bind_rows(source, "gate", HEAD_GATE, KernelSource::side_element(desc.dtype), false);
        source.side_reader("gate", desc.dtype);
        source.accessor(
            "fn head_gate(b: u32, h: u32, q: u32) -> f32 { return gate_get(b * params.gate_batch_stride + h * params.gate_head_stride + q * params.gate_seq_stride); }\n",
        );
    }
}
