// Results go straight to the caller's out and lse.

fn emit4(block: Block, row: Row, d: u32, acc: vec4<f32>, m: f32, l: f32) {
    if (HAS_OUT) {
        let offset = params.out_first + row.batch * params.out_batch_stride + row.head * params.out_head_stride + row.q * params.out_seq_stride;
        let finish = norm_finish(row, block.part, m, l);
        var scale = finish.scale;
        if (HAS_GATE) { scale *= head_gate(row.batch, row.head, row.q); }
        // A row without keys, or whose gate is 0, is 0, whatever its accumulator holds.
        out_store4(offset, d, select(acc * scale, vec4(0.0), scale == 0.0));
    }
}

fn emit_lse(block: Block, row: Row, m: f32, l: f32) {
    if (HAS_LSE) {
        let finish = norm_finish(row, block.part, m, l);
        let at = params.lse_first + row.batch * params.lse_batch_stride + row.head * params.lse_head_stride + row.q * params.lse_seq_stride;
        lse_store(at, finish.lse, finish.empty);
    }
}
