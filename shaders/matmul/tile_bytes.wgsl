// What the matmul tile stages and multiplies: of both operands blocks of 32 signed bytes with a scale. The products of a block are
// summed as integers, exactly, four at a time; its sum is scaled and added in f32.

alias RowTaken = Bytes;
const A_RUN: u32 = 8u;
const BLOCKS: u32 = CHUNK / 32u;
const STRIDE: u32 = 2u * BLOCKS + 1u; // in vectors of 16 bytes

var<workgroup> wg_stage: array<vec4<u32>, (TILE_ROWS + TILE_COLUMNS) * STRIDE>;
var<workgroup> wg_scale: array<f32, (TILE_ROWS + TILE_COLUMNS) * BLOCKS>;

fn stage_block(row: u32, block: u32, bytes: Bytes) {
    let first = row * STRIDE + 2u * block;
    wg_stage[first] = bytes.low;
    wg_stage[first + 1u] = bytes.high;
    wg_scale[row * BLOCKS + block] = bytes.scale;
}

// Stores what the lane has, between the barriers that keep others from reading.
fn stage(
    lane: u32, a: ptr<function, array<Bytes, A_LOADS>>, w: ptr<function, array<array<Taken, W_LOADS>, PARTS>>,
) {
    workgroupBarrier(); // the last chunk is no longer read
    for (var i = 0u; i < A_LOADS; i++) {
        let at = lane + i * WORKGROUP_SIZE;
        if (staged(at, A_COUNT)) { stage_block(at / BLOCKS, at % BLOCKS, (*a)[i]); }
    }
    for (var part = 0u; part < PARTS; part++) {
        for (var i = 0u; i < W_LOADS; i++) {
            let at = lane + i * WORKGROUP_SIZE;
            if (staged(at, W_COUNT)) {
                stage_block(TILE_ROWS + part * PART_COLUMNS + at / BLOCKS, at % BLOCKS, w_block(part, (*w)[part][i]));
            }
        }
    }
    workgroupBarrier(); // the chunk is staged
}

fn dot16(a: vec4<u32>, b: vec4<u32>, sum: i32) -> i32 {
    return dot4I8Packed(a.w, b.w) + (dot4I8Packed(a.z, b.z) + (dot4I8Packed(a.y, b.y) + (dot4I8Packed(a.x, b.x) + sum)));
}

// One chunk: ROWS × COLUMNS dot products over CHUNK dims.
fn multiply(x: u32, y: u32, acc: ptr<function, array<f32, ROWS * COLUMNS>>) {
    for (var block = 0u; block < BLOCKS; block++) {
        let a_first = y * STRIDE + 2u * block;
        let w_first = x * STRIDE + 2u * block;
        let a_scale = y * BLOCKS + block;
        let w_scale = x * BLOCKS + block;
        var low: array<vec4<u32>, ROWS>;
        var high: array<vec4<u32>, ROWS>;
        var scale: array<f32, ROWS>;
        for (var r = 0u; r < ROWS; r++) {
            low[r] = wg_stage[a_first + r * LANES_Y * STRIDE];
            high[r] = wg_stage[a_first + (r * LANES_Y * STRIDE + 1u)];
            scale[r] = wg_scale[a_scale + r * LANES_Y * BLOCKS];
        }
        for (var c = 0u; c < COLUMNS; c++) {
            let w_low = wg_stage[w_first + (TILE_ROWS + c * LANES_X) * STRIDE];
            let w_high = wg_stage[w_first + ((TILE_ROWS + c * LANES_X) * STRIDE + 1u)];
            let column_scale = wg_scale[w_scale + (TILE_ROWS + c * LANES_X) * BLOCKS];
            for (var r = 0u; r < ROWS; r++) {
                let sum = dot16(high[r], w_high, dot16(low[r], w_low, 0));
                (*acc)[r * COLUMNS + c] = fma(f32(sum), scale[r] * column_scale, (*acc)[r * COLUMNS + c]);
            }
        }
    }
}

fn a_take(offset: u32, d: u32) -> RowTaken { return a_block(offset, d); }
