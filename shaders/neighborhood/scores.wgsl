// q · k of every window slot. LANES lanes share a dot product, so that they read the row of a key side by side; a workgroup
// does WORKGROUP_SIZE of them, in LANES rounds. A lane finds the rows of one and writes it.

const NO_KEY: u32 = 0xffffffffu;    // no row begins there

var<workgroup> wg_rows: array<vec2<u32>, WORKGROUP_SIZE>;   // where the rows of q and k begin
var<workgroup> wg_parts: array<f32, WORKGROUP_SIZE * (LANES + 1u)>;

@compute @workgroup_size(WORKGROUP_SIZE)
fn neighborhood_scores(
    @builtin(workgroup_id) workgroup: vec3<u32>, @builtin(num_workgroups) workgroups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let group = workgroup.x + workgroups.x * workgroup.y + params.workgroup_first;
    let item = group * WORKGROUP_SIZE + lane;
    let exists = group < params.workgroups && item < params.items;
    var rows = vec2(0u, NO_KEY);
    var at = 0u;
    if (exists) {
        let slots = slots_of(item / VOLUME);
        let slot = place_in(item % VOLUME, WINDOW);
        at = scores_row(slots.batch, slots.head, slots.token) + item % VOLUME;
        if (all(slot >= slots.first) && all(slot < slots.end)) {
            let key = slot_token(slots, slot);
            rows = vec2(q_row(slots.batch, slots.head, slots.token), k_row(slots.batch, slots.head / GROUP_SIZE, key));
        }
    }
    wg_rows[lane] = rows;
    workgroupBarrier(); // the places of all rows are written
    for (var round = 0u; round < LANES; round++) {
        let place = round * (WORKGROUP_SIZE / LANES) + lane / LANES;
        let q = wg_rows[place].x;
        let k = wg_rows[place].y;
        var sum = 0.0;
        if (k != NO_KEY) {
            for (var d = lane % LANES * 4u; d < HEAD_DIM; d += LANES * 4u) { sum += dot(q_load4(q, d), k_load4(k, d)); }
        }
        wg_parts[place * (LANES + 1u) + lane % LANES] = sum;
    }
    workgroupBarrier(); // the parts are written
    if (exists) {
        var sum = 0.0;
        for (var i = 0u; i < LANES; i++) { sum += wg_parts[lane * (LANES + 1u) + i]; }
        scores_store(at, sum * params.softmax_scale, rows.y == NO_KEY);
    }
}
