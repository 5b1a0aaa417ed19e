// What masks are made of. A mask is asked three things: does it keep an element, what is the state of a tile
// (EMPTY_TILE < PARTIAL_TILE < FULL_TILE, so that "and" is min, "or" is max, "not" is 2 - state), which keys may it keep.
// Tiles are given by their first and last query (as positions) and first and last key.

const EVERY_KEY: vec2<i32> = vec2<i32>(0, 0x20000000);

fn mask_hull(a: vec2<i32>, b: vec2<i32>) -> vec2<i32> {
    if (a.x >= a.y) { return b; }
    if (b.x >= b.y) { return a; }
    return vec2(min(a.x, b.x), max(a.y, b.y));
}

fn mask_meet(a: vec2<i32>, b: vec2<i32>) -> vec2<i32> {
    return vec2(max(a.x, b.x), min(a.y, b.y));
}

// Keys from position - left to position + right.
fn band_keeps(position: i32, kv: u32, left: i32, right: i32) -> bool {
    return i32(kv) >= position - left && i32(kv) <= position + right;
}

fn band_tile(first: i32, last: i32, key: u32, key_last: u32, left: i32, right: i32) -> u32 {
    if (i32(key_last) < first - left || i32(key) > last + right) { return EMPTY_TILE; }
    if (i32(key) >= last - left && i32(key_last) <= first + right) { return FULL_TILE; }
    return PARTIAL_TILE;
}

fn band_range(first: i32, last: i32, left: i32, right: i32) -> vec2<i32> {
    return vec2(first - left, last + right + 1);
}

// The first `count` keys.
fn first_tile(key: u32, key_last: u32, count: i32) -> u32 {
    if (i32(key) >= count) { return EMPTY_TILE; }
    return select(PARTIAL_TILE, FULL_TILE, i32(key_last) < count);
}

// Counts that tensors hold may be anything; beyond these bounds they mean the same and would overflow.
fn mask_count(count: i32) -> i32 {
    return clamp(count, -0x3fffffff, 0x3fffffff);
}

// Least and greatest ids of rows and of keys, which are kept where they are equal.
fn ids_tile(rows: vec2<i32>, keys: vec2<i32>) -> u32 {
    if (rows.y < keys.x || keys.y < rows.x) { return EMPTY_TILE; }
    return select(PARTIAL_TILE, FULL_TILE, rows.x == rows.y && all(rows == keys));
}
