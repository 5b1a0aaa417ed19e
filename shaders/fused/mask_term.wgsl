// One mask of a spec. A tile is given by its first and last query, as indices and as positions, and its first and last key.
fn termNUMBER_keeps(b: u32, h: u32, q: u32, kv: u32) -> bool {
    KEEPS
}
fn termNUMBER_tile(b: u32, h: u32, q: u32, q_last: u32, first: i32, last: i32, key: u32, key_last: u32) -> u32 {
    STATE
}
fn termNUMBER_range(b: u32, h: u32, first: i32, last: i32) -> vec2<i32> {
    KEYS
}
