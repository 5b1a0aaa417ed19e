// Rows by aligned vectors.
fn NAME_store4(offset: u32, d: u32, value: vec4<f32>) {
    NAME[(offset + d) / 4u] = STORED;
}
