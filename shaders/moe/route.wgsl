// Token choice (and, with EVERY, the first half of expert choice): a workgroup routes a token. What is chosen by are keys in
// workgroup memory: 0 for an expert that may not be chosen, above it NaN, then −inf, then the numbers; ties go to the lower index, so
// that every order is a total one.

const SOFTMAX: u32 = 0u;
const OPEN: u32 = 1u;
const CHOSEN: u32 = select(TOP_K, 1u, EVERY);

var<workgroup> wg_logit: array<f32, CHOICES>;
var<workgroup> wg_key: array<u32, CHOICES>;
var<workgroup> wg_reduce: array<f32, WORKGROUP_SIZE>;
var<workgroup> wg_chosen: array<u32, CHOSEN>;

// What the softmax over a token's open experts divides by; NaN where one of them is NaN or +inf.
struct Line { most: f32, sum: f32 }

// The maximum, or the sum, of a value of each lane.
fn reduce(lane: u32, value: f32, sums: bool) -> f32 {
    workgroupBarrier(); // the last result has been read
    wg_reduce[lane] = value;
    workgroupBarrier(); // all values are there
    for (var step = WORKGROUP_SIZE / 2u; step > 0u; step /= 2u) {
        if (lane < step) {
            let other = wg_reduce[lane + step];
            wg_reduce[lane] = select(max(wg_reduce[lane], other), wg_reduce[lane] + other, sums);
        }
        workgroupBarrier(); // half as many are left
    }
    return wg_reduce[0];
}

// A lane's own experts are the same everywhere.
fn line_of(lane: u32) -> Line {
    if (SCORE != SOFTMAX) { return Line(0.0, 1.0); }
    var most = LOWEST;
    for (var e = lane; e < CHOICES; e += WORKGROUP_SIZE) {
        if (wg_key[e] != 0u && is_finite(wg_logit[e])) { most = max(most, wg_logit[e]); }
    }
    most = reduce(lane, most, false);
    var sum = 0.0;
    for (var e = lane; e < CHOICES; e += WORKGROUP_SIZE) {
        if (wg_key[e] != 0u) { sum += power(wg_logit[e], most); }
    }
    return Line(most, reduce(lane, sum, true));
}

// Of an open expert.
fn score_of(line: Line, e: u32) -> f32 {
    let logit = wg_logit[e];
    if (SCORE == SOFTMAX) { return power(logit, line.most) / line.sum; }
    if (SCORE == SIGMOID) { return sigmoid_of(logit, 0.0); }
    if (SCORE == SQRT_SOFTPLUS) { return sqrt_softplus(logit, 0.0); }
    return logit;
}

// What an open expert is chosen by. Every score keeps the order of the logits and, unlike its rounded results, their differences.
fn choice_key(line: Line, e: u32, by_logit: bool) -> u32 {
    if (SCORE == SOFTMAX && is_nan(line.sum)) { return sort_key(line.sum); }
    if (by_logit) { return sort_key(wg_logit[e]); }
    return sort_key(score_of(line, e) + correction_get(e));
}

fn put(pair: u32, expert: u32, weight: f32) {
    routing[params.ids + pair] = expert;
    if (CAPACITY) { routing[params.experts + pair] = expert; }
    weights[pair] = weight;
    ids_out(pair, expert);
    weights_out(pair, weight);
}

@compute @workgroup_size(WORKGROUP_SIZE)
fn moe_route(
    @builtin(workgroup_id) workgroup: vec3<u32>, @builtin(num_workgroups) workgroups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let place = params.place_first + workgroup.x + workgroup.y * workgroups.x;
    let token = min(place, params.tokens - 1u); // a workgroup beyond the last repeats it and writes nothing
    for (var e = lane; e < CHOICES; e += WORKGROUP_SIZE) {
        let logit = logits_get(token * params.logits_stride + e);
        let open = !is_lowest(logit) && mask_get(token * params.mask_stride + e);
        wg_logit[e] = logit;
        wg_key[e] = select(0u, OPEN, open);
    }
    let line = line_of(lane);
    if (EVERY) {
        for (var e = lane; e < CHOICES; e += WORKGROUP_SIZE) {
            let open = wg_key[e] != 0u;
            var score = 0.0;
            if (open) { score = score_of(line, e); }
            if (place < params.tokens) { put(token * CHOICES + e, select(NONE, e, open), score); }
        }
        return;
    }
    if (GROUPS > 1u) {
        workgroupBarrier(); // the logits are there
        drop_groups(lane, line);
        workgroupBarrier(); // the groups are dropped
    }
    choose(lane, line, min(top_k_get(token), TOP_K));
    let slot = lane % CHOSEN;
    let expert = wg_chosen[slot];
    let shift = shift_of_chosen();
    if (lane < CHOSEN) {
        var term = 0.0;
        if (expert != NONE) { term = term_of(line, expert, shift); }
        wg_weight[slot] = term;
    }
    workgroupBarrier(); // the slots' terms are there
    var weight = 0.0;
    if (expert != NONE) { weight = weight_of(line, slot, shift) * SCALE; }
    if (lane < TOP_K && place < params.tokens) { put(token * TOP_K + lane, expert, weight); }
    if (GATES) {
        workgroupBarrier(); // the terms have been read
        if (lane < CHOSEN) { wg_weight[slot] = weight; }
        workgroupBarrier(); // the weights are there
        for (var e = lane; e < CHOICES && place < params.tokens; e += WORKGROUP_SIZE) {
            var gate = 0.0;
            for (var k = 0u; k < CHOSEN; k++) {
                if (wg_chosen[k] == e) { gate = wg_weight[k]; }
            }
            gates_out(token * CHOICES + e, gate);
        }
    }
}
