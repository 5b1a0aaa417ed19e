// Online softmax. The running maximum m is one of the scores, to the bit: what is subtracted is exact however large scores are,
// and the highest weighs 1. Scores that come from scaled queries are in log2 units already.

fn norm_max(m: f32, tile_max: f32) -> f32 {
    return max(m, tile_max);
}

// By how many powers of two s outweighs m.
fn norm_exponent(s: f32, m: f32) -> f32 {
    return select((s - m) * params.exp_scale, s - m, Q_SCALED);
}

fn norm_weight(s: f32, m: f32) -> f32 {
    let exponent = norm_exponent(s, m);
    if (EXP_LOSES_NAN) { return nan_kept(exp2(exponent), exponent); }
    return exp2(exponent);
}

fn norm_rescale(m_old: f32, m_new: f32) -> f32 {
    return exp2(norm_exponent(m_old, m_new));
}

struct Finish {
    scale: f32,      // of the accumulated values
    lse: f32,
    empty: bool,     // no key and no sink: lse is minus infinity
}

const LN_2: f32 = 0.6931471805599453;
const LOG2_E: f32 = 1.4426950408889634;

// The sink's logit joins the denominator of the first part only, so that merging parts counts it once.
fn norm_finish(row: Row, part: u32, m_score: f32, l: f32) -> Finish {
    let m = select(m_score * params.exp_scale, m_score, Q_SCALED);
    if (HAS_SINK && part == 0u && row_is_owned(row)) {
        let sink = sink_logit(row.head) * LOG2_E;
        if (l == 0.0) { return Finish(0.0, sink * LN_2, false); }
        let highest = max(m, sink);
        let weight = exp2(m - highest);
        let sum = fma(l, weight, nan_kept(exp2(sink - highest), sink));
        return Finish(weight / sum, (highest + nan_kept(log2(sum), sum)) * LN_2, false);
    }
    if (l == 0.0) { return Finish(0.0, 0.0, true); }
    return Finish(1.0 / l, (m + nan_kept(log2(l), l)) * LN_2, false);
}
