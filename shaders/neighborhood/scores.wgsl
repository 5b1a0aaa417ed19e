// q · k of every window slot. LANES lanes share a dot product, so that they read the row of a key side by side; a workgroup
// does WORKGROUP_SIZE of them, in LANES rounds, and then each lane writes one.

var<workgroup> wg_parts: array<f32, WORKGROUP_SIZE * (LANES + 1u)>;

fn q_offset(slots: Slots) -> u32 {
    let t = slots.token;
    return params.q_first + slots.batch * params.q_batch_stride + slots.head * params.q_head_stride
        + t.x * params.q_x_stride + t.y * params.q_y_stride + t.z * params.q_z_stride;
}

fn k_offset(slots: Slots, t: vec3<u32>) -> u32 {
    return params.k_first + slots.batch * params.k_batch_stride + slots.head / GROUP_SIZE * params.k_head_stride
        + t.x * params.k_x_stride + t.y * params.k_y_stride + t.z * params.k_z_stride;
}

fn seen(slots: Slots, slot: vec3<u32>) -> bool {
    return all(slot >= slots.first) & all(slot < slots.end);
}

@compute @workgroup_size(WORKGROUP_SIZE)
fn neighborhood_scores(
    @builtin(workgroup_id) workgroup: vec3<u32>, @builtin(num_workgroups) workgroups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let group = workgroup.x + workgroups.x * workgroup.y + params.workgroup_first;
    let first = group * WORKGROUP_SIZE;
    for (var round = 0u; round < LANES; round++) {
        let place = round * (WORKGROUP_SIZE / LANES) + lane / LANES;
        let item = first + place;
        var sum = 0.0;
        if (group < params.workgroups && item < params.items) {
            let slots = slots_of(item / VOLUME);
            let slot = place_in(item % VOLUME, WINDOW);
            if (seen(slots, slot)) {
                let q = q_offset(slots);
                let k = k_offset(slots, slot_token(slots, slot));
                for (var d = lane % LANES * 4u; d < HEAD_DIM; d += LANES * 4u) { sum += dot(q_load4(q, d), k_load4(k, d)); }
            }
        }
        wg_parts[place * (LANES + 1u) + lane % LANES] = sum;
    }
    workgroupBarrier(); // the parts are written
    let item = first + lane;
    if (group < params.workgroups && item < params.items) {
        var sum = 0.0;
        for (var i = 0u; i < LANES; i++) { sum += wg_parts[lane * (LANES + 1u) + i]; }
        let slots = slots_of(item / VOLUME);
        let t = slots.token;
        let row = params.scores_first + slots.batch * params.scores_batch_stride + slots.head * params.scores_head_stride
            + t.x * params.scores_x_stride + t.y * params.scores_y_stride + t.z * params.scores_z_stride;
        let empty = !seen(slots, place_in(item % VOLUME, WINDOW));
        scores_store(row + item % VOLUME, sum * params.softmax_scale, empty);
    }
}
