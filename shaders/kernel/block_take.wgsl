// The words that a run of vectors lies in, and the word with its scale.
fn NAME_take(offset: u32, d: u32) -> Taken {
    let block = offset + d / 32u * BLOCK_BYTES;
    let at = block + HEAD_BYTES + BYTE_OF_DIM;
    var taken: Taken;
    taken.shift = 8u * (at & 3u);
    taken.head = NAME[block >> 2u];
    TAKE_WORDS
    return taken;
}
