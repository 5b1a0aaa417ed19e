// Token choice (and, with EVERY, the first half of expert choice): a workgroup routes a token. Scores go to workgroup memory; an
// expert's rank is how many others come before it, so that ties go to the lower index and every order is a total one.

const SOFTMAX: u32 = 0u;
const SIGMOID: u32 = 1u;
const SQRT_SOFTPLUS: u32 = 2u;
const BY_SCORE: u32 = 0u;
const RENORMALIZED: u32 = 1u;
const BY_SOFTMAX: u32 = 2u;
const CHOSEN: u32 = select(TOP_K, 1u, EVERY);
const GROUP_SIZE: u32 = CHOICES / GROUPS;
const PER_LANE: u32 = (CHOICES + WORKGROUP_SIZE - 1u) / WORKGROUP_SIZE;

var<workgroup> wg_logit: array<f32, CHOICES>;
var<workgroup> wg_score: array<f32, CHOICES>;
var<workgroup> wg_key: array<u32, CHOICES>;
var<workgroup> wg_group: array<u32, GROUPS>;
var<workgroup> wg_chosen: array<u32, CHOSEN>;
var<workgroup> wg_reduce: array<f32, WORKGROUP_SIZE>;

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

// Scores of all experts from their logits; 0 for one that may not be chosen.
fn score_all(lane: u32) {
    var most = LOWEST;
    for (var i = 0u; i < PER_LANE; i++) {
        let e = lane + i * WORKGROUP_SIZE;
        if (e < CHOICES && wg_key[e] != 0u) { most = max(most, wg_logit[e]); }
    }
    if (SCORE == SOFTMAX) { most = reduce(lane, most, false); }
    var sum = 0.0;
    for (var i = 0u; i < PER_LANE; i++) {
        let e = lane + i * WORKGROUP_SIZE;
        if (e >= CHOICES) { continue; }
        let logit = wg_logit[e];
        var score = logit;
        if (SCORE == SOFTMAX) { score = exp(logit - most); }
        if (SCORE == SIGMOID) { score = sigmoid(logit); }
        if (SCORE == SQRT_SOFTPLUS) { score = sqrt(max(logit, 0.0) + log(1.0 + exp(-abs(logit)))); }
        score = select(score, 0.0, wg_key[e] == 0u);
        wg_score[e] = score;
        sum += score;
    }
    if (SCORE == SOFTMAX) {
        sum = reduce(lane, sum, true);
        for (var i = 0u; i < PER_LANE; i++) {
            let e = lane + i * WORKGROUP_SIZE;
            if (e < CHOICES) { wg_score[e] /= sum; }
        }
    }
}

// What is chosen by. Softmax keeps the order of the logits and, unlike its rounded results, their differences.
fn choice(e: u32) -> f32 {
    if (CHOICE_BY_LOGIT) { return wg_logit[e]; }
    return wg_score[e] + correction_get(e);
}

// Experts of all but the best groups may not be chosen.
fn drop_groups(lane: u32) {
    for (var g = lane; g < GROUPS; g += WORKGROUP_SIZE) {
        var first = LOWEST;
        var second = LOWEST;
        for (var i = 0u; i < GROUP_SIZE; i++) {
            let value = choice(g * GROUP_SIZE + i);
            second = max(second, min(first, value));
            first = max(first, value);
        }
        wg_group[g] = sort_key(select(first, first + second, GROUP_BY_SUM && GROUP_SIZE > 1u));
    }
    workgroupBarrier(); // the groups' keys are written
    for (var e = lane; e < CHOICES; e += WORKGROUP_SIZE) {
        let own = e / GROUP_SIZE;
        let key = wg_group[own];
        var rank = 0u;
        for (var g = 0u; g < GROUPS; g++) {
            let other = wg_group[g];
            rank += select(0u, 1u, other > key || (other == key && g < own));
        }
        if (rank >= GROUPS_KEPT) { wg_key[e] = 0u; }
    }
}

fn choose(lane: u32, top_k: u32) {
    for (var e = lane; e < CHOICES; e += WORKGROUP_SIZE) {
        if (wg_key[e] != 0u) { wg_key[e] = sort_key(choice(e)); }
    }
    for (var k = lane; k < CHOSEN; k += WORKGROUP_SIZE) { wg_chosen[k] = NONE; }
    workgroupBarrier(); // keys are written, slots are empty
    for (var e = lane; e < CHOICES; e += WORKGROUP_SIZE) {
        let key = wg_key[e];
        var rank = 0u;
        for (var i = 0u; i < CHOICES; i++) {
            let other = wg_key[i];
            rank += select(0u, 1u, other > key || (other == key && i < e));
        }
        if (key != 0u && rank < top_k) { wg_chosen[rank] = e; }
    }
    workgroupBarrier(); // the slots are filled
}

fn weight_of(slot: u32) -> f32 {
    let own = wg_chosen[slot];
    if (WEIGHT == BY_SCORE) { return wg_score[own]; }
    if (WEIGHT == RENORMALIZED) {
        var sum = 0.0;
        for (var k = 0u; k < CHOSEN; k++) {
            if (wg_chosen[k] != NONE) { sum += wg_score[wg_chosen[k]]; }
        }
        return wg_score[own] / (sum + EPSILON);
    }
    if (WEIGHT == BY_SOFTMAX) {
        var most = LOWEST;
        for (var k = 0u; k < CHOSEN; k++) {
            if (wg_chosen[k] != NONE) { most = max(most, wg_logit[wg_chosen[k]]); }
        }
        var sum = 0.0;
        for (var k = 0u; k < CHOSEN; k++) {
            if (wg_chosen[k] != NONE) { sum += exp(wg_logit[wg_chosen[k]] - most); }
        }
        return exp(wg_logit[own] - most) / sum;
    }
    return sigmoid(wg_logit[own]);
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
        let open = bitcast<u32>(logit) != 0xff800000u && mask_get(token * params.mask_stride + e);
        wg_logit[e] = logit;
        wg_key[e] = select(0u, 1u, open);
    }
    workgroupBarrier(); // the logits are there
    score_all(lane);
    workgroupBarrier(); // the scores are there
    if (EVERY) {
        for (var e = lane; e < CHOICES; e += WORKGROUP_SIZE) {
            if (place < params.tokens) { put(token * CHOICES + e, e, wg_score[e]); }
        }
        return;
    }
    if (GROUPS > 1u) {
        drop_groups(lane);
        workgroupBarrier(); // the groups are dropped
    }
    choose(lane, min(top_k_get(token), TOP_K));
    if (GATES && place < params.tokens) {
        for (var e = lane; e < CHOICES; e += WORKGROUP_SIZE) {
            var gate = 0.0;
            for (var k = 0u; k < CHOSEN; k++) {
                if (wg_chosen[k] == e) { gate = weight_of(k) * SCALE; }
            }
            gates_out(token * CHOICES + e, gate);
        }
    }
    if (lane < TOP_K && place < params.tokens) {
        let expert = wg_chosen[lane % CHOSEN];
        var weight = 0.0;
        if (expert != NONE) { weight = weight_of(lane) * SCALE; }
        put(token * TOP_K + lane, expert, weight);
    }
}
