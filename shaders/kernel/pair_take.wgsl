// The words of a run of blocks beside their scales, and the word with its scale.
fn NAME_take(offset: u32, d: u32) -> Taken {
    let block = params.NAME_scales_first + (offset - params.NAME_first) / 16u + d / 32u;
    let at = offset / 4u + d / 8u;
    var taken: Taken;
    taken.shift = 8u * (block & 3u);
    taken.head = NAME_scales[block >> 2u];
    TAKE_WORDS
    return taken;
}
