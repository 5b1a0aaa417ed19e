// A tile's state where the form of the mask, or of the windows, decides it.

fn domain_tile_state(block: Block, tile: u32) -> u32 {
    return domain_form_state(block, tile);
}
