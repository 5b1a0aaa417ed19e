// Token choice: groups of experts, of which the best are chosen from.

const KEY_OF_LOWEST: u32 = 0x007fffffu; // −inf
const GROUP_SIZE: u32 = CHOICES / GROUPS;
const GROUP_LANES: u32 = max(WORKGROUP_SIZE / GROUPS, 1u);

var<workgroup> wg_two: array<vec2<u32>, GROUPS * GROUP_LANES>;
var<workgroup> wg_group: array<u32, GROUPS>;

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
        wg_two[g] = vec2(rank, 0u);
    }
    workgroupBarrier(); // the groups' ranks are there
    for (var e = lane; e < CHOICES; e += WORKGROUP_SIZE) {
        if (wg_two[e / GROUP_SIZE].x >= GROUPS_KEPT) { wg_key[e] = 0u; }
    }
}
