// Results go straight to the caller's out and lse.

fn emit_offset(block: Block, row: Row) -> u32 {
    let at = row_place(row);
    return out_row(at.batch, row.head, at.place);
}

fn emit_scale(block: Block, row: Row, m: f32, l: f32) -> f32 {
    let scale = norm_finish(row, block.part, m, l).scale;
    if (HAS_GATE) { return scale * row_gate(row); }
    return scale;
}

fn emit_scaled(offset: u32, d: u32, acc: vec4<f32>, scale: f32) {
    // A row without keys, or whose gate is 0, is 0, whatever its accumulator holds.
    if (HAS_OUT) { out_store4(offset, d, select(acc * scale, vec4(0.0), scale == 0.0)); }
}

fn emit4(block: Block, row: Row, d: u32, acc: vec4<f32>, m: f32, l: f32) {
    if (HAS_OUT) { emit_scaled(emit_offset(block, row), d, acc, emit_scale(block, row, m, l)); }
}

fn emit_lse(block: Block, row: Row, m: f32, l: f32) {
    if (HAS_LSE) {
        let finish = norm_finish(row, block.part, m, l);
        let at = row_place(row);
        lse_store(lse_row(at.batch, row.head, at.place), finish.lse, finish.empty);
    }
}
