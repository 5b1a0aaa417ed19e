// tanh to f32 precision everywhere: drivers build theirs from exp, which cancels near 0 and overflows far from it.
// The polynomial is that of the Cephes library (S. Moshier).

fn precise_tanh(x: f32) -> f32 {
    let a = min(abs(x), 10.0);
    let z = a * a;
    let near = fma(fma(fma(fma(fma(-5.70498872745e-3, z, 2.06390887954e-2), z, -5.37397155531e-2), z, 1.33314422036e-1), z, -3.33332819422e-1), z * a, a);
    let far = 1.0 - 2.0 / (exp(2.0 * a) + 1.0);
    return select(sign(x) * select(far, near, a < 0.625), x, is_nan(x));
}

fn softcap(score: f32, cap: f32) -> f32 {
    return cap * precise_tanh(score / cap);
}
