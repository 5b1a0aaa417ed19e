// Where each expert's rows and tiles begin, how many workgroups the matmuls have, and the counts for the caller. One workgroup.

@compute @workgroup_size(WORKGROUP_SIZE)
fn moe_offsets(@builtin(local_invocation_index) lane: u32) {
    var rows = 0u;
    var tiles = 0u;
    for (var base = 0u; base < EXPERTS; base += WORKGROUP_SIZE) {
        let expert = base + lane;
        var count = 0u;
        if (expert < EXPERTS) { count = routing[params.counts + expert]; }
        let row_sum = running_sum(lane, count);
        if (expert < EXPERTS) {
            routing[params.offsets + expert] = rows + row_sum - count;
            counts_out(expert, count);
        }
        rows += wg_scan[WORKGROUP_SIZE - 1u];
        let own = (count + TILE_ROWS - 1u) / TILE_ROWS;
        let tile_sum = running_sum(lane, own);
        if (expert < EXPERTS) { routing[params.tile_first + expert] = tiles + tile_sum - own; }
        tiles += wg_scan[WORKGROUP_SIZE - 1u];
    }
    var dropped = 0u;
    for (var i = lane; i < params.selections; i += WORKGROUP_SIZE) { dropped += routing[params.drops + i]; }
    let all_dropped = running_sum(lane, dropped);
    if (lane == WORKGROUP_SIZE - 1u) {
        dropped_out(all_dropped);
        routing[params.offsets + EXPERTS] = rows;
        routing[params.tile_first + EXPERTS] = tiles;
        // Tiles fold over y and z; the columns' tiles are x.
        let y = min(tiles, params.most_workgroups);
        let z = (tiles + max(y, 1u) - 1u) / max(y, 1u);
        routing[params.up_grid] = params.up_columns;
        routing[params.up_grid + 1u] = y;
        routing[params.up_grid + 2u] = z;
        routing[params.down_grid] = params.down_columns;
        routing[params.down_grid + 1u] = y;
        routing[params.down_grid + 2u] = z;
    }
}
