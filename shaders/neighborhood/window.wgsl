// The rule of windows over up to three axes (those that are not there come first and have one token), in in-class
// coordinates: which keys a query sees.

struct Window { first: vec3<u32>, end: vec3<u32> }

// Coordinates of place `index` in a box, last axis fastest.
fn place_in(index: u32, sides: vec3<u32>) -> vec3<u32> {
    return vec3(index / (sides.y * sides.z), index / sides.z % sides.y, index % sides.z);
}

fn number_in(at: vec3<u32>, sides: vec3<u32>) -> u32 {
    return (at.x * sides.y + at.y) * sides.z + at.z;
}

// The middle of a query's group (of causal axes its end), GROUP_PAD places up.
fn middle_of(index: vec3<u32>) -> vec3<u32> {
    return (index + GROUP_PAD) / STRIDE * STRIDE + LEADER;
}

// Keys that query `index` of a class sees: those around the leader, a query of its group. GROUP_PAD: the first group may
// begin before the class.
fn window_of(index: vec3<u32>, len: vec3<u32>, window: vec3<u32>) -> Window {
    let before = select(window / 2u, window - 1u, CAUSAL);
    let middle = middle_of(index);
    let leader = min(max(middle, GROUP_PAD) - GROUP_PAD, len - 1u);
    let first = max(leader, before) - before;
    if (CLIP) {
        let reach = before + GROUP_PAD;
        let cut_first = max(middle, reach) - reach;
        let cut_end = min(middle + (window + 1u) / 2u - GROUP_PAD, len);
        return Window(select(cut_first, first, CAUSAL), select(cut_end, min(index + 1u, len), CAUSAL));
    }
    let shifted = select(min(first, len - window), first, CAUSAL);
    return Window(shifted, select(shifted + window, min(index + 1u, len), CAUSAL));
}

// The key that slot 0 of a query's window stands for; where windows are clipped it may lie outside.
fn window_start(index: vec3<u32>, len: vec3<u32>, window: vec3<u32>) -> vec3<i32> {
    let first = vec3<i32>(window_of(index, len, window).first);
    if (!CLIP) { return first; }
    let middle = middle_of(index);
    return select(vec3<i32>(middle) - vec3<i32>(window / 2u + GROUP_PAD), first, CAUSAL);
}
