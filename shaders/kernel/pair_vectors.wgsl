// Vectors of a row of such blocks.
fn NAME_load4(offset: u32, d: u32) -> vec4<f32> {
    let place = min(d, DIMS - 4u);
    let word = NAME[offset / 4u + place / 8u];
    let value = NAME_scale(offset, place / 32u) * e2m1_pairs(word >> (place / 4u % 2u * 16u));
    return select(vec4(0.0), value, d < DIMS);
}
