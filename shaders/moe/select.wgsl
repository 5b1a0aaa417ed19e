// Capacity: of the pairs that one expert has in one sequence the best ROWS stay, ties to the first; a workgroup each. By score the
// ROWS-th key is found by its digits, highest first; then the pairs are walked in order. Without scores all keys are equal.

const ALL_EQUAL: u32 = 1u;
const DIGITS: u32 = 256u;
var<workgroup> wg_bins: array<atomic<u32>, DIGITS>;
var<workgroup> wg_threshold: u32; // keys above stay
var<workgroup> wg_left: u32;      // of those equal, so many more do

fn pair_of(first: u32, expert: u32, i: u32) -> u32 {
    if (EVERY) { return (first + i) * CHOICES + expert; }
    return first * TOP_K + i;
}

// The key of candidate i; 0 where the pair is another expert's.
fn key_of(pair: u32, expert: u32) -> u32 {
    if (routing[params.ids + pair] != expert) { return 0u; }
    if (!BY_SCORE) { return ALL_EQUAL; }
    return max(sort_key(weights[pair]), 1u);
}

// One digit of the threshold.
fn narrow(lane: u32, first: u32, expert: u32, shift: u32) {
    let above = wg_threshold;
    for (var i = lane; i < DIGITS; i += WORKGROUP_SIZE) { atomicStore(&wg_bins[i], 0u); }
    workgroupBarrier(); // the bins are empty, the digits above are read
    for (var i = lane; i < params.candidates; i += WORKGROUP_SIZE) {
        let key = key_of(pair_of(first, expert, i), expert);
        let agrees = shift == 24u || (key >> shift) >> 8u == above;
        if (key != 0u && agrees) { atomicAdd(&wg_bins[(key >> shift) & 255u], 1u); }
    }
    workgroupBarrier(); // all are counted
    if (lane == 0u) {
        var left = wg_left;
        var digit = DIGITS - 1u;
        for (; digit > 0u; digit--) {
            let count = atomicLoad(&wg_bins[digit]);
            if (count >= left) { break; }
            left -= count;
        }
        wg_threshold = (above << 8u) | digit;
        wg_left = left;
    }
    workgroupBarrier(); // the digit is known
}

@compute @workgroup_size(WORKGROUP_SIZE)
fn moe_select(
    @builtin(workgroup_id) workgroup: vec3<u32>, @builtin(num_workgroups) workgroups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let place = params.place_first + workgroup.x + workgroup.y * workgroups.x;
    let index = min(place, params.selections - 1u); // one beyond the last does the last's work again, to the same end
    let expert = params.expert_start + index % params.selectors;
    let first = index / params.selectors * params.sequence_tokens;
    if (lane == 0u) {
        wg_threshold = select(ALL_EQUAL, 0u, BY_SCORE);
        wg_left = params.capacity;
    }
    workgroupBarrier(); // the start is set
    if (BY_SCORE) {
        for (var shift = 32u; shift > 0u; shift -= 8u) { narrow(lane, first, expert, shift - 8u); }
    }
    let threshold = wg_threshold;
    let left = wg_left;
    var equals = 0u;
    var dropped = 0u;
    for (var base = 0u; base < params.candidates; base += WORKGROUP_SIZE) {
        let i = base + lane;
        let pair = pair_of(first, expert, min(i, params.candidates - 1u));
        let key = select(0u, key_of(pair, expert), i < params.candidates);
        let equal = key != 0u && key == threshold;
        let rank = equals + running_sum(lane, select(0u, 1u, equal));
        equals += wg_scan[WORKGROUP_SIZE - 1u];
        let stays = key > threshold || (equal && rank <= left);
        if (key != 0u) { routing[params.experts + pair] = select(NONE, expert, stays); }
        dropped += select(0u, 1u, key != 0u && !stays);
    }
    let all_dropped = running_sum(lane, dropped);
    if (lane == WORKGROUP_SIZE - 1u) { routing[params.drops + index] = all_dropped; }
}
