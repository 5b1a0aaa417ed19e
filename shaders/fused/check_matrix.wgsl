// A · B + C and A · Bᵀ + C of one matrix each: whether a device's matrices are laid out as fused_forward_matrix takes them. All
// numbers are small and whole, so that results are exact.

const STRIDE: u32 = SIZE / 4u + 2u;
const SUM_STRIDE: u32 = SIZE / 4u + 1u;
var<workgroup> wg_left: array<vec4<f16>, SIZE * STRIDE>;
var<workgroup> wg_right: array<vec4<f16>, SIZE * STRIDE>;
var<workgroup> wg_sums: array<vec4<f32>, 2u * SIZE * SUM_STRIDE>;

@compute @workgroup_size(WORKGROUP_SIZE)
fn fused_check_matrix(@builtin(local_invocation_index) lane: u32) {
    for (var at = lane; at < SIZE * SIZE / 4u; at += WORKGROUP_SIZE) {
        let row = at / (SIZE / 4u);
        let column = at % (SIZE / 4u);
        let place = row * SIZE + column * 4u;
        wg_left[row * STRIDE + column] = vec4<f16>(left[place / 4u]);
        wg_right[row * STRIDE + column] = vec4<f16>(right[place / 4u]);
        wg_sums[row * SUM_STRIDE + column] = start[place / 4u];
    }
    workgroupBarrier(); // the factors are written
    let factor = coopLoadT<RowMatrix>(&wg_left[0], STRIDE);
    let sum = coopLoadT<SumMatrix>(&wg_sums[0], SUM_STRIDE);
    let by_rows = coopMultiplyAdd(factor, coopLoadT<ColumnMatrix>(&wg_right[0], STRIDE), sum);
    let by_columns = coopMultiplyAdd(factor, coopLoad<ColumnMatrix>(&wg_right[0], STRIDE), sum);
    workgroupBarrier(); // the sums are read
    let second = SIZE * SUM_STRIDE;
    coopStoreT(by_rows, &wg_sums[0], SUM_STRIDE);
    coopStoreT(by_columns, &wg_sums[second], SUM_STRIDE);
    workgroupBarrier(); // the results are written
    for (var at = lane; at < 2u * SIZE * SIZE / 4u; at += WORKGROUP_SIZE) {
        result[at] = wg_sums[at / (SIZE / 4u) * SUM_STRIDE + at % (SIZE / 4u)];
    }
}
