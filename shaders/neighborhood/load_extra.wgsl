// Four dims of a key, or value, of the window or of an extra token.
fn ROLE_load4(offset: u32, d: u32) -> vec4<f32> {
    if (offset >= EXTRA_OFFSET) { return extra_ROLE_load4(offset - EXTRA_OFFSET, d); }
    return window_ROLE_load4(offset, d);
}
