// What the matmul tile stages and multiplies: numbers, in vectors of four.

alias Staged = vec4<f32>;
alias RowTaken = Staged;
const A_RUN: u32 = 1u;
const STRIDE: u32 = VECS + 1u;

// One chunk: ROWS × COLUMNS dot products over CHUNK dims, STEPS vectors a trip.
fn multiply(x: u32, y: u32, acc: ptr<function, array<f32, ROWS * COLUMNS>>) {
    for (var d = 0u; d < VECS; d += STEPS) {
        let a_first = y * STRIDE + d;
        let w_first = x * STRIDE + d;
        for (var step = 0u; step < STEPS; step++) {
            var w: array<vec4<f32>, COLUMNS>;
            for (var c = 0u; c < COLUMNS; c++) { w[c] = wg_stage[w_first + (W_FIRST + c * LANES_X * STRIDE + step)]; }
            var a: array<vec4<f32>, ROWS>;
            for (var r = 0u; r < ROWS; r++) { a[r] = wg_stage[a_first + (r * LANES_Y * STRIDE + step)]; }
            for (var c = 0u; c < COLUMNS; c++) {
                for (var r = 0u; r < ROWS; r++) { (*acc)[r * COLUMNS + c] = fma(a[r].x, w[c].x, (*acc)[r * COLUMNS + c]); }
                for (var r = 0u; r < ROWS; r++) { (*acc)[r * COLUMNS + c] = fma(a[r].y, w[c].y, (*acc)[r * COLUMNS + c]); }
                for (var r = 0u; r < ROWS; r++) { (*acc)[r * COLUMNS + c] = fma(a[r].z, w[c].z, (*acc)[r * COLUMNS + c]); }
                for (var r = 0u; r < ROWS; r++) { (*acc)[r * COLUMNS + c] = fma(a[r].w, w[c].w, (*acc)[r * COLUMNS + c]); }
            }
        }
    }
}

fn a_take(offset: u32, d: u32) -> RowTaken { return a_load4(offset, d); }
