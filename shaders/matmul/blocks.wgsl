// Numbers of quantised blocks, from words that hold them.

// Four signed bytes.
fn q8_numbers(word: u32) -> vec4<f32> {
    return vec4<f32>(unpack4xI8(word));
}
// The low halves of four bytes, 0 to 15.
fn q4_numbers(word: u32) -> vec4<f32> {
    return vec4<f32>(unpack4xU8(word & 0x0f0f0f0fu));
}
// The same less 8, as signed bytes: no byte borrows from its neighbour.
fn q4_bytes(word: u32) -> u32 {
    return (((word & 0x0f0f0f0fu) | 0x80808080u) - 0x08080808u) ^ 0x80808080u;
}
// Nibbles as floats of two exponent bits and one of mantissa, in the top bits of words: with a float's own exponent of 0.5 below
// they are right but for the smallest two, 0.5 and 0.75 for 0 and 0.5, which alone grow when doubled less one.
fn e2m1(nibbles: vec4<u32>) -> vec4<f32> {
    let size = bitcast<vec4<f32>>(((nibbles >> vec4(6u)) & vec4(0x01c00000u)) + vec4(0x3f000000u));
    let exact = min(size, fma(size, vec4(2.0), vec4(-1.0)));
    return bitcast<vec4<f32>>(bitcast<vec4<u32>>(exact) | (nibbles & vec4(0x80000000u)));
}
// Twice such numbers, whole, as signed bytes.
fn e2m1_bytes(numbers: vec4<f32>) -> u32 {
    return pack4xI8(vec4<i32>(numbers + numbers));
}
// Of the low halves of four bytes.
fn e2m1_numbers(word: u32) -> vec4<f32> {
    return e2m1(vec4(word << 28u, word << 20u, word << 12u, word << 4u));
}
// Of the four halves of two bytes.
fn e2m1_pairs(word: u32) -> vec4<f32> {
    return e2m1(vec4(word << 28u, word << 24u, word << 20u, word << 16u));
}
// 2^(exponent - 127), NaN for 255.
fn e8m0(exponent: u32) -> f32 {
    return bitcast<f32>(select(select(exponent << 23u, 0x00400000u, exponent == 0u), 0x7fc00000u, exponent == 255u));
}
// The four of eight words that start at a word of the first four.
fn words_from(a: vec4<u32>, b: vec4<u32>, first: u32) -> vec4<u32> {
    let even = select(a, vec4(a.zw, b.xy), first > 1u);
    return select(even, vec4(even.yzw, select(b.x, b.z, first > 1u)), (first & 1u) == 1u);
}
