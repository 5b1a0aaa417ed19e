// All that gives pairs their rows and experts their tiles, by one workgroup: where the pairs are one block.

fn place(lane: u32) {
    give(lane);
    storageBarrier(); // the pairs' experts are written
    count_block(0u, lane);
    storageBarrier(); // the counts are written
    find_offsets(lane); // ends behind a barrier: the first rows and tiles are written
    permute_block(0u, lane);
    for (var tile = lane; tile < routing[params.tile_first + EXPERTS]; tile += WORKGROUP_SIZE) { list_tile(tile); }
}
