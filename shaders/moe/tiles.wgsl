// The list of tiles: expert, first row, end of rows. A lane a tile that may exist.

fn list_tile(tile: u32) {
    if (tile >= routing[params.tile_first + EXPERTS]) { return; }
    // The last expert whose first tile is not beyond this one: those without rows share theirs with the next.
    var low = 0u;
    var high = EXPERTS;
    while (high - low > 1u) {
        let middle = (low + high) / 2u;
        if (routing[params.tile_first + middle] <= tile) { low = middle; } else { high = middle; }
    }
    let first = routing[params.offsets + low] + (tile - routing[params.tile_first + low]) * TILE_ROWS;
    let at = params.tiles + 3u * tile;
    routing[at] = low;
    routing[at + 1u] = first;
    routing[at + 2u] = min(first + TILE_ROWS, routing[params.offsets + low + 1u]);
}
