// Keys in pages that a table names: by page and row of the page. Whatever the table holds, a page that exists is meant, and one
// that is bound is read: those from key_first to key_end.

fn page_of(b: u32, key: u32) -> u32 {
    return min(u32(max(page_at(b, key / PAGE_SIZE), 0)), params.pages - 1u);
}

fn kv_place(b: u32, key: u32) -> vec2<u32> {
    return vec2(clamp(page_of(b, key), params.key_first, params.key_end - 1u), key % PAGE_SIZE);
}

fn kv_first(b: u32) -> u32 {
    return 0u;
}

fn kv_end(b: u32) -> u32 {
    return own_len(b);
}

fn key_is_bound(b: u32, key: u32) -> bool {
    let page = page_of(b, key);
    return page >= params.key_first && page < params.key_end;
}

fn bound_tile(b: u32, key: u32, key_last: u32) -> u32 {
    var bound = 0u;
    let pages = key_last / PAGE_SIZE - key / PAGE_SIZE + 1u;
    for (var i = 0u; i < pages; i++) { bound += u32(key_is_bound(b, (key / PAGE_SIZE + i) * PAGE_SIZE)); }
    if (bound == 0u) { return EMPTY_TILE; }
    return select(PARTIAL_TILE, FULL_TILE, bound == pages);
}
