// Weights and values of the workgroup-memory family: what a lane writes of the one, and adds up of the other.

// Weights go to workgroup memory and into the row sums; no_keys: some scores stand for "no key".
fn store_weights(no_keys: bool, x: u32, y: u32, s: ptr<function, array<f32, ROWS * COLS>>,
                 weights: ptr<function, array<f32, ROWS * COLS>>, l: ptr<function, array<f32, ROWS>>) {
    if (no_keys) {
        for (var i = 0u; i < ROWS * COLS; i++) { (*weights)[i] = kept_weight((*weights)[i], (*s)[i]); }
    }
    let first = y * WEIGHT_STRIDE + x * COLS / 4u;
    if (COLS == 2u) { // a vector has two rows' weights for two keys: lanes that write parts of the same vector race
        for (var r = 0u; r < ROWS; r += 2u) {
            let i = r * COLS;
            let weight = vec4((*weights)[i], (*weights)[i + 1u], (*weights)[i + 2u], (*weights)[i + 3u]);
            wg_tile[first + P_FIRST + (r + x % 2u) * LANES_Y * WEIGHT_STRIDE] = Stage4(weight);
            (*l)[r] += weight.x + weight.y;
            (*l)[r + 1u] += weight.z + weight.w;
        }
        return;
    }
    for (var r = 0u; r < ROWS; r++) {
        for (var c = 0u; c < COLS; c += 4u) {
            let i = r * COLS + c;
            let weight = vec4((*weights)[i], (*weights)[i + 1u], (*weights)[i + 2u], (*weights)[i + 3u]);
            wg_tile[first + (P_FIRST + r * LANES_Y * WEIGHT_STRIDE + c / 4u)] = Stage4(weight);
            (*l)[r] += (weight.x + weight.y) + (weight.z + weight.w);
        }
    }
}

// Weighted values of one chunk of keys.
fn add_values(x: u32, y: u32, weight_first: u32, acc: ptr<function, array<vec4<f32>, ROWS * VALUE_VECS>>) {
    for (var key = 0u; key < KEY_CHUNK / 4u; key += VALUE_STEPS) {
        let p_first = y * WEIGHT_STRIDE + weight_first + key;
        let v_first = x + key * (4u * VALUE_STRIDE);
        for (var step = 0u; step < VALUE_STEPS; step++) {
            var p: array<vec4<f32>, ROWS>;
            for (var r = 0u; r < ROWS; r++) {
                p[r] = vec4<f32>(wg_tile[p_first + (P_FIRST + r * LANES_Y * WEIGHT_STRIDE + step)]);
            }
            for (var r = 0u; COLS == 2u && r < ROWS; r += 2u) {
                let even = p[r]; // of the keys of even lanes, both rows
                p[r] = vec4(even.xy, p[r + 1u].xy);
                p[r + 1u] = vec4(even.zw, p[r + 1u].zw);
            }
            for (var n = 0u; n < VALUE_VECS; n++) {
                let v0 = vec4<f32>(wg_tile[v_first + (V_FIRST + n * LANES_X + step * 4u * VALUE_STRIDE)]);
                let v1 = vec4<f32>(wg_tile[v_first + (V_FIRST + n * LANES_X + (step * 4u + 1u) * VALUE_STRIDE)]);
                let v2 = vec4<f32>(wg_tile[v_first + (V_FIRST + n * LANES_X + (step * 4u + 2u) * VALUE_STRIDE)]);
                let v3 = vec4<f32>(wg_tile[v_first + (V_FIRST + n * LANES_X + (step * 4u + 3u) * VALUE_STRIDE)]);
                for (var r = 0u; r < ROWS; r++) {
                    let at = r * VALUE_VECS + n;
                    (*acc)[at] = fma(vec4(p[r].w), v3, fma(vec4(p[r].z), v2, fma(vec4(p[r].y), v1, fma(vec4(p[r].x), v0, (*acc)[at]))));
                }
            }
        }
    }
}

// The weight of row r of a lane for a key of the tile.
fn weight_of(y: u32, r: u32, key: u32) -> f32 {
    if (COLS == 2u) { // as store_weights writes pairs of rows
        let vec = (y + (r - r % 2u + key / 2u % 2u) * LANES_Y) * WEIGHT_STRIDE + key / 4u;
        return f32(wg_tile[P_FIRST + vec][r % 2u * 2u + key % 2u]);
    }
    return f32(wg_tile[P_FIRST + (y + r * LANES_Y) * WEIGHT_STRIDE + key / 4u][key % 4u]);
}

// Adds what the staged values leave out because it is not finite, of the keys that a row does not drop. It is rare, read anew, and
// kept small: the loop over keys ends where compilers do not know.
fn add_values_not_finite(block: Block, tile: u32, chunk: u32, x: u32, y: u32, acc: ptr<function, array<vec4<f32>, ROWS * VALUE_VECS>>) {
    let end = chunk + select(0u, KEY_CHUNK, block.tile_end != 0u);
    for (var key = chunk; key < end; key++) {
        let place = domain_key(block, tile, key);
        if (!key_exists(block, place)) { continue; }
        let row = v_offset(block, key_within(block, place));
        for (var n = 0u; n < VALUE_VECS; n++) {
            let value = v_load4(row, (x + n * LANES_X) * 4u);
            if (any(not_finite(value))) {
                for (var r = 0u; r < ROWS; r++) {
                    let at = r * VALUE_VECS + n;
                    (*acc)[at] = add_not_finite((*acc)[at], weight_of(y, r, key), value);
                }
            }
        }
    }
}
