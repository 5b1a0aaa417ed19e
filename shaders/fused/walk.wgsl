// The walk over a block's tiles, and the keys that a tile has a place for and the block does not have: none where
// EVERY_TILE_FULL.

// The first tile from `first` on that holds keys, or the end.
fn tile_from(block: Block, first: u32) -> u32 {
    var tile = first;
    while (tile < block.tile_end && domain_tile_state(block, tile) == EMPTY_TILE) { tile++; }
    return tile;
}

fn key_exists(block: Block, key: u32) -> bool {
    return EVERY_TILE_FULL || key < block.kv_end;
}

// The key, or the last one.
fn key_within(block: Block, key: u32) -> u32 {
    if (EVERY_TILE_FULL) { return key; }
    return min(key, block.kv_end - 1u);
}
