// A tile's state where the mask's elements decide it: read from the map that fused_classify wrote.

fn domain_tile_state(block: Block, tile: u32) -> u32 {
    let word = tile_map[block.q_tile * params.map_words + tile / 32u];
    let bit = 1u << (tile % 32u);
    if ((word.x & bit) == 0u) { return EMPTY_TILE; }
    return select(FULL_TILE, PARTIAL_TILE, (word.y & bit) != 0u);
}
