// Nothing is masked and the keys divide into tiles: kernels lose the code that tests elements.

fn domain_tile_state(block: Block, tile: u32) -> u32 {
    return FULL_TILE;
}
