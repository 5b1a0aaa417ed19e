// Rows of a constant number of dims, by aligned vectors.
fn NAME_load4(offset: u32, d: u32) -> vec4<f32> {
    let word = NAME[(offset + VECTOR_DIM) / 4u];
    let value = NUMBERS;
    return KEPT;
}
