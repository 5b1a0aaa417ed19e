// Numbers of quantised blocks, from words that hold them.

// Four signed bytes.
fn q8_numbers(word: u32) -> vec4<f32> {
    return vec4<f32>(bitcast<vec4<i32>>(vec4(word << 24u, word << 16u, word << 8u, word)) >> vec4(24u));
}
// The low halves of four bytes, less 8, times the scale: the nibbles stay where they are, the scale makes up for it.
fn q4_numbers(word: u32, scale: f32) -> vec4<f32> {
    let nibbles = bitcast<vec4<i32>>(vec4(word) & vec4(0xfu, 0xf00u, 0xf0000u, 0xf000000u));
    return fma(vec4<f32>(nibbles), scale * vec4(1.0, 0.00390625, 0.0000152587890625, 0.000000059604644775390625), vec4(-8.0 * scale));
}
// Nibbles as floats of two exponent bits and one of mantissa: twice the magnitude is one of 0, 1, 2, 3, 4, 6, 8, 12.
fn e2m1(nibbles: vec4<u32>) -> vec4<f32> {
    let twice = (vec4(0xc8643210u) >> ((nibbles & vec4(7u)) * 4u)) & vec4(15u);
    return bitcast<vec4<f32>>(bitcast<vec4<u32>>(vec4<f32>(bitcast<vec4<i32>>(twice)) * 0.5) | ((nibbles & vec4(8u)) << vec4(28u)));
}
// Of the low halves of four bytes.
fn e2m1_numbers(word: u32) -> vec4<f32> {
    return e2m1(vec4(word, word >> 8u, word >> 16u, word >> 24u));
}
// Of the four halves of two bytes.
fn e2m1_pairs(word: u32) -> vec4<f32> {
    return e2m1(vec4(word, word >> 4u, word >> 8u, word >> 12u));
}
// 2^(exponent - 127), NaN for 255.
fn e8m0(exponent: u32) -> f32 {
    return bitcast<f32>(select(select(exponent << 23u, 0x00400000u, exponent == 0u), 0x7fc00000u, exponent == 255u));
}
