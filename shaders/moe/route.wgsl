// Token choice (and, with EVERY, the first half of expert choice): a workgroup routes a token. What is chosen by are keys in
// workgroup memory: 0 for an expert that may not be chosen, above it NaN, then −inf, then the numbers; ties go to the lower index, so
// that every order is a total one.

const SOFTMAX: u32 = 0u;
const BY_SCORE: u32 = 0u;
const RENORMALIZED: u32 = 1u;
const BY_SOFTMAX: u32 = 2u;
const OPEN: u32 = 1u;
const KEY_OF_LOWEST: u32 = 0x007fffffu; // −inf
const CHOSEN: u32 = select(TOP_K, 1u, EVERY);
const GROUP_SIZE: u32 = CHOICES / GROUPS;
const GROUP_LANES: u32 = max(WORKGROUP_SIZE / GROUPS, 1u);
const PER_LANE: u32 = (CHOICES + WORKGROUP_SIZE - 1u) / WORKGROUP_SIZE;

var<workgroup> wg_logit: array<f32, CHOICES>;
var<workgroup> wg_key: array<u32, CHOICES>;
var<workgroup> wg_reduce: array<f32, WORKGROUP_SIZE>;
var<workgroup> wg_best: array<vec2<u32>, WORKGROUP_SIZE>;   // key and expert
var<workgroup> wg_left: array<vec2<u32>, CHOSEN * PER_LANE>; // the same
var<workgroup> wg_two: array<vec2<u32>, GROUPS * GROUP_LANES>;
var<workgroup> wg_group: array<u32, GROUPS>;
var<workgroup> wg_chosen: array<u32, CHOSEN>;
var<workgroup> wg_weight: array<f32, CHOSEN>;

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

// The two largest of two pairs in descending order.
fn best_two(a: vec2<u32>, b: vec2<u32>) -> vec2<u32> {
    return vec2(max(a.x, b.x), max(min(a.x, b.x), max(a.y, b.y)));
}

// A group's key from those of its best two: what is no better than −inf adds nothing.
fn group_key(two: vec2<u32>) -> u32 {
    if (!GROUP_BY_SUM || two.y <= KEY_OF_LOWEST) { return two.x; }
    return sort_key(number_of_key(two.x) + number_of_key(two.y));
}

// Experts of all but the best groups may not be chosen. GROUP_LANES lanes look at a group.
fn drop_groups(lane: u32, line: Line) {
    for (var i = lane; i < GROUPS * GROUP_LANES; i += WORKGROUP_SIZE) {
        let first = i / GROUP_LANES * GROUP_SIZE;
        var two = vec2(0u);
        for (var e = first + i % GROUP_LANES; e < first + GROUP_SIZE; e += GROUP_LANES) {
            if (wg_key[e] != 0u) { two = best_two(two, vec2(choice_key(line, e, GROUP_BY_LOGIT), 0u)); }
        }
        wg_two[i] = two;
    }
    workgroupBarrier(); // every lane's best two are there
    for (var g = lane; g < GROUPS; g += WORKGROUP_SIZE) {
        var two = wg_two[g * GROUP_LANES];
        for (var i = 1u; i < GROUP_LANES; i++) { two = best_two(two, wg_two[g * GROUP_LANES + i]); }
        wg_group[g] = group_key(two);
    }
    workgroupBarrier(); // the groups' keys are there, the best two have been read
    for (var g = lane; g < GROUPS; g += WORKGROUP_SIZE) {
        let key = wg_group[g];
        var rank = 0u;
        for (var i = 0u; i < GROUPS; i++) {
            let other = wg_group[i];
            rank += select(0u, 1u, other > key || (other == key && i < g));
        }
        wg_two[g].x = rank;
    }
    workgroupBarrier(); // the groups' ranks are there
    for (var e = lane; e < CHOICES; e += WORKGROUP_SIZE) {
        if (wg_two[e / GROUP_SIZE].x >= GROUPS_KEPT) { wg_key[e] = 0u; }
    }
}

fn precedes(a: vec2<u32>, b: vec2<u32>) -> bool { return a.x > b.x || (a.x == b.x && a.y < b.y); }

// Fills the first `top_k` slots, as far as there are experts that may be chosen. Only the experts of the CHOSEN lanes whose best
// are the best can be among them: lanes are ranked first, then the experts of those lanes.
fn choose(lane: u32, line: Line, top_k: u32) {
    var best = vec2(0u, NONE);
    for (var e = lane; e < CHOICES; e += WORKGROUP_SIZE) {
        if (wg_key[e] == 0u) { continue; }
        let own = vec2(choice_key(line, e, CHOICE_BY_LOGIT), e);
        wg_key[e] = own.x;
        if (own.x > best.x) { best = own; }
    }
    wg_best[lane] = best;
    for (var k = lane; k < CHOSEN; k += WORKGROUP_SIZE) { wg_chosen[k] = NONE; }
    if (PER_LANE > 1u) {
        for (var i = lane; i < CHOSEN * PER_LANE; i += WORKGROUP_SIZE) { wg_left[i] = vec2(0u, NONE); }
    }
    workgroupBarrier(); // every lane's best is there, slots are empty
    var rank = 0u;
    for (var i = 0u; i < WORKGROUP_SIZE; i++) { rank += select(0u, 1u, precedes(wg_best[i], best)); }
    if (PER_LANE == 1u) {
        if (best.x != 0u && rank < top_k) { wg_chosen[rank] = best.y; }
    } else {
        if (best.x != 0u && rank < CHOSEN) {
            for (var i = 0u; i < PER_LANE; i++) {
                let e = lane + i * WORKGROUP_SIZE;
                if (e < CHOICES) { wg_left[rank * PER_LANE + i] = vec2(wg_key[e], e); }
            }
        }
        workgroupBarrier(); // the experts that are left are there
        for (var i = lane; i < CHOSEN * PER_LANE; i += WORKGROUP_SIZE) {
            let own = wg_left[i];
            var before = 0u;
            for (var j = 0u; j < CHOSEN * PER_LANE; j++) { before += select(0u, 1u, precedes(wg_left[j], own)); }
            if (own.x != 0u && before < top_k) { wg_chosen[before] = own.y; }
        }
    }
    workgroupBarrier(); // the slots are filled
}

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
