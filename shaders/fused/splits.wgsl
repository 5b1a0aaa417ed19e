// The keys of a row are split over workgroups: each has a share of the tiles.

fn split_tiles(split: u32, first: u32, end: u32) -> vec2<u32> {
    let tiles = end - first;
    let share = (tiles + params.kv_splits - 1u) / params.kv_splits;
    return first + vec2(min(split * share, tiles), min((split + 1u) * share, tiles));
}
