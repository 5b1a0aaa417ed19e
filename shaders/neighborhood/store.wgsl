// Results go to out and lse, heads last.

fn emit_offset(block: Block, row: Row) -> u32 {
    return out_row(row.batch, row.head, row.q.token);
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
        let finish = norm_finish(row, block.part, m, l);
        lse_store(lse_row(row.batch, row.head, row.q.token), finish.lse, finish.empty);
    }
}
