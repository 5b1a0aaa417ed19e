// The block that the words taken are, as signed bytes.
fn NAME_block(taken: Taken) -> Bytes {
    let scale = e8m0((taken.head >> taken.shift) & 0xffu);
    var words: array<u32, 8>;
    MAKE_VECTORS
    return Bytes(vec4(words[0], words[1], words[2], words[3]), vec4(words[4], words[5], words[6], words[7]), 0.5 * scale);
}
