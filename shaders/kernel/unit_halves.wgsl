// Units of eight numbers of 16 bits.
fn NAME_raw(offset: u32, unit: u32) -> Raw { return NAME[offset / 8u + unit]; }
fn NAME_vector(raw: Raw, v: u32) -> vec4<f32> {
    if (v == 0u) { return FIRST_HALF; }
    return SECOND_HALF;
}
