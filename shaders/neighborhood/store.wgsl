// Results go to out and lse, heads last.

fn emit4(block: Block, row: Row, d: u32, acc: vec4<f32>, m: f32, l: f32) {
    if (HAS_OUT) {
        let t = row.q.token;
        let offset = params.out_first + row.batch * params.out_batch_stride + row.head * params.out_head_stride
            + t.x * params.out_x_stride + t.y * params.out_y_stride + t.z * params.out_z_stride;
        let finish = norm_finish(row, block.part, m, l);
        out_store4(offset, d, select(acc * finish.scale, vec4(0.0), finish.scale == 0.0));
    }
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
