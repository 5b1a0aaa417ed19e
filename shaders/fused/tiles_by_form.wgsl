// A tile's state where the form of the mask, or of the windows, decides it, or where nothing does.

fn domain_tile_state(block: Block, tile: u32) -> u32 {
    if (EVERY_TILE_FULL) { return FULL_TILE; }
    return domain_form_state(block, tile);
}
