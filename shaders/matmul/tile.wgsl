// The matmul tile: result[row, column] = finish(sum over d of a[row, d] * w[column, d]). A workgroup owns TILE_ROWS × TILE_COLUMNS
// and walks the inner dims a chunk at a time; lane (x, y) owns ROWS × COLUMNS results. Rows and columns of a lane are interleaved,
// so that lanes side by side read neighbouring rows of a tile; odd strides keep those in different banks.
// GATED: one half of a tile's columns is the gate's, the other up's; a lane owns as many of each, and finish sees both.
// A fragment says what is staged, and multiplies it.

const LANES_X: u32 = TILE_COLUMNS / COLUMNS;
const LANES_Y: u32 = TILE_ROWS / ROWS;
const LANE_COLUMNS: u32 = COLUMNS / PARTS;

fn load(
    lane: u32, rows: ptr<function, StageRows>, chunk: u32,
    a: ptr<function, array<RowTaken, A_LOADS>>, w: ptr<function, array<array<Taken, W_LOADS>, PARTS>>,
) {
    for (var i = 0u; i < A_LOADS; i++) { (*a)[i] = a_take((*rows).a[i], stage_dim(lane, i, A_COUNT, A_RUN, chunk)); }
    for (var part = 0u; part < PARTS; part++) {
        for (var i = 0u; i < W_LOADS; i++) {
            (*w)[part][i] = w_take(part, (*rows).w[part][i], stage_dim(lane, i, W_COUNT, RUN, chunk));
        }
    }
}

@compute @workgroup_size(WORKGROUP_SIZE)
fn matmul_tile(
    @builtin(workgroup_id) workgroup: vec3<u32>, @builtin(num_workgroups) workgroups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let tile = tile_at(workgroup.y + workgroup.z * workgroups.y);
    let x = lane % LANES_X;
    let y = lane / LANES_X;
    let column_first = (params.column_tile_first + workgroup.x) * PART_COLUMNS;
    var rows = stage_rows(lane, tile, column_first);
    // A tile beyond the last has no rows and no chunks.
    let inner = select(0u, params.inner, tile.row_first < tile.row_end);
    var acc: array<f32, ROWS * COLUMNS>;
    var a: array<RowTaken, A_LOADS>;
    var w: array<array<Taken, W_LOADS>, PARTS>;
    if (inner > 0u) { load(lane, &rows, 0u, &a, &w); }
    for (var chunk = 0u; chunk < inner; chunk += CHUNK) {
        stage(lane, &a, &w);
        // The next chunk is on its way while this one is multiplied; the last one comes once more.
        load(lane, &rows, select(chunk, chunk + CHUNK, chunk + CHUNK < inner), &a, &w);
        multiply(x, y, &acc);
    }
    for (var r = 0u; r < ROWS; r++) {
        let row = tile.row_first + y + r * LANES_Y;
        if (row < tile.row_end) {
            let scale = a_scale(row);
            for (var c = 0u; c < LANE_COLUMNS; c++) {
                let column = column_first + x + c * LANES_X;
                if (column < params.columns) {
                    let first = acc[r * COLUMNS + c] * scale;
                    let second = acc[r * COLUMNS + c + COLUMNS - LANE_COLUMNS] * scale;
                    result[params.result_first + row * params.result_stride + column] = finish(tile.expert, column, first, second);
                }
            }
        }
    }
}
