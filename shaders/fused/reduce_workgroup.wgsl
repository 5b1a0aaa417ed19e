// Row maximum and sum over the LANES_X lanes of a row, through workgroup memory: for devices without subgroups, or with small ones.

const REDUCE_STRIDE: u32 = (LANES_X + 3u) / 4u;
var<workgroup> wg_reduce: array<vec4<f32>, TILE_Q * REDUCE_STRIDE>;

// One value of each lane goes in; the barrier is also the caller's: it ends all reading before it.
fn share(lane: u32, values: ptr<function, array<f32, ROWS>>) {
    for (var r = 0u; r < ROWS; r++) {
        let x = lane % LANES_X;
        wg_reduce[lane / LANES_X * REDUCE_STRIDE + x / 4u + r * LANES_Y * REDUCE_STRIDE][x % 4u] = (*values)[r];
    }
    workgroupBarrier(); // every lane's values are there
}

fn row_max(lane: u32, values: ptr<function, array<f32, ROWS>>) {
    share(lane, values);
    for (var r = 0u; r < ROWS; r++) {
        var best = vec4(LOWEST);
        for (var n = 0u; n < REDUCE_STRIDE; n++) {
            best = max(best, wg_reduce[lane / LANES_X * REDUCE_STRIDE + (r * LANES_Y * REDUCE_STRIDE + n)]);
        }
        (*values)[r] = max(max(best.x, best.y), max(best.z, best.w));
    }
}

fn row_sum(lane: u32, values: ptr<function, array<f32, ROWS>>) {
    share(lane, values);
    for (var r = 0u; r < ROWS; r++) {
        var sum = vec4(0.0);
        for (var n = 0u; n < REDUCE_STRIDE; n++) {
            sum += wg_reduce[lane / LANES_X * REDUCE_STRIDE + (r * LANES_Y * REDUCE_STRIDE + n)];
        }
        (*values)[r] = (sum.x + sum.y) + (sum.z + sum.w);
    }
}
