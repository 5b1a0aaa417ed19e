// A row of an unfused operator: a query's token, and which tokens the slots of its window stand for, row-major.

struct Slots {
    batch: u32,
    head: u32,
    token: vec3<u32>,
    origin: vec3<u32>,     // the dilation class: token = origin + DILATION * in-class coordinate
    start: vec3<i32>,      // the key of slot 0
    first: vec3<u32>,      // slots that stand for keys that the row sees, along each axis
    end: vec3<u32>,
}

// Row `row` of a slice: heads fastest, then tokens, then batches.
fn slots_of(row: u32) -> Slots {
    var slots: Slots;
    slots.head = params.head_first + row % params.heads;
    let token = row / params.heads;
    slots.batch = params.batch_first + token / params.tokens;
    slots.token = place_of(token % params.tokens);
    slots.origin = slots.token % DILATION;
    let len = (domain_extents() - slots.origin + DILATION - 1u) / DILATION;
    let index = slots.token / DILATION;
    let window = window_of(index, len, WINDOW);
    slots.start = window_start(index, len, WINDOW);
    slots.first = vec3<u32>(vec3<i32>(window.first) - slots.start);
    slots.end = vec3<u32>(vec3<i32>(window.end) - slots.start);
    return slots;
}

// The token of a slot that is seen.
fn slot_token(slots: Slots, slot: vec3<u32>) -> vec3<u32> {
    return slots.origin + DILATION * vec3<u32>(slots.start + vec3<i32>(slot));
}
