// A block as it is stored, and the numbers of one of its vectors.
fn NAME_raw(offset: u32, unit: u32) -> Raw {
    let words = NAME[offset / 16u + unit];
    return Raw(array<f32, 1>(NAME_scale(offset, unit)), array<u32, 4>(words.x, words.y, words.z, words.w));
}
fn NAME_vector(raw: Raw, v: u32) -> vec4<f32> {
    var words = raw.words;
    return e2m1_pairs(words[v / 2u] >> (v % 2u * 16u));
}
