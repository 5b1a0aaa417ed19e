// Sums over LANES_X lanes, by workgroup memory; only the first of the lanes gets them.

var<workgroup> wg_sum: array<f32, WORKGROUP_SIZE * ROWS * COLUMNS>;

fn sum_lanes(lane: u32, values: ptr<function, array<f32, ROWS * COLUMNS>>) {
    for (var i = 0u; i < ROWS * COLUMNS; i++) { wg_sum[i * WORKGROUP_SIZE + lane] = (*values)[i]; }
    for (var half = LANES_X / 2u; half > 0u; half /= 2u) {
        workgroupBarrier(); // the last sums are written
        if (lane % LANES_X < half) {
            for (var i = 0u; i < ROWS * COLUMNS; i++) {
                (*values)[i] += wg_sum[i * WORKGROUP_SIZE + lane + half];
                wg_sum[i * WORKGROUP_SIZE + lane] = (*values)[i];
            }
        }
    }
}
