// Online softmax. The running maximum m is kept in log2 units (score * exp_scale), rounded once: weights and lse share
// its rounding, which cancels, and a weight costs one fma and one exp2.

fn norm_max(m: f32, tile_max: f32) -> f32 {
    return max(m, tile_max * params.exp_scale);
}

// Not clamped at 0: min would turn NaN into a weight of 1, and rounding lifts the exponent by next to nothing.
fn norm_weight(s: f32, m: f32) -> f32 {
    return exp2(fma(s, params.exp_scale, -m));
}

fn norm_rescale(m_old: f32, m_new: f32) -> f32 {
    return exp2(min(0.0, m_old - m_new));
}

struct Finish {
    scale: f32,      // of the accumulated values
    lse: f32,
    empty: bool,     // no key and no sink: lse is minus infinity
}

const LN_2: f32 = 0.6931471805599453;
const LOG2_E: f32 = 1.4426950408889634;

// The sink's logit joins the denominator of the first part only, so that merging parts counts it once.
fn norm_finish(row: Row, part: u32, m: f32, l: f32) -> Finish {
    if (HAS_SINK && part == 0u) {
        let sink = sink_logit(row.head) * LOG2_E;
        if (l == 0.0) { return Finish(0.0, sink * LN_2, false); }
        let highest = max(m, sink);
        let weight = exp2(m - highest);
        let sum = fma(l, weight, exp2(sink - highest));
        return Finish(weight / sum, (highest + log2(sum)) * LN_2, false);
    }
    if (l == 0.0) { return Finish(0.0, 0.0, true); }
    return Finish(1.0 / l, (m + log2(l)) * LN_2, false);
}
