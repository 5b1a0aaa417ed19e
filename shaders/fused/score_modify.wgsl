// The list of score modifiers, in order.
fn score_modify(score: f32, b: u32, h: u32, q: QUERY, kv: u32) -> f32 {
    var s = score;
    STEPS
    return s;
}
