// A tile's state where the form of the mask, or of the windows, decides it, or where nothing does.

fn domain_tile_state(block: Block, tile: u32) -> u32 {
    if (EVERY_TILE_FULL) { return FULL_TILE; }
    return domain_form_state(block, tile);
}

// The first tile from `first` on that holds keys, or the end.
fn tile_from(block: Block, first: u32) -> u32 {
    var tile = first;
    while (tile < block.tile_end && domain_tile_state(block, tile) == EMPTY_TILE) { tile++; }
    return tile;
}

// The last of the tiles from an empty one on that are known to be empty as well.
fn empty_to(block: Block, tile: u32) -> u32 {
    return tile;
}
