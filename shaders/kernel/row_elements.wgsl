// Rows by elements, zero from the last dim on.
fn NAME_at(offset: u32, d: u32) -> f32 {
    let i = offset + min(d, LAST_DIM);
    return select(0.0, ELEMENT, d < DIMS);
}
fn NAME_load4(offset: u32, d: u32) -> vec4<f32> {
    return vec4(NAME_at(offset, d), NAME_at(offset, d + 1u), NAME_at(offset, d + 2u), NAME_at(offset, d + 3u));
}
