// The block that the words taken are, as signed bytes.
fn NAME_block(taken: Taken) -> Bytes {
    let shift = taken.shift;
    let head = taken.head >> ((shift - HEAD_BITS) & 31u);
    let scale = SCALE_OF_HEAD;
    var words: array<u32, 8>;
    var word: u32;
    MAKE_VECTORS
    return Bytes(vec4(words[0], words[1], words[2], words[3]), vec4(words[4], words[5], words[6], words[7]), BYTE_UNIT);
}
