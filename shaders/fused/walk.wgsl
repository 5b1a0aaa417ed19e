// The keys that a tile has a place for and the block does not have: none where EVERY_TILE_FULL.

fn key_exists(block: Block, key: u32) -> bool {
    return EVERY_TILE_FULL || key < block.kv_end;
}

// The key, or the last one.
fn key_within(block: Block, key: u32) -> u32 {
    if (EVERY_TILE_FULL) { return key; }
    return min(key, block.kv_end - 1u);
}
