// The same of halves as they lie.
fn NAME_half4(offset: u32, d: u32) -> vec4<f16> {
    let word = NAME[offset / 4u + select(min(d, params.inner - 4u), d, INNER_WHOLE) / 4u];
    return select(vec4<f16>(), word, INNER_WHOLE || d < params.inner);
}
fn NAME_load4(offset: u32, d: u32) -> vec4<f32> { return vec4<f32>(NAME_half4(offset, d)); }
