// A token's parts: what its slots' experts gave; those of identity experts are the token itself.

fn part_of(token: u32, index: u32) -> Part {
    let pair = token * TOP_K + index;
    let row = routing[params.pair_rows + pair];
    if (IDENTITY && row == NONE) {
        let expert = routing[params.experts + pair];
        if (expert >= IDENTITY_FIRST && is_here(expert)) { return Part(OWN, weights[pair]); }
    }
    return Part(row, select(weights[pair], 1.0, WEIGHT_ON_INPUT));
}
