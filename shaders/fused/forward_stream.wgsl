// Streams K and V from storage, without workgroup memory. A group of LANES lanes owns ROWS query rows; head_dim and value_dim
// are split among its lanes, four neighbouring dims at a time. Register j of a lane holds row (j ^ lane) of its SPREAD rows:
// in that order both the sum over the lanes and the way back are plain shuffles by a constant, without a select.
// KEY_GROUPS neighbouring groups own the same rows and take keys in turn, so that few rows still ask memory for many keys at
// once; at the end they merge.
// Every array is walked by a loop over its whole length: that makes Mesa unroll the loop whatever its size, and an array that
// stays indexed by a variable lives in memory, ten times slower. The largest loop is written out: Mesa 25 keeps it rolled.
// ROWS rows: SPREAD of them have their statistics side by side in the lanes, STATS of them in one lane.
const HEAD_STEPS: u32 = (HEAD_DIM + 4u * LANES - 1u) / (4u * LANES);    // vec4s of a q or k row a lane holds
const VALUE_STEPS: u32 = (VALUE_DIM + 4u * LANES - 1u) / (4u * LANES);  // vec4s of a v or out row a lane holds

const NO_ROW: u32 = 0xffffffffu;        // an offset: the row is not there
const LARGEST: f32 = -LOWEST;

fn dot_add(sum: f32, a: vec4<f32>, b: vec4<f32>) -> f32 {
    return fma(a.w, b.w, fma(a.z, b.z, fma(a.y, b.y, fma(a.x, b.x, sum))));
}

// What stands for infinity and NaN in values; their product with LARGEST is infinity.
fn infinity_of(value: vec4<f32>, turn: u32) -> vec4<f32> {
    let bits = bitcast<vec4<u32>>(value);
    let is_nan = (bits & vec4(0x7fffffffu)) > vec4(0x7f800000u);
    let signed = select(vec4(LARGEST), vec4(-LARGEST), bits == vec4(0xff800000u));
    let first = select(vec4(0.0), signed, not_finite(value));
    return select(first, select(vec4(0.0), vec4(-LARGEST), is_nan), turn == 1u);
}

// The walk of a group over its block's tiles, with row maxima lifted; then all groups that own the same rows have their sums.
fn walk(
    block: Block, lane: u32, key_group: u32, lift: f32, q: ptr<function, array<array<array<vec4<f32>, HEAD_STEPS>, SPREAD>, STATS>>,
    rows: ptr<function, array<Row, STATS>>, m: ptr<function, array<f32, STATS>>, l: ptr<function, array<f32, STATS>>,
    out: ptr<function, array<array<array<vec4<f32>, VALUE_STEPS>, SPREAD>, STATS>>,
) {
    for (var g = 0u; g < STATS; g++) {
        (*m)[g] = LOWEST;
        (*l)[g] = 0.0;
        for (var j = 0u; j < SPREAD; j++) {
            for (var d = 0u; d < VALUE_STEPS; d++) { (*out)[g][j][d] = vec4(0.0); }
        }
    }
    // This loop and the two inside are tested at their end: lavapipe masks instead of jumping and would run one more trip.
    var tile = tile_from(block, block.tile_first);
    if (tile < block.tile_end) {
        loop {
            let state = domain_tile_state(block, tile);
            var column = key_group * KEYS;
            loop {
                // Scores of KEYS keys, KEYS_ASKED a trip; they move down a place each time. A GPU asks for all at once; more than one
                // would outgrow a processor's instruction cache.
                var scores: array<array<f32, STATS>, KEYS>;
                var trip = 0u;
                loop {
                    var k: array<array<vec4<f32>, HEAD_STEPS>, KEYS_ASKED>;
                    for (var i = 0u; i < KEYS_ASKED; i++) {
                        // A column beyond the last key reads the last key; its score is masked below.
                        let k_row = k_offset(block, key_within(block, domain_key(block, tile, column + trip + i)));
                        for (var d = 0u; d < HEAD_STEPS; d++) { k[i][d] = k_load4(k_row, (d * LANES + lane) * 4u); }
                    }
                    for (var asked = 0u; asked < KEYS_ASKED; asked++) {
                        var sums: array<array<f32, SPREAD>, STATS>;
                        for (var g = 0u; g < STATS; g++) {
                            for (var j = 0u; j < SPREAD; j++) {
                                for (var d = 0u; d < HEAD_STEPS; d++) { sums[g][j] = dot_add(sums[g][j], (*q)[g][j][d], k[asked][d]); }
                            }
                        }
                        scatter(&sums, 32u); scatter(&sums, 16u); scatter(&sums, 8u); scatter(&sums, 4u); scatter(&sums, 2u); scatter(&sums, 1u);
                        fold(&sums, 32u); fold(&sums, 16u); fold(&sums, 8u); fold(&sums, 4u); fold(&sums, 2u); fold(&sums, 1u);
                        for (var i = 1u; i < KEYS; i++) { scores[i - 1u] = scores[i]; }
                        for (var g = 0u; g < STATS; g++) { scores[KEYS - 1u][g] = sums[g][0]; }
                    }
                    trip += KEYS_ASKED;
                    if (trip >= KEYS) { break; }
                }
                var v: array<array<vec4<f32>, VALUE_STEPS>, KEYS>;
                for (var i = 0u; i < KEYS; i++) {
                    let v_row = v_offset(block, key_within(block, domain_key(block, tile, column + i)));
                    for (var d = 0u; d < VALUE_STEPS; d++) { v[i][d] = v_load4(v_row, (d * LANES + lane) * 4u); }
                }
                if (!SCORE_RAW) {
                    for (var g = 0u; g < STATS; g++) {
                        for (var i = 0u; i < KEYS; i++) {
                            let key = key_within(block, domain_key(block, tile, column + i));
                            scores[i][g] = modified_score((*rows)[g], key, scores[i][g]);
                        }
                    }
                }
                if (state == PARTIAL_TILE) {
                    for (var g = 0u; g < STATS; g++) {
                        for (var i = 0u; i < KEYS; i++) {
                            let place = domain_key(block, tile, column + i);
                            scores[i][g] = masked_score(block, (*rows)[g], place, scores[i][g]);
                        }
                    }
                }
                var row_rescale: array<f32, STATS>;
                for (var g = 0u; g < STATS; g++) { // unrolled
                    var highest = scores[0][g];
                    for (var i = 1u; i < KEYS; i++) { highest = max(highest, scores[i][g]); }
                    let lifting = lifted((*m)[g], highest + lift);
                    row_rescale[g] = select(lifting.rescale, 1.0, (*m)[g] < MASKED);   // no key yet: nothing to rescale
                    (*m)[g] = lifting.m;
                    var sum_weights = 0.0;
                    for (var i = 0u; i < KEYS; i++) {
                        let score = scores[i][g];
                        let weight = kept_weight(norm_weight(score, lifting.m), score);
                        scores[i][g] = weight;
                        sum_weights += weight;
                    }
                    (*l)[g] = fma((*l)[g], row_rescale[g], sum_weights);
                }
                // Values that are not finite are taken out where rows may drop them, and come in turns of their own.
                var not_finite_left = false;
                if (some_dropped(state)) {
                    for (var i = 0u; i < KEYS; i++) {
                        for (var d = 0u; d < VALUE_STEPS; d++) {
                            not_finite_left |= any(not_finite(v[i][d]));
                            v[i][d] = finite_part(v[i][d]);
                        }
                    }
                    not_finite_left = subgroupAny(not_finite_left);
                }
                var turn = 0u;
                loop {
                    for (var g = 0u; g < STATS; g++) { // unrolled
                        for (var j = 0u; j < SPREAD; j++) {
                            let rescale = subgroupShuffleXor(row_rescale[g], j);
                            var weights: array<f32, KEYS>;
                            for (var i = 0u; i < KEYS; i++) { weights[i] = subgroupShuffleXor(scores[i][g], j); }
                            for (var d = 0u; d < VALUE_STEPS; d++) {
                                var sum = (*out)[g][j][d] * rescale;
                                for (var i = 0u; i < KEYS; i++) { sum = fma(v[i][d], vec4<f32>(weights[i]), sum); }
                                (*out)[g][j][d] = sum;
                            }
                        }
                    }
                    if (!not_finite_left || turn == 2u) { break; }
                    // A row that keeps the key weighs the largest number with it, a row that drops it 0: their product with the
                    // largest number is infinity, or 0. The first turn adds infinities of either sign, the second takes one
                    // away where the first stood for NaN.
                    for (var i = 0u; i < KEYS; i++) {
                        let v_row = v_offset(block, key_within(block, domain_key(block, tile, column + i)));
                        for (var d = 0u; d < VALUE_STEPS; d++) {
                            v[i][d] = infinity_of(v_load4(v_row, (d * LANES + lane) * 4u), turn);
                        }
                    }
                    for (var g = 0u; g < STATS; g++) {
                        row_rescale[g] = 1.0;
                        for (var i = 0u; i < KEYS; i++) {
                            scores[i][g] = select(LARGEST, DROPPED, bitcast<u32>(scores[i][g]) == DROPPED_BITS);
                        }
                    }
                    turn++;
                }
                column += KEYS * KEY_GROUPS;
                if (column >= TILE_KV) { break; }
            }
            tile = tile_from(block, tile + 1u);
            if (tile >= block.tile_end) { break; }
        }
    }
    merge_groups(LANES, m, l, out);
    merge_groups(2u * LANES, m, l, out);
    merge_groups(4u * LANES, m, l, out);
}

@compute @workgroup_size(WORKGROUP_SIZE)
fn fused_forward_stream(
    @builtin(workgroup_id) workgroup: vec3<u32>, @builtin(num_workgroups) workgroups: vec3<u32>,
    @builtin(subgroup_id) subgroup: u32, @builtin(subgroup_size) subgroup_size: u32, @builtin(subgroup_invocation_id) subgroup_lane: u32,
) {
    let block = domain_block(workgroup.x + workgroups.x * workgroup.y);
    let lane = subgroup_lane % LANES;
    let lane_row = lane % SPREAD;
    let key_group = subgroup_lane / LANES % KEY_GROUPS;
    let row_first = (subgroup * subgroup_size + subgroup_lane) / (LANES * KEY_GROUPS) * ROWS;
    var q: array<array<array<vec4<f32>, HEAD_STEPS>, SPREAD>, STATS>;
    var out: array<array<array<vec4<f32>, VALUE_STEPS>, SPREAD>, STATS>;
    var rows: array<Row, STATS>;    // the rows whose statistics this lane keeps
    var m: array<f32, STATS>;
    var l: array<f32, STATS>;
    for (var g = 0u; g < STATS; g++) {
        // A row that is not there asks for the last one's modifiers and mask: extra inputs end with it.
        let row = row_first + g * SPREAD + lane_row;
        let row_last = block.row_end - block.row_first - 1u;
        rows[g] = domain_row(block, min(row, row_last));
        rows[g].valid = rows[g].valid && row <= row_last;
    }
    // A lane works out where its own rows lie, for all that hold dims of them. Rows come ROWS_ASKED a trip and those before move
    // down: a processor's driver compiles each load anew, at length.
    var own_offset: array<u32, STATS>;
    for (var g = 0u; g < STATS; g++) {
        own_offset[g] = select(0u, q_offset(rows[g]), rows[g].valid); // a row that is not there is not stored
    }
    var first = 0u;
    loop {
        for (var g = 0u; g < STATS; g++) {
            for (var j = ROWS_ASKED; j < SPREAD; j++) { q[g][j - ROWS_ASKED] = q[g][j]; }
            for (var j = 0u; j < ROWS_ASKED; j++) {
                let offset = subgroupShuffleXor(own_offset[g], first + j);
                for (var d = 0u; d < HEAD_STEPS; d++) {
                    var part = q_load4(offset, (d * LANES + lane) * 4u);
                    if (Q_SCALED) { part *= params.exp_scale; }
                    q[g][SPREAD - ROWS_ASKED + j][d] = part;
                }
            }
        }
        first += ROWS_ASKED;
        if (first >= SPREAD) { break; }
    }

    var lift = 0.0;
    loop {
        walk(block, lane, key_group, lift, &q, &rows, &m, &l, &out);
        if (!MAY_OVERFLOW || lift != 0.0) { break; }
        var overflows = false;
        for (var g = 0u; g < STATS; g++) {
            for (var j = 0u; j < SPREAD; j++) {
                let nan_row = is_nan(subgroupShuffleXor(l[g], j)); // no sum is to be saved
                for (var d = 0u; d < VALUE_STEPS; d++) { overflows |= any(not_finite(out[g][j][d])) && !nan_row; }
            }
        }
        if (!subgroupAny(overflows)) { break; }
        lift = overflow_lift(block);
    }

    var own_scale: array<f32, STATS>;
    for (var g = 0u; g < STATS; g++) {
        own_offset[g] = NO_ROW;
        if (rows[g].valid && key_group == 0u) {
            own_offset[g] = emit_offset(block, rows[g]);
            own_scale[g] = emit_scale(block, rows[g], m[g], l[g]);
            if (lane < SPREAD) { emit_lse(block, rows[g], m[g], l[g]); }
        }
    }
    first = 0u;
    loop { // as they came
        for (var g = 0u; g < STATS; g++) {
            for (var j = 0u; j < ROWS_ASKED; j++) {
                let offset = subgroupShuffleXor(own_offset[g], first + j);
                let scale = subgroupShuffleXor(own_scale[g], first + j);
                if (offset != NO_ROW) {
                    for (var d = 0u; d < VALUE_STEPS; d++) {
                        let dim = (d * LANES + lane) * 4u;
                        if (dim < VALUE_DIM) { emit_scaled(offset, dim, out[g][j][d], scale); }
                    }
                }
            }
            for (var j = ROWS_ASKED; j < SPREAD; j++) { out[g][j - ROWS_ASKED] = out[g][j]; }
        }
        first += ROWS_ASKED;
        if (first >= SPREAD) { break; }
    }
}
