// Extra tokens lie in tensors of their own; an offset with EXTRA_OFFSET set reads from them.

fn extra_k_offset(block: Block, index: u32) -> u32 {
    return EXTRA_OFFSET + params.extra_k_first + block.batch * params.extra_k_batch_stride
        + block.kv_head * params.extra_k_head_stride + index * params.extra_k_x_stride;
}

fn extra_v_offset(block: Block, index: u32) -> u32 {
    return EXTRA_OFFSET + params.extra_v_first + block.batch * params.extra_v_batch_stride
        + block.kv_head * params.extra_v_head_stride + index * params.extra_v_x_stride;
}
