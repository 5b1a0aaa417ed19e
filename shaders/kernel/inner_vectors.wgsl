// Rows of `params.inner` dims, by aligned vectors; INNER_WHOLE: nothing beyond them is asked for.
fn NAME_load4(offset: u32, d: u32) -> vec4<f32> {
    let word = NAME[offset / 4u + select(min(d, params.inner - 4u), d, INNER_WHOLE) / 4u];
    return select(vec4(0.0), NUMBERS, INNER_WHOLE || d < params.inner);
}
