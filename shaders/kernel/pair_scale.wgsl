// A block's scale, the byte of its number.
fn NAME_scale(offset: u32, block: u32) -> f32 {
    let at = params.NAME_scales_first + (offset - params.NAME_first) / 16u + block;
    return e8m0((NAME_scales[at >> 2u] >> (8u * (at & 3u))) & 0xffu);
}
