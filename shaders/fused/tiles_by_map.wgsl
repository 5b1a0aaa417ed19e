// A tile's state where the mask's elements decide it: read from the map that fused_classify wrote, a bit a tile.

fn map_word(block: Block, tile: u32) -> vec2<u32> {
    return tile_map[block.q_tile * params.map_words + tile / 32u];
}

fn domain_tile_state(block: Block, tile: u32) -> u32 {
    let word = map_word(block, tile);
    let bit = 1u << (tile % 32u);
    if ((word.x & bit) == 0u) { return EMPTY_TILE; }
    return select(FULL_TILE, PARTIAL_TILE, (word.y & bit) != 0u);
}

// The first tile from `first` on that holds keys, or the end: 32 empty tiles are one step.
fn tile_from(block: Block, first: u32) -> u32 {
    var tile = first;
    while (tile < block.tile_end) {
        let kept = map_word(block, tile).x >> (tile % 32u);
        if (kept != 0u) { return min(tile + firstTrailingBit(kept), block.tile_end); }
        tile += 32u - tile % 32u;
    }
    return block.tile_end;
}

// The last of the tiles from an empty one on that are known to be empty as well.
fn empty_to(block: Block, tile: u32) -> u32 {
    return tile_from(block, tile + 1u) - 1u;
}
