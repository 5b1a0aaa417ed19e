// The workgroup-memory family of the fused forward: a workgroup owns TILE_Q query rows and walks the key tiles; lane (x, y) owns
// ROWS rows × COLS scores of a tile and, of the same rows, VALUE_VECS vec4 of the output.
// Rows are interleaved, row i of a lane is y + LANES_Y * i, so that lanes side by side read neighbouring rows; odd row strides keep
// them in different banks. Keys of a lane are neighbours, so that its weights are too.

const LANES_X: u32 = TILE_KV / COLS;
const LANES_Y: u32 = TILE_Q / ROWS;
const HEAD_CHUNKS: u32 = (HEAD_DIM + HEAD_CHUNK - 1u) / HEAD_CHUNK;
const HEAD_VECS: u32 = HEAD_CHUNK / 4u;
const Q_STRIDE: u32 = HEAD_VECS * select(1u, HEAD_CHUNKS, Q_STAYS) + 1u;
const K_STRIDE: u32 = HEAD_VECS + 1u;
const VALUE_VECS: u32 = (VALUE_DIM + 4u * LANES_X - 1u) / (4u * LANES_X);
const VALUE_STRIDE: u32 = VALUE_VECS * LANES_X;
const WEIGHT_STRIDE: u32 = TILE_KV / 4u + 1u;

// One array, two lives: first a chunk of q and of k, then the weights and a chunk of v. Where q stays, the others share the rest.
// Stage4 is a vector of f32, or of f16 where all that is staged is: sums are f32 either way.
const K_FIRST: u32 = TILE_Q * Q_STRIDE;
const P_FIRST: u32 = select(0u, K_FIRST, Q_STAYS);
const V_FIRST: u32 = P_FIRST + TILE_Q * WEIGHT_STRIDE;
const Q_COUNT: u32 = TILE_Q * HEAD_VECS;
const K_COUNT: u32 = TILE_KV * HEAD_VECS;
const V_COUNT: u32 = KEY_CHUNK * VALUE_STRIDE;
const Q_LOADS: u32 = (Q_COUNT + WORKGROUP_SIZE - 1u) / WORKGROUP_SIZE;
const K_LOADS: u32 = (K_COUNT + WORKGROUP_SIZE - 1u) / WORKGROUP_SIZE;
const V_LOADS: u32 = (V_COUNT + WORKGROUP_SIZE - 1u) / WORKGROUP_SIZE;
var<workgroup> wg_tile: array<Stage4, max(K_FIRST + TILE_KV * K_STRIDE, V_FIRST + V_COUNT)>;
var<workgroup> wg_q_offset: array<u32, TILE_Q>;
var<workgroup> wg_overflows: u32; // not 0 where sums are not finite, written by lanes that find it so
var<workgroup> wg_not_finite: atomic<u32>; // not 0 from the first tile on where a row may drop a value that is not finite

fn load_q(lane: u32, chunk: u32, q: ptr<function, array<Stage4, Q_LOADS>>) {
    for (var i = 0u; i < Q_LOADS; i++) {
        let at = staging(lane + i * WORKGROUP_SIZE, Q_COUNT);
        let value = q_load4(wg_q_offset[at / HEAD_VECS], chunk * HEAD_CHUNK + at % HEAD_VECS * 4u);
        (*q)[i] = Stage4(select(value, value * params.exp_scale, Q_SCALED));
    }
}
fn store_q(lane: u32, first: u32, q: ptr<function, array<Stage4, Q_LOADS>>) {
    for (var i = 0u; i < Q_LOADS; i++) {
        let at = lane + i * WORKGROUP_SIZE;
        if (staged(at, Q_COUNT)) { wg_tile[at / HEAD_VECS * Q_STRIDE + first + at % HEAD_VECS] = (*q)[i]; }
    }
}

// Scores of one chunk: ROWS × COLS dot products over HEAD_CHUNK dims.
fn add_scores(x: u32, y: u32, q_dim: u32, s: ptr<function, array<f32, ROWS * COLS>>) {
    for (var d = 0u; d < HEAD_VECS; d += HEAD_STEPS) {
        let q_first = y * Q_STRIDE + q_dim + d;
        let k_first = x * K_STRIDE + d;
        for (var step = 0u; step < HEAD_STEPS; step++) {
            var k: array<vec4<f32>, COLS>;
            for (var c = 0u; c < COLS; c++) {
                k[c] = vec4<f32>(wg_tile[k_first + (K_FIRST + c * LANES_X * K_STRIDE + step)]);
            }
            var q: array<vec4<f32>, ROWS>;
            for (var r = 0u; r < ROWS; r++) { q[r] = vec4<f32>(wg_tile[q_first + (r * LANES_Y * Q_STRIDE + step)]); }
            for (var c = 0u; c < COLS; c++) {
                for (var r = 0u; r < ROWS; r++) { (*s)[r * COLS + c] = fma(q[r].x, k[c].x, (*s)[r * COLS + c]); }
                for (var r = 0u; r < ROWS; r++) { (*s)[r * COLS + c] = fma(q[r].y, k[c].y, (*s)[r * COLS + c]); }
                for (var r = 0u; r < ROWS; r++) { (*s)[r * COLS + c] = fma(q[r].z, k[c].z, (*s)[r * COLS + c]); }
                for (var r = 0u; r < ROWS; r++) { (*s)[r * COLS + c] = fma(q[r].w, k[c].w, (*s)[r * COLS + c]); }
            }
        }
    }
}

// Modifiers and mask, element by element; keys and rows that are not there are never asked about.
fn finish_scores(block: Block, tile: u32, tests: bool, x: u32, y: u32, s: ptr<function, array<f32, ROWS * COLS>>) {
    var keys: array<u32, COLS>;
    for (var c = 0u; c < COLS; c++) { keys[c] = domain_key(block, tile, x * COLS + c); }
    for (var r = 0u; r < ROWS; r++) {
        let row = domain_row(block, y + r * LANES_Y);
        if (row.valid) {
            for (var c = 0u; c < COLS; c++) {
                var score = modified_score(row, key_within(block, keys[c]), (*s)[r * COLS + c]);
                if (tests) { score = masked_score(block, row, keys[c], score); }
                (*s)[r * COLS + c] = score;
            }
        }
    }
}

// The walk over a block's tiles, with row maxima lifted.
fn walk(
    block: Block, lane: u32, x: u32, y: u32, lift: f32,
    acc: ptr<function, array<vec4<f32>, ROWS * VALUE_VECS>>, m: ptr<function, array<f32, ROWS>>, l: ptr<function, array<f32, ROWS>>,
) {
    for (var r = 0u; r < ROWS; r++) {
        (*m)[r] = LOWEST;
        (*l)[r] = 0.0;
        for (var n = 0u; n < VALUE_VECS; n++) { (*acc)[r * VALUE_VECS + n] = vec4(0.0); }
    }
    for (var tile = block.tile_first; tile < block.tile_end; tile++) {
        let state = domain_tile_state(block, tile);
        if (state == EMPTY_TILE) { tile = empty_to(block, tile); continue; }

        var k_rows: array<u32, K_LOADS>; // the same for every chunk
        for (var i = 0u; i < K_LOADS; i++) {
            let slot = staging(lane + i * WORKGROUP_SIZE, K_COUNT) / HEAD_VECS;
            // Slots hold the first key of every lane, then the second of every lane, …
            let key = domain_key(block, tile, slot % LANES_X * COLS + slot / LANES_X);
            k_rows[i] = k_offset(block, key_within(block, key));
        }
        var s: array<f32, ROWS * COLS>;
        for (var i = 0u; i < ROWS * COLS; i++) { s[i] = 0.0; }
        for (var chunk = 0u; chunk < HEAD_CHUNKS; chunk++) {
            var q: array<Stage4, Q_LOADS>;
            if (!Q_STAYS) { load_q(lane, chunk, &q); }
            var k: array<Stage4, K_LOADS>;
            for (var i = 0u; i < K_LOADS; i++) {
                let at = staging(lane + i * WORKGROUP_SIZE, K_COUNT);
                k[i] = Stage4(k_load4(k_rows[i], chunk * HEAD_CHUNK + at % HEAD_VECS * 4u));
            }
            workgroupBarrier(); // the last chunk of k, or of v, is no longer read
            if (!Q_STAYS) { store_q(lane, 0u, &q); }
            for (var i = 0u; i < K_LOADS; i++) {
                let at = lane + i * WORKGROUP_SIZE;
                if (staged(at, K_COUNT)) { wg_tile[at / HEAD_VECS * K_STRIDE + at % HEAD_VECS + K_FIRST] = k[i]; }
            }
            workgroupBarrier(); // the chunk is staged
            add_scores(x, y, select(0u, chunk * HEAD_VECS, Q_STAYS), &s);
        }
        if (!SCORE_RAW || state == PARTIAL_TILE) { finish_scores(block, tile, state == PARTIAL_TILE, x, y, &s); }

        var tile_max: array<f32, ROWS>;
        for (var r = 0u; r < ROWS; r++) {
            tile_max[r] = s[r * COLS];
            for (var c = 1u; c < COLS; c++) { tile_max[r] = max(tile_max[r], s[r * COLS + c]); }
        }
        row_max(lane, &tile_max); // holds a barrier: the last chunk of k is no longer read
        for (var r = 0u; r < ROWS; r++) {
            let lifting = lifted((*m)[r], tile_max[r] + lift);
            (*m)[r] = lifting.m;
            for (var n = 0u; n < VALUE_VECS; n++) { (*acc)[r * VALUE_VECS + n] *= lifting.rescale; }
            (*l)[r] *= lifting.rescale;
        }
        var weights: array<f32, ROWS * COLS>;
        for (var i = 0u; i < ROWS * COLS; i++) { weights[i] = norm_weight(s[i], (*m)[i / COLS]); }
        if (some_dropped(state)) { // both ways whole: a merge after the test alone costs a move a weight
            store_weights(true, x, y, &s, &weights, l);
        } else {
            store_weights(false, x, y, &s, &weights, l);
        }

        for (var chunk = 0u; chunk < TILE_KV; chunk += KEY_CHUNK) {
            var v: array<Stage4, V_LOADS>;
            for (var i = 0u; i < V_LOADS; i++) {
                let at = staging(lane + i * WORKGROUP_SIZE, V_COUNT);
                let key = domain_key(block, tile, chunk + at / VALUE_STRIDE);
                let value = v_load4(v_offset(block, key_within(block, key)), at % VALUE_STRIDE * 4u);
                v[i] = Stage4(select(vec4(0.0), value, key_exists(block, key)));
            }
            if (some_dropped(state)) {
                var found = false;
                for (var i = 0u; i < V_LOADS; i++) {
                    let value = vec4<f32>(v[i]);
                    found |= any(not_finite(value));
                    v[i] = Stage4(finite_part(value));
                }
                if (found) { atomicStore(&wg_not_finite, 1u); }
            }
            if (chunk > 0u) { workgroupBarrier(); } // the last chunk of v is no longer read
            for (var i = 0u; i < V_LOADS; i++) {
                let at = lane + i * WORKGROUP_SIZE;
                if (staged(at, V_COUNT)) { wg_tile[at + V_FIRST] = v[i]; }
            }
            workgroupBarrier(); // the weights are written, the chunk is staged
            add_values(x, y, chunk / 4u, acc);
            if (some_dropped(state) && atomicLoad(&wg_not_finite) != 0u) { add_values_not_finite(block, tile, chunk, x, y, acc); }
        }
    }
}

@compute @workgroup_size(WORKGROUP_SIZE)
fn fused_forward_tile(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(num_workgroups) workgroups: vec3<u32>, place: LanePlace) {
    let block = domain_block(workgroup.x + workgroup.y * workgroups.x);
    let lane = lane_index(place);
    let x = lane % LANES_X;
    let y = lane / LANES_X;
    for (var r = lane; r < TILE_Q; r += WORKGROUP_SIZE) {
        let row = domain_row(block, r);
        wg_q_offset[r] = select(0u, q_offset(row), row.valid); // a row that is not there computes with some row and is not stored
    }
    if (lane == 0u) {
        atomicStore(&wg_not_finite, 0u);
        wg_overflows = 0u;
    }
    workgroupBarrier(); // wg_q_offset and what lane 0 wrote are written
    if (Q_STAYS) {
        for (var chunk = 0u; chunk < HEAD_CHUNKS; chunk++) {
            var q: array<Stage4, Q_LOADS>;
            load_q(lane, chunk, &q);
            store_q(lane, chunk * HEAD_VECS, &q);
        }
    }

    var acc: array<vec4<f32>, ROWS * VALUE_VECS>;
    var m: array<f32, ROWS>;
    var l: array<f32, ROWS>;
    var lift = 0.0;
    loop {
        walk(block, lane, x, y, lift, &acc, &m, &l);
        if (!MAY_OVERFLOW || lift != 0.0) { break; }
        var overflows = false;
        for (var i = 0u; i < ROWS * VALUE_VECS; i++) { overflows |= any(not_finite(acc[i])) && !is_nan(l[i / VALUE_VECS]); }
        if (overflows) { wg_overflows = 1u; }
        if (workgroupUniformLoad(&wg_overflows) == 0u) { break; }
        lift = overflow_lift(block);
    }

    row_sum(lane, &l);
    for (var r = 0u; r < ROWS; r++) {
        let row = domain_row(block, y + r * LANES_Y);
        if (row.valid) {
            for (var n = 0u; n < VALUE_VECS; n++) {
                let d = (x + n * LANES_X) * 4u;
                if (d < VALUE_DIM) { emit4(block, row, d, acc[r * VALUE_VECS + n], m[r], l[r]); }
            }
            if (x == 0u) { emit_lse(block, row, m[r], l[r]); }
        }
    }
}
