// Results go straight to the caller's out and lse.

fn emit4(block: Block, row: Row, d: u32, acc: vec4<f32>, m: f32, l: f32) {
    if (HAS_OUT) {
        let at = q_place(row.batch, row.q);
        let offset = params.out_first + at.x * params.out_batch_stride + row.head * params.out_head_stride + at.y * params.out_seq_stride;
        let finish = norm_finish(row, block.part, m, l);
        var scale = finish.scale;
        if (HAS_GATE) { scale *= head_gate(at.x, row.head, at.y); }
        // A row without keys, or whose gate is 0, is 0, whatever its accumulator holds.
        out_store4(offset, d, select(acc * scale, vec4(0.0), scale == 0.0));
    }
}

fn emit_lse(block: Block, row: Row, m: f32, l: f32) {
    if (HAS_LSE) {
        let finish = norm_finish(row, block.part, m, l);
        let at = q_place(row.batch, row.q);
        let offset = params.lse_first + at.x * params.lse_batch_stride + row.head * params.lse_head_stride + at.y * params.lse_seq_stride;
        lse_store(offset, finish.lse, finish.empty);
    }
}
