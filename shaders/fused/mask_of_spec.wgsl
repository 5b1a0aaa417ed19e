// What a spec's mask keeps, what it says of a tile, and which keys are worth visiting: the terms of its masks, and the root.
TERMS
fn mask_keeps(b: u32, h: u32, q: u32, kv: u32) -> bool {
    return MASK_KEEPS;
}
fn mask_tile(b: u32, h: u32, q: u32, q_last: u32, key: u32, key_last: u32) -> u32 {
    let first = pos_q(b, q);
    let last = pos_q(b, q_last);
    return MASK_STATE;
}
fn mask_range(b: u32, h: u32, q: u32, q_last: u32) -> vec2<i32> {
    let first = pos_q(b, q);
    let last = pos_q(b, q_last);
    return MASK_KEYS;
}
