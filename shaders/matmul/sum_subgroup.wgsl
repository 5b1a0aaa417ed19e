// Sums over LANES_X lanes, within a subgroup.

fn sum_lanes(lane: u32, values: ptr<function, array<f32, ROWS * COLUMNS>>) {
    for (var i = 0u; i < ROWS * COLUMNS; i++) { (*values)[i] = lanes_sum((*values)[i]); }
}
