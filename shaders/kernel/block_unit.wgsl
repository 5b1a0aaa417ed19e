// Blocks of a unit as they are stored, shifted to whole words, and the numbers of one of their vectors.
fn NAME_raw(offset: u32, unit: u32) -> Raw {
    let at = offset + unit * UNIT_BYTES;
    let shift = 8u * (at & 3u);
    var words: array<u32, WORD_COUNT>;
    var raw: Raw;
    var head: u32;
    TAKE_VECTORS
    TAKE_WORDS
    TAKE_BLOCKS
    return raw;
}
fn NAME_vector(raw: Raw, v: u32) -> vec4<f32> {
    var words = raw.words;
    let word = words[WORD_OF_VECTOR];
    return NUMBERS;
}
