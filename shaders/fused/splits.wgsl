// The keys of a row may be split over workgroups (SPLIT_KEYS): neighbouring ones have a share of the tiles each.

struct Split { index: u32, block: u32 }

// Which share of which block a workgroup has.
fn split_of(workgroup: u32) -> Split {
    if (!SPLIT_KEYS) { return Split(0u, workgroup); }
    return Split(workgroup % params.kv_splits, workgroup / params.kv_splits);
}

fn split_tiles(split: u32, first: u32, end: u32) -> vec2<u32> {
    if (!SPLIT_KEYS) { return vec2(first, end); }
    let tiles = end - first;
    let share = (tiles + params.kv_splits - 1u) / params.kv_splits;
    return first + vec2(min(split * share, tiles), min((split + 1u) * share, tiles));
}
