// Sigmoid attention: every weight stands alone; nothing runs, nothing is divided by.

fn norm_max(m: f32, tile_max: f32) -> f32 {
    return 0.0;
}

fn norm_exponent(s: f32, m: f32) -> f32 {
    return 0.0;
}

fn norm_weight(s: f32, m: f32) -> f32 {
    let weight = 1.0 / (1.0 + exp(-(s + params.sigmoid_bias)));
    if (EXP_LOSES_NAN) { return nan_kept(weight, s); }
    return weight;
}

fn norm_rescale(m_old: f32, m_new: f32) -> f32 {
    return 1.0;
}

struct Finish {
    scale: f32,
    lse: f32,
    empty: bool,
}

fn norm_finish(row: Row, part: u32, m: f32, l: f32) -> Finish {
    return Finish(1.0, 0.0, false);
}
