// The matmul without workgroup memory, for processors and for few rows: a lane owns COLUMNS columns of the ROWS rows of its tile.
// All lanes need the same rows of a; a fragment says who reads them.
// Every array is walked over its whole length, so that it lives in registers.

const PARTS: u32 = select(1u, 2u, GATED);
const LANE_COLUMNS: u32 = COLUMNS / PARTS;

fn dot_add(sum: f32, a: vec4<f32>, b: vec4<f32>) -> f32 {
    return fma(a.w, b.w, fma(a.z, b.z, fma(a.y, b.y, fma(a.x, b.x, sum))));
}

@compute @workgroup_size(WORKGROUP_SIZE)
fn matmul_stream(
    @builtin(workgroup_id) workgroup: vec3<u32>, @builtin(num_workgroups) workgroups: vec3<u32>,
    @builtin(local_invocation_index) local: u32,
) {
    let lane = lane_of(local);
    let tile = tile_at(workgroup.y + workgroup.z * workgroups.y);
    let column_first = (params.column_tile_first + workgroup.x) * (WORKGROUP_SIZE * LANE_COLUMNS);
    let row_last = max(tile.row_end, 1u) - 1u;
    var a_offset: array<u32, A_LOADS>;
    for (var i = 0u; i < A_LOADS; i++) {
        a_offset[i] = a_start(min(tile.row_first + loaded_row(lane, i), row_last));
    }
    var w_offset: array<array<u32, LANE_COLUMNS>, PARTS>;
    for (var c = 0u; c < LANE_COLUMNS; c++) {
        let column = min(column_first + lane + c * WORKGROUP_SIZE, params.columns - 1u);
        for (var part = 0u; part < PARTS; part++) { w_offset[part][c] = w_row(part, tile.expert, column); }
    }
    let inner = select(0u, params.inner, tile.row_first < tile.row_end);
    var acc: array<array<array<f32, ROWS>, LANE_COLUMNS>, PARTS>;
    for (var d = 0u; d < inner; d += 4u * UNIT_VECS) {
        var raw: array<array<Raw, LANE_COLUMNS>, PARTS>;
        for (var part = 0u; part < PARTS; part++) {
            for (var c = 0u; c < LANE_COLUMNS; c++) { raw[part][c] = w_raw(part, w_offset[part][c], d / (4u * UNIT_VECS)); }
        }
        for (var v = 0u; v < UNIT_VECS; v++) {
            var w: array<array<vec4<f32>, LANE_COLUMNS>, PARTS>;
            for (var part = 0u; part < PARTS; part++) {
                for (var c = 0u; c < LANE_COLUMNS; c++) {
                    w[part][c] = w_vector(part, raw[part][c], v);
                    if (UNIT_VECS >= 8u) { w[part][c] = (w[part][c] - vec4(W_OFFSET)) * w_scale(raw[part][c], v / 8u); }
                }
            }
            var a: array<vec4<f32>, A_LOADS>;
            for (var i = 0u; i < A_LOADS; i++) { a[i] = a_load4(a_offset[i], d + 4u * v); }
            for (var r = 0u; r < ROWS; r++) {
                let row = row_of(&a, r);
                for (var part = 0u; part < PARTS; part++) {
                    for (var c = 0u; c < LANE_COLUMNS; c++) { acc[part][c][r] = dot_add(acc[part][c][r], row, w[part][c]); }
                }
            }
        }
    }
    for (var r = 0u; r < ROWS; r++) {
        let row = tile.row_first + r;
        if (row < tile.row_end) {
            let scale = a_scale(row);
            for (var c = 0u; c < LANE_COLUMNS; c++) {
                let column = column_first + lane + c * WORKGROUP_SIZE;
                if (column < params.columns) {
                    let value = finish(tile.expert, column, acc[0][c][r] * scale, acc[PARTS - 1u][c][r] * scale);
                    result[params.result_first + row * params.result_stride + column] = value;
                }
            }
        }
    }
}
