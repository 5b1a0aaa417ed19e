// A tile's state where the mask's form decides it.

fn domain_tile_state(block: Block, tile: u32) -> u32 {
    let state = domain_form_state(block, tile);
    if (state == FULL_TILE && (tile + 1u) * TILE_KV > block.kv_end) { return PARTIAL_TILE; }
    return state;
}
