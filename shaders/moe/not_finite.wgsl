// What is told by bits: drivers may assume that no number is NaN or infinite, and their functions may lose one.

fn is_nan(value: f32) -> bool { return (bitcast<u32>(value) & 0x7fffffffu) > 0x7f800000u; }
fn is_finite(value: f32) -> bool { return (bitcast<u32>(value) & 0x7f800000u) != 0x7f800000u; }
fn is_lowest(value: f32) -> bool { return bitcast<u32>(value) == 0xff800000u; } // −inf

// exp(value − most), `most` being the largest finite value; NaN for NaN and +inf.
fn power(value: f32, most: f32) -> f32 {
    if (!is_finite(value)) { return bitcast<f32>(bitcast<u32>(value) | 0x7fc00000u); }
    return exp(min(value - most, 0.0));
}
