// Results of a part of the keys go to scratch [parts, rows of all batches and heads], for fused_merge.

fn partial_row(block: Block, row: Row) -> u32 {
    let at = row_place(row);
    let head = (block.part * params.part_batches + at.batch - params.batch_first) * params.part_heads + row.head - params.part_head_first;
    return head * params.part_queries + place_number(at.place);
}

fn emit_offset(block: Block, row: Row) -> u32 {
    return partial_row(block, row) * PART_STRIDE;
}

fn emit_scale(block: Block, row: Row, m: f32, l: f32) -> f32 {
    return norm_finish(row, block.part, m, l).scale;
}

fn emit_scaled(offset: u32, d: u32, acc: vec4<f32>, scale: f32) {
    part_outs[offset + d / 4u] = select(acc * scale, vec4(0.0), scale == 0.0);
}

fn emit4(block: Block, row: Row, d: u32, acc: vec4<f32>, m: f32, l: f32) {
    emit_scaled(emit_offset(block, row), d, acc, emit_scale(block, row, m, l));
}

fn emit_lse(block: Block, row: Row, m: f32, l: f32) {
    let finish = norm_finish(row, block.part, m, l);
    lse_store(partial_row(block, row), finish.lse, finish.empty);
}
