// The online softmax, as all bodies take its steps: a score is modified and masked, lifts its row's maximum or does not, and
// becomes a weight.

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
    return select(weight, 0.0, score < MASKED);
}
