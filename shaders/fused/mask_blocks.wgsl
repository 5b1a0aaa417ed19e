// What the blocks are that a tile overlaps: their elements need not be asked.
    var kept = false;
    var dropped = false;
    for (var row = q / BLOCK_Q; row <= q_last / BLOCK_Q; row++) {
        for (var column = key / BLOCK_KV; column <= key_last / BLOCK_KV; column++) {
            let keeps = BLOCK_KEEPS;
            kept |= keeps;
            dropped |= !keeps;
        }
        if (kept && dropped) { return PARTIAL_TILE; }
    }
    return select(EMPTY_TILE, FULL_TILE, kept);
