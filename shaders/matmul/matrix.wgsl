// The matmul in cooperative matrices of halves: a workgroup owns TILE_ROWS × TILE_COLUMNS results and stages a chunk of the inner
// dims at a time; a subgroup owns ROW_MATRICES × COLUMN_MATRICES matrices of sums. Those are read through workgroup memory at the
// end, a strip of them at a time, by lanes that finish them.
// GATED: one half of a tile's columns is the gate's, the other up's; a subgroup owns as many matrices of each.
// A_WIDE: a is f32. Where a tile of it leaves the range of halves, it is done again with a scaled by a power of two.

alias Staged = vec4<f16>;
const A_RUN: u32 = 1u;
const LANES_X: u32 = 1u;
const MATRIX_VECS: u32 = MATRIX / 4u;
// 16 bytes more than a row keep rows in different banks, and aligned as matrices want them.
const STRIDE: u32 = VECS + 2u;
const PART_MATRICES: u32 = COLUMN_MATRICES / PARTS;
// What is finished at once, a strip: a matrix of each part of each subgroup.
const STRIP_COLUMNS: u32 = SUBGROUP_COLUMNS * MATRIX;
const STRIP_COUNT: u32 = SUBGROUP_ROWS * MATRIX * STRIP_COLUMNS;
const SUM_STRIDE: u32 = PARTS * STRIP_COLUMNS / 4u + 1u;

var<workgroup> wg_sums: array<vec4<f32>, SUBGROUP_ROWS * MATRIX * SUM_STRIDE>;

var<workgroup> wg_most: atomic<u32>;
var<workgroup> wg_scale: f32;

struct Owner {
    lane: u32,
    row: u32,    // first matrix of rows of the subgroup, in rows
    column: u32, // first matrix of columns of each part
    strip_row: u32,
    strip_column: u32,
}

// Where matrix n of a subgroup has its columns in the tile.
fn matrix_column(owner: Owner, n: u32) -> u32 {
    return n / PART_MATRICES * PART_COLUMNS + owner.column + n % PART_MATRICES * MATRIX;
}

fn multiply(owner: Owner, acc: ptr<function, array<SumMatrix, SUM_MATRICES>>) {
    for (var d = 0u; d < VECS; d += MATRIX_VECS) {
        var w: array<ColumnMatrix, COLUMN_MATRICES>;
        for (var n = 0u; n < COLUMN_MATRICES; n++) { // unrolled
            let at = W_FIRST + matrix_column(owner, n) * STRIDE + d;
            w[n] = coopLoad<ColumnMatrix>(&wg_stage[at], STRIDE);
        }
        for (var r = 0u; r < ROW_MATRICES; r++) { // unrolled
            let at = (owner.row + r * MATRIX) * STRIDE + d;
            let a = coopLoadT<RowMatrix>(&wg_stage[at], STRIDE);
            for (var n = 0u; n < COLUMN_MATRICES; n++) { // unrolled
                (*acc)[r * COLUMN_MATRICES + n] = coopMultiplyAdd(a, w[n], (*acc)[r * COLUMN_MATRICES + n]);
            }
        }
    }
}

// By what to scale a tile of a, whose largest halves of a lane are `most`: 1, or less where some became infinite.
fn tile_scale(lane: u32, tile: Tile, inner: u32, most: vec4<f16>) -> f32 {
    if (lane == 0u) { wg_scale = 1.0; }
    workgroupBarrier(); // the scale is set
    if (any(most > vec4<f16>(65504.0h))) { wg_scale = 0.0; }
    if (workgroupUniformLoad(&wg_scale) == 1.0) { return 1.0; }
    if (lane == 0u) { atomicStore(&wg_most, 0u); }
    workgroupBarrier(); // the largest is set
    var largest = vec4(0.0);
    for (var row = tile.row_first; row < min(tile.row_first + TILE_ROWS, tile.row_end); row++) {
        for (var d = lane * 4u; d < inner; d += WORKGROUP_SIZE * 4u) {
            let value = abs(a_load4(a_start(row), d));
            largest = select(largest, value, (value > largest) & (value <= vec4(3.4028234663852886e38)));
        }
    }
    atomicMax(&wg_most, bitcast<u32>(max(max(largest.x, largest.y), max(largest.z, largest.w))));
    workgroupBarrier(); // the largest is found
    // Below 2^15: its exponent, biased by 127, is brought to 141.
    if (lane == 0u) { wg_scale = bitcast<f32>((268u - max(atomicLoad(&wg_most) >> 23u, 141u)) << 23u); }
    return workgroupUniformLoad(&wg_scale);
}

// Writes strip n where lanes read it. Callers say n as a constant: matrices that are chosen at run time would lie in memory.
fn store_strip(owner: Owner, n: u32, acc: ptr<function, array<SumMatrix, SUM_MATRICES>>) {
    for (var part = 0u; part < PARTS; part++) {
        let at = owner.strip_row * SUM_STRIDE + (part * STRIP_COLUMNS + owner.strip_column) / 4u;
        let matrix = n / PART_MATRICES * COLUMN_MATRICES + part * PART_MATRICES + n % PART_MATRICES;
        coopStoreT((*acc)[matrix], &wg_sums[at], SUM_STRIDE);
    }
}

fn finish_strip(owner: Owner, tile: Tile, column_first: u32, tile_scale: f32, n: u32) {
    for (var at = owner.lane; at < STRIP_COUNT; at += WORKGROUP_SIZE) {
        let y = at / STRIP_COLUMNS;
        let x = at % STRIP_COLUMNS;
        let row = tile.row_first + (y / MATRIX * ROW_MATRICES + n / PART_MATRICES) * MATRIX + y % MATRIX;
        let column = column_first + (x / MATRIX * PART_MATRICES + n % PART_MATRICES) * MATRIX + x % MATRIX;
        if (row < tile.row_end && column < params.columns) {
            let scale = a_scale(row) / tile_scale;
            let z = x + (PARTS - 1u) * STRIP_COLUMNS;
            let first = wg_sums[y * SUM_STRIDE + x / 4u][x % 4u] * scale;
            let second = wg_sums[y * SUM_STRIDE + z / 4u][z % 4u] * scale;
            result[params.result_first + row * params.result_stride + column] = finish(tile.expert, column, first, second);
        }
    }
}

fn load(
    lane: u32, rows: ptr<function, StageRows>, chunk: u32, scale: f32,
    a: ptr<function, array<Staged, A_LOADS>>, w: ptr<function, array<array<Taken, W_LOADS>, PARTS>>,
) {
    for (var i = 0u; i < A_LOADS; i++) {
        let d = stage_dim(lane, i, A_COUNT, 1u, chunk);
        if (A_WIDE) {
            (*a)[i] = vec4<f16>(a_load4((*rows).a[i], d) * scale);
        } else {
            (*a)[i] = a_half4((*rows).a[i], d);
        }
    }
    for (var part = 0u; part < PARTS; part++) {
        for (var i = 0u; i < W_LOADS; i++) {
            (*w)[part][i] = w_take(part, (*rows).w[part][i], stage_dim(lane, i, W_COUNT, RUN, chunk));
        }
    }
}

@compute @workgroup_size(WORKGROUP_SIZE)
fn matmul_matrix(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(num_workgroups) workgroups: vec3<u32>, place: LanePlace) {
    let tile = tile_at(workgroup.y + workgroup.z * workgroups.y);
    let lane = lane_index(place);
    // Where subgroups are smaller than the largest that the device has, several do the same matrices.
    let y = place.subgroup / SUBGROUP_COLUMNS % SUBGROUP_ROWS;
    let x = place.subgroup % SUBGROUP_COLUMNS;
    let owner = Owner(lane, y * (ROW_MATRICES * MATRIX), x * (PART_MATRICES * MATRIX), y * MATRIX, x * MATRIX);
    let column_first = (params.column_tile_first + workgroup.x) * PART_COLUMNS;
    var rows = stage_rows(lane, tile, column_first);
    // A tile beyond the last has no rows and no chunks.
    let inner = select(0u, params.inner, tile.row_first < tile.row_end);
    var acc: array<SumMatrix, SUM_MATRICES>;
    var scale = 1.0;
    loop {
        for (var i = 0u; i < SUM_MATRICES; i++) { // unrolled
            acc[i] = SumMatrix();
        }
        var most = vec4<f16>();
        var a: array<Staged, A_LOADS>;
        var w: array<array<Taken, W_LOADS>, PARTS>;
        if (inner > 0u) { load(lane, &rows, 0u, scale, &a, &w); }
        for (var chunk = 0u; chunk < inner; chunk += CHUNK) {
            if (A_WIDE) {
                for (var i = 0u; i < A_LOADS; i++) { most = max(most, abs(a[i])); }
            }
            stage(lane, &a, &w);
            // The next chunk is on its way while this one is multiplied; the last one comes once more.
            load(lane, &rows, select(chunk, chunk + CHUNK, chunk + CHUNK < inner), scale, &a, &w);
            multiply(owner, &acc);
        }
        if (!A_WIDE || scale != 1.0) { break; }
        scale = tile_scale(lane, tile, inner, most);
        if (scale == 1.0) { break; }
    }
    for (var n = 0u; n < STRIPS; n++) { // unrolled
        store_strip(owner, n, &acc);
        workgroupBarrier(); // the strip is written
        finish_strip(owner, tile, column_first, scale, n);
        workgroupBarrier(); // and read
    }
}
