// Row maximum and sum over the LANES_X lanes of a row, within a subgroup.
// Both functions hold a workgroup barrier, as those of reduce_workgroup do, and callers rely on it.

fn row_max(lane: u32, values: ptr<function, array<f32, ROWS>>) {
    for (var r = 0u; r < ROWS; r++) { (*values)[r] = lanes_max((*values)[r]); }
    workgroupBarrier(); // the caller's
}

fn row_sum(lane: u32, values: ptr<function, array<f32, ROWS>>) {
    for (var r = 0u; r < ROWS; r++) { (*values)[r] = lanes_sum((*values)[r]); }
    workgroupBarrier(); // the caller's
}
