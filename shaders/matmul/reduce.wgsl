// The matmul for few rows: LANES_X lanes side by side walk the inner dims of the same columns, so that every row of weights is read
// once and in order, and add up at the end. A group of lanes owns COLUMNS columns of the ROWS rows of its tile.

const PARTS: u32 = select(1u, 2u, GATED);
const LANE_COLUMNS: u32 = COLUMNS / PARTS;
const GROUPS: u32 = WORKGROUP_SIZE / LANES_X;

fn dot_add(sum: f32, a: vec4<f32>, b: vec4<f32>) -> f32 {
    return fma(a.w, b.w, fma(a.z, b.z, fma(a.y, b.y, fma(a.x, b.x, sum))));
}

// Vector v of a unit, of every row and column, and of a itself where weights have an offset.
fn add_vector(
    v: u32, unit: u32, a_offset: array<u32, ROWS>, raw: ptr<function, array<array<Raw, LANE_COLUMNS>, PARTS>>,
    sum: ptr<function, array<f32, ROWS * COLUMNS>>, a_sum: ptr<function, array<vec4<f32>, ROWS>>,
) {
    var offset = a_offset;
    var a: array<vec4<f32>, ROWS>;
    for (var r = 0u; r < ROWS; r++) {
        a[r] = a_load4(offset[r], (unit * UNIT_VECS + v) * 4u);
        if (W_OFFSET != 0.0) { (*a_sum)[r] += a[r]; }
    }
    for (var part = 0u; part < PARTS; part++) {
        for (var c = 0u; c < LANE_COLUMNS; c++) {
            let w = w_vector(part, (*raw)[part][c], v);
            for (var r = 0u; r < ROWS; r++) {
                let i = r * COLUMNS + part * LANE_COLUMNS + c;
                (*sum)[i] = dot_add((*sum)[i], a[r], w);
            }
        }
    }
}

// A block of a unit: its numbers as they are stored, then once for all of them the offset and the scale.
// Unrolled by hand, since not every driver would: what is indexed by a variable leaves the registers.
fn add_block(
    block: u32, unit: u32, a_offset: array<u32, ROWS>, raw: ptr<function, array<array<Raw, LANE_COLUMNS>, PARTS>>,
    acc: ptr<function, array<f32, ROWS * COLUMNS>>,
) {
    var sum: array<f32, ROWS * COLUMNS>;
    var a_sum: array<vec4<f32>, ROWS>;
    add_vector(block * 8u, unit, a_offset, raw, &sum, &a_sum);
    add_vector(block * 8u + 1u, unit, a_offset, raw, &sum, &a_sum);
    add_vector(block * 8u + 2u, unit, a_offset, raw, &sum, &a_sum);
    add_vector(block * 8u + 3u, unit, a_offset, raw, &sum, &a_sum);
    add_vector(block * 8u + 4u, unit, a_offset, raw, &sum, &a_sum);
    add_vector(block * 8u + 5u, unit, a_offset, raw, &sum, &a_sum);
    add_vector(block * 8u + 6u, unit, a_offset, raw, &sum, &a_sum);
    add_vector(block * 8u + 7u, unit, a_offset, raw, &sum, &a_sum);
    for (var r = 0u; r < ROWS; r++) {
        let offset = W_OFFSET * dot(a_sum[r], vec4(1.0));
        for (var part = 0u; part < PARTS; part++) {
            for (var c = 0u; c < LANE_COLUMNS; c++) {
                let i = r * COLUMNS + part * LANE_COLUMNS + c;
                (*acc)[i] = fma(w_scale((*raw)[part][c], block), sum[i] - offset, (*acc)[i]);
            }
        }
    }
}

@compute @workgroup_size(WORKGROUP_SIZE)
fn matmul_reduce(
    @builtin(workgroup_id) workgroup: vec3<u32>, @builtin(num_workgroups) workgroups: vec3<u32>, place: LanePlace,
) {
    let lane = lane_index(place);
    let x = lane % LANES_X;
    let tile = tile_at(workgroup.y + workgroup.z * workgroups.y);
    let column_first = (params.column_tile_first + workgroup.x) * (GROUPS * LANE_COLUMNS) + lane / LANES_X;
    let row_last = max(tile.row_end, 1u) - 1u;
    var a_offset: array<u32, ROWS>;
    for (var r = 0u; r < ROWS; r++) { a_offset[r] = a_start(min(tile.row_first + r, row_last)); }
    var w_offset: array<array<u32, LANE_COLUMNS>, PARTS>;
    for (var c = 0u; c < LANE_COLUMNS; c++) {
        let column = min(column_first + c * GROUPS, params.columns - 1u);
        for (var part = 0u; part < PARTS; part++) { w_offset[part][c] = w_row(part, tile.expert, column); }
    }
    // A tile beyond the last has no rows and no units.
    let units = select(0u, (params.inner + 4u * UNIT_VECS - 1u) / (4u * UNIT_VECS), tile.row_first < tile.row_end);
    var acc: array<f32, ROWS * COLUMNS>;
    var no_sum: array<vec4<f32>, ROWS>;
    for (var first = 0u; first < units; first += LANES_X) {
        let unit = first + x;
        if (unit < units) {
            var raw: array<array<Raw, LANE_COLUMNS>, PARTS>;
            for (var part = 0u; part < PARTS; part++) {
                for (var c = 0u; c < LANE_COLUMNS; c++) { raw[part][c] = w_raw(part, w_offset[part][c], unit); }
            }
            if (UNIT_VECS >= 8u) {
                add_block(0u, unit, a_offset, &raw, &acc);
                if (UNIT_VECS > 8u) { add_block(1u, unit, a_offset, &raw, &acc); }
            } else {
                add_vector(0u, unit, a_offset, &raw, &acc, &no_sum);
                if (UNIT_VECS > 1u) { add_vector(1u, unit, a_offset, &raw, &acc, &no_sum); }
            }
        }
    }
    sum_lanes(lane, &acc);
    if (x == 0u) {
        for (var r = 0u; r < ROWS; r++) {
            let row = tile.row_first + r;
            if (row < tile.row_end) {
                let scale = a_scale(row);
                for (var c = 0u; c < LANE_COLUMNS; c++) {
                    let column = column_first + c * GROUPS;
                    if (column < params.columns) {
                        let first = acc[r * COLUMNS + c] * scale;
                        let second = acc[r * COLUMNS + c + COLUMNS - LANE_COLUMNS] * scale;
                        result[params.result_first + row * params.result_stride + column] = finish(tile.expert, column, first, second);
                    }
                }
            }
        }
    }
}
