// The online softmax, as all bodies take its steps: a score is modified and masked, lifts its row's maximum or does not, and
// becomes a weight. A key that a row drops weighs minus zero, by which it is told from one whose weight came out as zero: what
// is not finite in its values must not reach the row, and 0 times infinity would.
const DROPPED: f32 = -0.0;
const DROPPED_BITS: u32 = 0x80000000u;

// A score after its modifiers; the key exists.
fn modified_score(row: Row, key: u32, score: f32) -> f32 {
    if (SCORE_RAW) { return score; }
    return score_modify(score * params.softmax_scale, row.batch, row.head, row.q, key);
}

// The score, or "no key" where the block has no key at the place, or the mask drops it.
fn masked_score(block: Block, row: Row, place: u32, score: f32) -> f32 {
    let key = key_within(block, place);
    return select(LOWEST, score, (place == key) & mask_keeps(row.batch, row.head, row.q, key));
}

// Sums of weighted values may outgrow f32 before they are divided by the sum of weights, where values come near its end. A walk
// whose sums are not finite is done again, with maxima lifted by so many powers of two that weights together stay below 1.
fn overflow_lift(block: Block) -> f32 {
    let powers = f32(firstLeadingBit((block.tile_end - block.tile_first) * TILE_KV) + 1u);
    return select(powers / params.exp_scale, powers, Q_SCALED);
}

struct Lift {
    m: f32,
    rescale: f32, // what the row's sums so far are multiplied by
}

fn lifted(m: f32, highest: f32) -> Lift {
    let m_new = norm_max(m, highest);
    return Lift(m_new, norm_rescale(m, m_new));
}

// "No key" weighs nothing, whatever its exponent.
fn kept_weight(weight: f32, score: f32) -> f32 {
    return select(weight, DROPPED, score < MASKED);
}

// Whether rows of a tile may drop keys that others keep.
fn some_dropped(state: u32) -> bool {
    return SCORE_MAY_MASK || state == PARTIAL_TILE;
}

// Which values are infinite or NaN, by their bits: comparisons may be compiled as if there were none.
fn not_finite(value: vec4<f32>) -> vec4<bool> {
    return (bitcast<vec4<u32>>(value) & vec4(0x7f800000u)) == vec4(0x7f800000u);
}

fn finite_part(value: vec4<f32>) -> vec4<f32> {
    return select(value, vec4(0.0), not_finite(value));
}

// Adds what is not finite in a key's values to a row that does not drop the key.
fn add_not_finite(sum: vec4<f32>, weight: f32, value: vec4<f32>) -> vec4<f32> {
    let counts = not_finite(value) & vec4(bitcast<u32>(weight) != DROPPED_BITS);
    return select(sum, fma(value, vec4(weight), sum), counts);
}
