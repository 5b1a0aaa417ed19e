// Row maximum and sum over the LANES_X lanes of a row, through workgroup memory: for devices without subgroups, or with small ones.
// A lane shares its values of ROW_VEC rows as one vector: lanes that write parts of the same vector race.

const ROW_VECS: u32 = ROWS / ROW_VEC;
var<workgroup> wg_reduce: array<RowVec, WORKGROUP_SIZE * ROW_VECS>;

// The barrier is also the caller's: it ends all reading before it.
fn share(lane: u32, values: ptr<function, array<f32, ROWS>>) {
    for (var n = 0u; n < ROW_VECS; n++) {
        var vector: RowVec;
        for (var r = 0u; r < ROW_VEC; r++) { vector[r] = (*values)[n * ROW_VEC + r]; }
        wg_reduce[lane + n * WORKGROUP_SIZE] = vector;
    }
    workgroupBarrier(); // every lane's values are there
}

fn row_max(lane: u32, values: ptr<function, array<f32, ROWS>>) {
    share(lane, values);
    let first = lane / LANES_X * LANES_X;
    for (var n = 0u; n < ROW_VECS; n++) {
        var best = wg_reduce[first + n * WORKGROUP_SIZE];
        for (var x = 1u; x < LANES_X; x++) { best = max(best, wg_reduce[first + (n * WORKGROUP_SIZE + x)]); }
        for (var r = 0u; r < ROW_VEC; r++) { (*values)[n * ROW_VEC + r] = best[r]; }
    }
}

fn row_sum(lane: u32, values: ptr<function, array<f32, ROWS>>) {
    share(lane, values);
    let first = lane / LANES_X * LANES_X;
    for (var n = 0u; n < ROW_VECS; n++) {
        var sum = wg_reduce[first + n * WORKGROUP_SIZE];
        for (var x = 1u; x < LANES_X; x++) { sum += wg_reduce[first + (n * WORKGROUP_SIZE + x)]; }
        for (var r = 0u; r < ROW_VEC; r++) { (*values)[n * ROW_VEC + r] = sum[r]; }
    }
}
