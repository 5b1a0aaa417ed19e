// Vectors of a row of bytes.
fn a_load4(offset: u32, d: u32) -> vec4<f32> {
    let at = offset + select(min(d, params.inner - 4u), d, INNER_WHOLE);
    let value = vec4<f32>(unpack4xI8(a[at / 4u])) * bitcast<f32>(a[params.a_scales + at / 32u]);
    return select(vec4(0.0), value, INNER_WHOLE || d < params.inner);
}
