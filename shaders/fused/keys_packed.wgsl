// Keys of sequences that lie one after another.

fn own_len(b: u32) -> u32 {
    let first = first_key(b);
    return max(first_key(b + 1u), first) - first;
}

fn kv_place(b: u32, key: u32) -> vec2<u32> {
    return vec2(0u, first_key(b) + key);
}
