// Scores of single logits, over exp(shift) or its root: 0, or what lets the scores of logits far below 0 be compared. NaN stays what
// it is.

const SIGMOID: u32 = 1u;
const SQRT_SOFTPLUS: u32 = 2u;

fn sigmoid_of(logit: f32, shift: f32) -> f32 {
    if (is_nan(logit)) { return logit; }
    if (logit > 0.0) { return 1.0 / (1.0 + exp(-logit)); }
    return exp(logit - shift) / (1.0 + exp(logit));
}

// sqrt(ln(1 + exp(logit))). ln(1 + t) = 2 artanh z with z = t / (2 + t), at most 1/3, so that nothing is lost beside the 1; below 0
// the root of t = exp(logit) is taken by itself, which f32 still holds where t has become 0.
fn sqrt_softplus(logit: f32, shift: f32) -> f32 {
    if (!is_finite(logit)) { return logit; }
    let t = exp(max(-abs(logit), -87.0));
    let z = t / (2.0 + t);
    let s = z * z;
    let series = fma(s, fma(s, fma(s, fma(s, fma(s, fma(s, fma(s, 0.06666667, 0.07692308), 0.09090909), 0.11111111), 0.14285714), 0.2),
        0.33333333), 1.0);
    if (logit > 0.0) { return sqrt(fma(2.0 * z, series, logit)); }
    return exp(0.5 * (logit - shift)) * sqrt(2.0 / (2.0 + t) * series);
}
