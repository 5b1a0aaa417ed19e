// Vectors of a row of blocks, which may start at any byte: words are read whole and shifted.
fn NAME_word(at: u32) -> u32 {
    let shift = 8u * (at & 3u);
    let high = NAME[(at >> 2u) + min(shift, 1u)];
    return (NAME[at >> 2u] >> shift) | ((high << 1u) << (31u - shift));
}
fn NAME_load4(offset: u32, d: u32) -> vec4<f32> {
    let block = offset + min(d, DIMS - 4u) / 32u * BLOCK_BYTES;
    let head = NAME[block >> 2u] >> (8u * (block & 3u));
    let scale = SCALE_OF_HEAD;
    let word = NAME_word(block + HEAD_BYTES + BYTE_OF_DIM);
    return select(vec4(0.0), scale * (NUMBERS - OFFSET), d < DIMS);
}
