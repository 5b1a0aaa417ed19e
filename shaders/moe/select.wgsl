// Capacity: of the pairs that one expert has in one sequence the best ROWS stay, ties to the first; a workgroup each. What is best
// are two numbers, of which the first decides: the slot, where slots come first, and the score. The ROWS-th of them is found by its
// digits, highest first; then the pairs are walked in order. LISTED: an expert's pairs stand in a list of its own.

struct Key { slot: u32, score: u32 } // slot 0: another expert's pair

const ALL_EQUAL: u32 = 1u;
const DIGITS: u32 = 256u;
var<workgroup> wg_bins: array<atomic<u32>, DIGITS>;
var<workgroup> wg_threshold: Key; // keys above stay
var<workgroup> wg_left: u32;      // of those equal, so many more do
var<workgroup> wg_range: vec2<u32>;

// The first place in an expert's list whose pair is not before this one.
fn place_in_list(expert: u32, pair: u32) -> u32 {
    var low = routing[params.offsets + expert];
    var high = routing[params.offsets + expert + 1u];
    while (low < high) {
        let middle = (low + high) / 2u;
        if (routing[params.row_pairs + middle] < pair) { low = middle + 1u; } else { high = middle; }
    }
    return low;
}

// Candidates of the expert in the sequence that begins with this token.
fn candidates(expert: u32, first: u32) -> vec2<u32> {
    if (!LISTED) { return vec2(0u, params.candidates); }
    return vec2(place_in_list(expert, first * TOP_K), place_in_list(expert, (first + params.sequence_tokens) * TOP_K));
}

fn pair_of(first: u32, expert: u32, i: u32) -> u32 {
    if (LISTED) { return routing[params.row_pairs + i]; }
    if (EVERY) { return (first + i) * CHOICES + expert; }
    return first * TOP_K + i;
}

// Where slots come first, tokens are judged by their best weight.
fn score_of(pair: u32) -> u32 {
    if (!BY_SCORE) { return ALL_EQUAL; }
    if (!BY_SLOT) { return max(sort_key(weights[pair]), ALL_EQUAL); }
    let first = pair / TOP_K * TOP_K;
    var best = ALL_EQUAL;
    for (var slot = 0u; slot < TOP_K; slot++) {
        if (routing[params.ids + first + slot] != NONE) { best = max(best, sort_key(weights[first + slot])); }
    }
    return best;
}

fn key_of(pair: u32, expert: u32) -> Key {
    if (routing[params.ids + pair] != expert) { return Key(0u, 0u); }
    return Key(select(1u, TOP_K - pair % TOP_K, BY_SLOT), score_of(pair));
}

// One digit of the threshold: its slot, or eight bits of its score.
fn narrow(lane: u32, range: vec2<u32>, first: u32, expert: u32, of_slot: bool, shift: u32) {
    let above = wg_threshold;
    for (var i = lane; i < DIGITS; i += WORKGROUP_SIZE) { atomicStore(&wg_bins[i], 0u); }
    workgroupBarrier(); // the bins are empty, the digits above are read
    for (var i = range.x + lane; i < range.y; i += WORKGROUP_SIZE) {
        let key = key_of(pair_of(first, expert, i), expert);
        let same_above = key.slot == above.slot && (shift == 24u || (key.score >> shift) >> 8u == above.score);
        let digit = select((key.score >> shift) & 255u, key.slot, of_slot);
        if (key.slot != 0u && (of_slot || same_above)) { atomicAdd(&wg_bins[digit], 1u); }
    }
    workgroupBarrier(); // all are counted
    if (lane == 0u) {
        var left = wg_left;
        var digit = select(DIGITS - 1u, TOP_K, of_slot);
        for (; digit > 0u; digit--) {
            let count = atomicLoad(&wg_bins[digit]);
            if (count >= left) { break; }
            left -= count;
        }
        if (of_slot) { wg_threshold.slot = digit; } else { wg_threshold.score = (above.score << 8u) | digit; }
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
        wg_threshold = Key(1u, select(ALL_EQUAL, 0u, BY_SCORE));
        wg_left = params.capacity;
        wg_range = candidates(expert, first);
    }
    let range = workgroupUniformLoad(&wg_range); // the start is set
    if (BY_SLOT) { narrow(lane, range, first, expert, true, 0u); }
    if (BY_SCORE) {
        for (var shift = 32u; shift > 0u; shift -= 8u) { narrow(lane, range, first, expert, false, shift - 8u); }
    }
    let threshold = wg_threshold;
    let left = wg_left;
    var equals = 0u;
    var dropped = 0u;
    for (var base = range.x; base < range.y; base += WORKGROUP_SIZE) {
        let i = base + lane;
        let pair = pair_of(first, expert, min(i, range.y - 1u));
        var key = key_of(pair, expert);
        if (i >= range.y) { key = Key(0u, 0u); }
        let equal = key.slot != 0u && key.slot == threshold.slot && key.score == threshold.score;
        let rank = equals + running_sum(lane, select(0u, 1u, equal));
        equals += wg_scan[WORKGROUP_SIZE - 1u];
        let above = key.slot > threshold.slot || (key.slot == threshold.slot && key.score > threshold.score);
        let stays = above || (equal && rank <= left);
        if (key.slot != 0u) { routing[params.experts + pair] = select(NONE, expert, stays); }
        dropped += select(0u, 1u, key.slot != 0u && !stays);
    }
    let all_dropped = running_sum(lane, dropped);
    if (lane == WORKGROUP_SIZE - 1u) { routing[params.drops + index] = all_dropped; }
}
