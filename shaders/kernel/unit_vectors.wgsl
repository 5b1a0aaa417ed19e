// Units of one vector.
fn NAME_raw(offset: u32, unit: u32) -> Raw { return NAME_load4(offset, 4u * unit); }
fn NAME_vector(raw: Raw, v: u32) -> vec4<f32> { return raw; }
