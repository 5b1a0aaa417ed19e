// Keys of sequences that lie one after another. Those of the rows from key_first to key_end are bound.

fn own_len(b: u32) -> u32 {
    let first = first_key(b);
    return max(first_key(b + 1u), first) - first;
}

fn kv_place(b: u32, key: u32) -> vec2<u32> {
    return vec2(0u, max(first_key(b) + key, params.key_first));
}

fn kv_first(b: u32) -> u32 {
    let first = first_key(b);
    return max(first, params.key_first) - first;
}

fn kv_end(b: u32) -> u32 {
    let first = first_key(b);
    return min(own_len(b), max(params.key_end, first) - first);
}

fn key_is_bound(b: u32, key: u32) -> bool {
    return key >= kv_first(b);
}

fn bound_tile(b: u32, key: u32, key_last: u32) -> u32 {
    if (key_last < kv_first(b)) { return EMPTY_TILE; }
    return select(PARTIAL_TILE, FULL_TILE, key >= kv_first(b));
}
