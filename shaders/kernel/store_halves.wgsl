// The same of halves that share words with other lanes: by atomics.
fn NAME_put(i: u32, value: f32) {
    let shift = 16u * (i & 1u);
    atomicAnd(&NAME[i >> 1u], 0xffff0000u >> shift);
    atomicOr(&NAME[i >> 1u], TO_BITS(value) << shift);
}
fn NAME_store4(offset: u32, d: u32, value: vec4<f32>) {
    for (var j = 0u; j < min(4u, DIMS - d); j++) { NAME_put(offset + d + j, value[j]); }
}
