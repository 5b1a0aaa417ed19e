// Where each expert's rows and tiles begin, how many workgroups the matmuls have, and the counts for the caller. One workgroup.

fn put_grid(at: u32, grid: vec3<u32>) {
    routing[at] = grid.x;
    routing[at + 1u] = grid.y;
    routing[at + 2u] = grid.z;
}

fn find_offsets(lane: u32) {
    var rows = 0u;
    var tiles = 0u;
    for (var base = 0u; base < CHOICES; base += WORKGROUP_SIZE) {
        let expert = base + lane;
        var count = 0u;
        if (expert < CHOICES) {
            count = routing[params.counts + expert];
            counts_out(expert, count);
        }
        count = select(0u, count, expert < EXPERTS); // null experts have no rows
        let row_sum = running_sum(lane, count);
        if (expert < EXPERTS) {
            routing[params.offsets + expert] = rows + row_sum - count;
            first_rows_out(expert, rows + row_sum - count);
        }
        rows += wg_scan[WORKGROUP_SIZE - 1u];
        let own = (count + TILE_ROWS - 1u) / TILE_ROWS;
        let tile_sum = running_sum(lane, own);
        if (expert < EXPERTS) { routing[params.tile_first + expert] = tiles + tile_sum - own; }
        tiles += wg_scan[WORKGROUP_SIZE - 1u];
    }
    var dropped = 0u;
    if (params.selections > 0u) {
        for (var i = lane; i < params.selections; i += WORKGROUP_SIZE) { dropped += routing[params.drops + i]; }
        dropped = running_sum(lane, dropped);
    }
    if (lane == WORKGROUP_SIZE - 1u) {
        drop_count_out(0u, dropped);
        first_rows_out(EXPERTS, rows);
        routing[params.offsets + EXPERTS] = rows;
        routing[params.tile_first + EXPERTS] = tiles;
    }
    storageBarrier(); // the first rows and tiles are written
    for (var i = lane; i < params.dispatches; i += WORKGROUP_SIZE) {
        let first = params.expert_start + i / params.windows * params.slice_experts;
        let slice_tiles = routing[params.tile_first + min(first + params.slice_experts, EXPERTS)] - routing[params.tile_first + first];
        let before = i % params.windows * params.window_tiles;
        let own = min(slice_tiles - min(slice_tiles, before), params.window_tiles);
        // Tiles fold over y and z; the columns' tiles are x.
        let y = min(own, params.most_workgroups);
        let z = (own + max(y, 1u) - 1u) / max(y, 1u);
        for (var part = 0u; part < params.up_parts; part++) {
            let columns = min(params.up_columns - part * params.up_part_columns, params.up_part_columns);
            put_grid(params.up_grid + 4u * (i * params.up_parts + part), vec3(columns, y, z));
        }
        for (var part = 0u; part < params.down_parts; part++) {
            let columns = min(params.down_columns - part * params.down_part_columns, params.down_part_columns);
            put_grid(params.down_grid + 4u * (i * params.down_parts + part), vec3(columns, y, z));
        }
    }
}
