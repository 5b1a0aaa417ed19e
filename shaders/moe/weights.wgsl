// Token choice: what the chosen experts weigh.

const BY_SCORE: u32 = 0u;
const RENORMALIZED: u32 = 1u;
const BY_SOFTMAX: u32 = 2u;

var<workgroup> wg_weight: array<f32, CHOSEN>;

// What the chosen experts' scores are compared beside: the largest of their logits; of scores that no sum divides, below 0.
fn shift_of_chosen() -> f32 {
    let alone = WEIGHT == RENORMALIZED && SCORE != SOFTMAX;
    var most = LOWEST;
    for (var k = 0u; k < CHOSEN; k++) {
        if (wg_chosen[k] == NONE) { continue; }
        let logit = wg_logit[wg_chosen[k]];
        if (is_finite(logit)) { most = max(most, logit); } else if (alone) { most = max(most, 0.0); }
    }
    return select(most, min(most, 0.0), alone);
}

// A chosen expert's score, as far as the weight is made of scores, beside those of the others.
fn term_of(line: Line, e: u32, shift: f32) -> f32 {
    let logit = wg_logit[e];
    if (WEIGHT == BY_SCORE) { return score_of(line, e); }
    if (WEIGHT == BY_SOFTMAX) { return power(logit, shift); }
    if (WEIGHT != RENORMALIZED) { return sigmoid_of(logit, 0.0); }
    if (SCORE == SOFTMAX) { return power(logit, shift); }
    if (SCORE == SIGMOID) { return sigmoid_of(logit, shift); }
    if (SCORE == SQRT_SOFTPLUS) { return sqrt_softplus(logit, shift); }
    return logit;
}

// Epsilon beside the terms; what it is then bounded by has made every weight 0.
fn shifted_epsilon(line: Line, shift: f32) -> f32 {
    if (EPSILON == 0.0 || SCORE > SQRT_SOFTPLUS) { return EPSILON; }
    let sum = select(1.0, line.sum, SCORE == SOFTMAX);
    let exponent = select(-shift, select(line.most - shift, -0.5 * shift, SCORE == SQRT_SOFTPLUS), SCORE != SIGMOID);
    if (exponent <= 0.0) { return EPSILON * sum; }
    return sign(EPSILON) * exp(min(exponent + EPSILON_LOG, 80.0)) * sum;
}

// The weight of a slot; the slots' terms are in workgroup memory.
fn weight_of(line: Line, slot: u32, shift: f32) -> f32 {
    let term = wg_weight[slot];
    if (WEIGHT != RENORMALIZED && WEIGHT != BY_SOFTMAX) { return term; }
    var sum = 0.0;
    for (var k = 0u; k < CHOSEN; k++) { sum += wg_weight[k]; }
    if (WEIGHT == BY_SOFTMAX) { return term / sum; }
    if (SCORE == SOFTMAX && is_nan(line.sum)) { return line.sum; }
    return term / (sum + shifted_epsilon(line, shift));
}
