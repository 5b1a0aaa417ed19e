// The cooperative-matrix family of the fused forward: a subgroup owns ROW_MATRICES matrices of query rows, holds them and their
// outputs in registers, and walks the key tiles, which the workgroup stages in halves. Scores go through workgroup memory, where
// lanes (not matrices) mask and weigh them; outputs go there only when a row's maximum rises by more than RISE, and at the end.

const LANES_X: u32 = max(1u, WORKGROUP_SIZE / TILE_Q);     // lanes of a row
const LANES_Y: u32 = WORKGROUP_SIZE / LANES_X;
const MATRIX_VECS: u32 = MATRIX / 4u;
const HEAD_VECS: u32 = HEAD_MATRICES * MATRIX_VECS;
const VALUE_VECS: u32 = VALUE_MATRICES * MATRIX_VECS;
const LANE_VECS: u32 = TILE_KV / 4u / LANES_X;
// 16 bytes more than a row keep rows in different banks, and aligned as matrices want them.
const STAGE_STRIDE: u32 = HEAD_VECS + 2u;
const SCORE_STRIDE: u32 = TILE_KV / 4u + 1u;
const WEIGHT_STRIDE: u32 = TILE_KV / 4u + 2u;
const Q_COUNT: u32 = TILE_Q * HEAD_VECS;
const K_COUNT: u32 = TILE_KV * HEAD_VECS;
// v lies as it is or turned (TURN_V), so that a lane that holds a column of a matrix reads it by vectors; it is moved in blocks
// of four keys by four dims.
const V_STRIDE: u32 = select(VALUE_VECS, TILE_KV / 4u, TURN_V) + 2u;
const V_ROWS: u32 = select(TILE_KV, VALUE_VECS * 4u, TURN_V);
const V_COUNT: u32 = TILE_KV / 4u * VALUE_VECS;
const Q_LOADS: u32 = (Q_COUNT + WORKGROUP_SIZE - 1u) / WORKGROUP_SIZE;
const K_LOADS: u32 = (K_COUNT + WORKGROUP_SIZE - 1u) / WORKGROUP_SIZE;
const V_LOADS: u32 = (V_COUNT + WORKGROUP_SIZE - 1u) / WORKGROUP_SIZE;
// In log2 units: weights stay below 2^8, far from the end of halves.
const RISE: f32 = 8.0;
const LEFT_OUT: u32 = 2u; // of a word of wg_raised: v's stage leaves out what is not finite

var<workgroup> wg_stage: array<vec4<f16>, max(max(TILE_Q, TILE_KV) * STAGE_STRIDE, V_ROWS * V_STRIDE)>; // q, then k and v in turn
var<workgroup> wg_scores: array<vec4<f32>, TILE_Q * SCORE_STRIDE>;              // or a piece of the outputs
var<workgroup> wg_weights: array<vec4<f16>, TILE_Q * WEIGHT_STRIDE>;
var<workgroup> wg_raised: array<u32, 8>;

// Modifiers and mask of four scores; keys and rows that are not there are never asked about.
fn finish_scores(block: Block, row: Row, tile: u32, column: u32, tests: bool, scores: vec4<f32>) -> vec4<f32> {
    var s = scores;
    for (var c = 0u; c < 4u; c++) {
        let place_key = domain_key(block, tile, column + c);
        s[c] = modified_score(row, key_within(block, place_key), s[c]);
        if (tests) { s[c] = masked_score(block, row, place_key, s[c]); }
    }
    return s;
}

// Adds to a lane's part of a piece what is not finite in the values of a tile, which v's stage leaves out, of the keys that a row
// does not drop. It is rare, read anew, and kept small: loops end where compilers do not know.
fn add_values_not_finite(block: Block, tile: u32, piece: u32, x: u32, y: u32) {
    let keys = select(0u, TILE_KV, block.tile_end != 0u);
    for (var column = x; column < min(TILE_KV / 4u, keys); column += LANES_X) {
        let d = piece_dim(piece, column * 4u);
        for (var row = y; row < TILE_Q; row += LANES_Y) {
            for (var key = 0u; key < keys; key++) {
                let place = domain_key(block, tile, key);
                if (!key_exists(block, place)) { continue; }
                let value = v_load4(v_offset(block, key_within(block, place)), d);
                let weight = f32(wg_weights[row * WEIGHT_STRIDE + key / 4u][key % 4u]);
                wg_scores[row * SCORE_STRIDE + column] = add_not_finite(wg_scores[row * SCORE_STRIDE + column], weight, value);
            }
        }
    }
}

// Whether a subgroup raised a maximum, or staged v without what is not finite in it: read alike by all lanes, as branches around
// matrices want it.
fn any_raised() -> u32 {
    return wg_raised[0] | wg_raised[1] | wg_raised[2] | wg_raised[3] | wg_raised[4] | wg_raised[5] | wg_raised[6] | wg_raised[7];
}

fn load_k(block: Block, tile: u32, lane: u32, k: ptr<function, array<vec4<f16>, K_LOADS>>) {
    for (var i = 0u; i < K_LOADS; i++) {
        let at = staging(lane + i * WORKGROUP_SIZE, K_COUNT);
        let key = domain_key(block, tile, at / HEAD_VECS);
        (*k)[i] = vec4<f16>(k_load4(k_offset(block, key_within(block, key)), at % HEAD_VECS * 4u));
    }
}

@compute @workgroup_size(WORKGROUP_SIZE)
fn fused_forward_matrix(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(num_workgroups) workgroups: vec3<u32>, place: LanePlace) {
    let block = domain_block(workgroup.x + workgroup.y * workgroups.x);
    let lane = lane_index(place);
    let x = lane % LANES_X;
    let y = lane / LANES_X;
    // Where subgroups are smaller than the largest that the device has, several do the same rows' matrices.
    let row_first = place.subgroup % SUBGROUPS * (ROW_MATRICES * MATRIX);
    for (var i = 0u; i < Q_LOADS; i++) {
        let at = lane + i * WORKGROUP_SIZE;
        let row = domain_row(block, staging(at, Q_COUNT) / HEAD_VECS);
        let q = q_load4(select(0u, q_offset(row), row.valid), at % HEAD_VECS * 4u);
        if (staged(at, Q_COUNT)) { wg_stage[at / HEAD_VECS * STAGE_STRIDE + at % HEAD_VECS] = vec4<f16>(q); }
    }
    workgroupBarrier(); // q is staged
    var q: array<RowMatrix, ROW_MATRICES * HEAD_MATRICES>;
    for (var r = 0u; r < ROW_MATRICES; r++) {
        for (var d = 0u; d < HEAD_MATRICES; d++) {
            let at = (row_first + r * MATRIX) * STAGE_STRIDE + d * MATRIX_VECS;
            q[r * HEAD_MATRICES + d] = coopLoadT<RowMatrix>(&wg_stage[at], STAGE_STRIDE);
        }
    }
    var acc: array<SumMatrix, SUM_MATRICES>;
    for (var i = 0u; i < SUM_MATRICES; i++) { acc[i] = SumMatrix(); }
    var m: array<f32, ROWS>;
    var l: array<f32, ROWS>;
    if (lane < 8u) { wg_raised[lane] = 0u; }
    for (var r = 0u; r < ROWS; r++) { m[r] = LOWEST; }

    // What a tile needs of memory is on its way before it is its turn: v while the scores are multiplied, k of the next tile
    // while the values are.
    var k: array<vec4<f16>, K_LOADS>;
    var tile = tile_from(block, block.tile_first);
    if (tile < block.tile_end) { load_k(block, tile, lane, &k); }
    while (tile < block.tile_end) {
        let state = domain_tile_state(block, tile);
        let next = tile_from(block, tile + 1u);
        workgroupBarrier(); // q, or v of the last tile, is no longer read
        for (var i = 0u; i < K_LOADS; i++) {
            let at = lane + i * WORKGROUP_SIZE;
            if (staged(at, K_COUNT)) { wg_stage[at / HEAD_VECS * STAGE_STRIDE + at % HEAD_VECS] = k[i]; }
        }
        workgroupBarrier(); // k is staged
        var v: array<vec4<f16>, V_LOADS * 4u>;
        for (var i = 0u; i < V_LOADS; i++) {
            let at = staging(lane + i * WORKGROUP_SIZE, V_COUNT);
            for (var c = 0u; c < 4u; c++) {
                let key = domain_key(block, tile, at / VALUE_VECS * 4u + c);
                let value = v_load4(v_offset(block, key_within(block, key)), at % VALUE_VECS * 4u);
                v[i * 4u + c] = vec4<f16>(select(vec4(0.0), value, key_exists(block, key)));
            }
        }
        for (var n = 0u; n < KEY_MATRICES; n++) {
            var s: array<SumMatrix, ROW_MATRICES>;
            for (var r = 0u; r < ROW_MATRICES; r++) { s[r] = SumMatrix(); }
            for (var d = 0u; d < HEAD_MATRICES; d++) {
                let at = n * (MATRIX * STAGE_STRIDE) + d * MATRIX_VECS;
                let keys = coopLoad<ColumnMatrix>(&wg_stage[at], STAGE_STRIDE);
                for (var r = 0u; r < ROW_MATRICES; r++) { s[r] = coopMultiplyAdd(q[r * HEAD_MATRICES + d], keys, s[r]); }
            }
            for (var r = 0u; r < ROW_MATRICES; r++) {
                let at = (row_first + r * MATRIX) * SCORE_STRIDE + n * MATRIX_VECS;
                coopStoreT(s[r], &wg_scores[at], SCORE_STRIDE);
            }
        }
        workgroupBarrier(); // the scores are written, k is no longer read
        var left_out = false;
        for (var i = 0u; i < V_LOADS; i++) {
            let at = lane + i * WORKGROUP_SIZE;
            if (staged(at, V_COUNT)) {
                if (some_dropped(state)) {
                    for (var c = 0u; c < 4u; c++) {
                        let value = vec4<f32>(v[i * 4u + c]);
                        left_out |= any(not_finite(value));
                        v[i * 4u + c] = vec4<f16>(finite_part(value));
                    }
                }
                let keys = at / VALUE_VECS;
                let dims = at % VALUE_VECS;
                for (var c = 0u; c < 4u; c++) {
                    let turned = vec4(v[i * 4u][c], v[i * 4u + 1u][c], v[i * 4u + 2u][c], v[i * 4u + 3u][c]);
                    let row = select(keys, dims, TURN_V) * 4u + c;
                    wg_stage[row * V_STRIDE + select(dims, keys, TURN_V)] = select(v[i * 4u + c], turned, TURN_V);
                }
            }
        }

        var s: array<vec4<f32>, ROWS * LANE_VECS>;
        var tile_max: array<f32, ROWS>;
        for (var r = 0u; r < ROWS; r++) {
            let row = domain_row(block, y + r * LANES_Y);
            tile_max[r] = LOWEST;
            for (var i = 0u; i < LANE_VECS; i++) {
                var score = wg_scores[(y + r * LANES_Y) * SCORE_STRIDE + x + i * LANES_X];
                if ((!SCORE_RAW || state == PARTIAL_TILE) && row.valid) {
                    score = finish_scores(block, row, tile, (x + i * LANES_X) * 4u, state == PARTIAL_TILE, score);
                }
                s[r * LANE_VECS + i] = score;
                tile_max[r] = max(tile_max[r], max(max(score.x, score.y), max(score.z, score.w)));
            }
        }
        for (var r = 0u; r < ROWS; r++) { tile_max[r] = lanes_max(tile_max[r]); }
        var rescale: array<f32, ROWS>;
        var raised = false;
        for (var r = 0u; r < ROWS; r++) {
            let highest = norm_max(m[r], tile_max[r]);
            let m_new = select(m[r], highest, norm_exponent(highest, m[r]) > RISE);
            rescale[r] = norm_rescale(m[r], m_new);
            // Where there is no output yet, nothing is to be rescaled.
            raised |= (m_new != m[r]) & (m[r] != LOWEST);
            m[r] = m_new;
            l[r] *= rescale[r];
            for (var i = 0u; i < LANE_VECS; i++) {
                let score = s[r * LANE_VECS + i];
                var weight = vec4(norm_weight(score.x, m_new), norm_weight(score.y, m_new), norm_weight(score.z, m_new), norm_weight(score.w, m_new));
                if (some_dropped(state)) {
                    weight = vec4(kept_weight(weight.x, score.x), kept_weight(weight.y, score.y), kept_weight(weight.z, score.z), kept_weight(weight.w, score.w));
                }
                wg_weights[(y + r * LANES_Y) * WEIGHT_STRIDE + x + i * LANES_X] = vec4<f16>(weight);
                l[r] += (weight.x + weight.y) + (weight.z + weight.w);
            }
        }
        if (next < block.tile_end) { load_k(block, next, lane, &k); }
        let raises = u32(subgroupAny(raised));
        let leaves_out = select(0u, LEFT_OUT, some_dropped(state) && subgroupAny(left_out));
        if (place.lane == 0u) { wg_raised[place.subgroup % SUBGROUPS] = raises | leaves_out; }
        workgroupBarrier(); // weights, v and wg_raised are written
        let raised_or_left_out = any_raised();
        if (raised_or_left_out != 0u) {
            for (var piece = 0u; piece < VALUE_PIECES; piece++) { // unrolled
                write_piece(row_first, piece, &acc);
                workgroupBarrier(); // the piece is written
                for (var r = 0u; r < ROWS; r++) {
                    for (var i = 0u; i < LANE_VECS; i++) {
                        wg_scores[(y + r * LANES_Y) * SCORE_STRIDE + x + i * LANES_X] *= rescale[r];
                    }
                }
                if (some_dropped(state) && (raised_or_left_out & LEFT_OUT) != 0u) { add_values_not_finite(block, tile, piece, x, y); }
                workgroupBarrier(); // and rescaled
                read_piece(row_first, piece, &acc);
                workgroupBarrier(); // and read back, by every subgroup that has the rows
            }
        }
        for (var n = 0u; n < KEY_MATRICES; n++) {
            var weights: array<RowMatrix, ROW_MATRICES>;
            for (var r = 0u; r < ROW_MATRICES; r++) {
                let at = (row_first + r * MATRIX) * WEIGHT_STRIDE + n * MATRIX_VECS;
                weights[r] = coopLoadT<RowMatrix>(&wg_weights[at], WEIGHT_STRIDE);
            }
            for (var d = 0u; d < VALUE_MATRICES; d++) {
                let at = select(n, d, TURN_V) * (MATRIX * V_STRIDE) + select(d, n, TURN_V) * MATRIX_VECS;
                var values = ColumnMatrix();
                if (TURN_V) { values = coopLoad<ColumnMatrix>(&wg_stage[at], V_STRIDE); }
                if (!TURN_V) { values = coopLoadT<ColumnMatrix>(&wg_stage[at], V_STRIDE); }
                for (var r = 0u; r < ROW_MATRICES; r++) {
                    acc[r * VALUE_MATRICES + d] = coopMultiplyAdd(weights[r], values, acc[r * VALUE_MATRICES + d]);
                }
            }
        }
        tile = next;
    }

    row_sum(lane, &l); // holds a barrier: the scores are no longer read
    for (var piece = 0u; piece < VALUE_PIECES; piece++) { // unrolled
        write_piece(row_first, piece, &acc);
        workgroupBarrier(); // the piece is written
        for (var r = 0u; r < ROWS; r++) {
            let row = domain_row(block, y + r * LANES_Y);
            if (row.valid) {
                for (var i = 0u; i < LANE_VECS; i++) {
                    let d = piece * TILE_KV + (x + i * LANES_X) * 4u;
                    let value = wg_scores[(y + r * LANES_Y) * SCORE_STRIDE + x + i * LANES_X];
                    if (d < VALUE_DIM) { emit4(block, row, d, value, m[r], l[r]); }
                }
                if (x == 0u && piece == 0u) { emit_lse(block, row, m[r], l[r]); }
            }
        }
        workgroupBarrier(); // the piece is read
    }
}
