// Keys that lie by strides: by batch and index.

fn kv_place(b: u32, key: u32) -> vec2<u32> {
    return vec2(b, key);
}
