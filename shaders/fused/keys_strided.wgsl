// Keys that lie by strides: by batch and index. Those from key_first to key_end are bound.

fn kv_place(b: u32, key: u32) -> vec2<u32> {
    return vec2(b, key);
}

fn kv_first(b: u32) -> u32 {
    return params.key_first;
}

fn kv_end(b: u32) -> u32 {
    return min(kv_len(b), params.key_end);
}
