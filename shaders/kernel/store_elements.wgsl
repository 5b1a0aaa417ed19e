// Rows by elements; those from the last dim on are dropped.
fn NAME_store4(offset: u32, d: u32, value: vec4<f32>) {
    for (var j = 0u; j < min(4u, DIMS - d); j++) { NAME[offset + d + j] = value[j]; }
}
