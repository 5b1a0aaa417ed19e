// Token choice: the best of the experts that may be chosen, by keys in workgroup memory.

const PER_LANE: u32 = (CHOICES + WORKGROUP_SIZE - 1u) / WORKGROUP_SIZE;

var<workgroup> wg_best: array<vec2<u32>, WORKGROUP_SIZE>;    // key and expert
var<workgroup> wg_left: array<vec2<u32>, CHOSEN * PER_LANE>; // the same

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
