// Results go to out and lse, heads last.

fn emit_offset(block: Block, row: Row) -> u32 {
    let t = row.q.token;
    return params.out_first + row.batch * params.out_batch_stride + row.head * params.out_head_stride
        + t.x * params.out_x_stride + t.y * params.out_y_stride + t.z * params.out_z_stride;
}

fn emit_scale(block: Block, row: Row, m: f32, l: f32) -> f32 {
    return norm_finish(row, block.part, m, l).scale;
}

fn emit_scaled(offset: u32, d: u32, acc: vec4<f32>, scale: f32) {
    if (HAS_OUT) { out_store4(offset, d, select(acc * scale, vec4(0.0), scale == 0.0)); }
}

fn emit4(block: Block, row: Row, d: u32, acc: vec4<f32>, m: f32, l: f32) {
    emit_scaled(emit_offset(block, row), d, acc, emit_scale(block, row, m, l));
}

fn emit_lse(block: Block, row: Row, m: f32, l: f32) {
    if (HAS_LSE) {
        let t = row.q.token;
        let at = params.lse_first + row.batch * params.lse_batch_stride + row.head * params.lse_head_stride
            + t.x * params.lse_x_stride + t.y * params.lse_y_stride + t.z * params.lse_z_stride;
        let finish = norm_finish(row, block.part, m, l);
        lse_store(at, finish.lse, finish.empty);
    }
}
