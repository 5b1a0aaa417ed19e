// NaN is told by its bits: comparisons may be compiled as if there were none.

fn is_nan(value: f32) -> bool {
    return (bitcast<u32>(value) & 0x7fffffffu) > 0x7f800000u;
}

// The result of exp or log at x: those of some software drivers make a number of NaN.
fn nan_kept(result: f32, x: f32) -> f32 {
    return select(result, x, is_nan(x));
}
