// Values summed by given weights, one for each window slot: a lane sums four dims of a row, side by side with the lanes of the
// same row, which read the same weight. Slots that stand for no key count nothing, whatever their weight.

@compute @workgroup_size(WORKGROUP_SIZE)
fn neighborhood_aggregate(
    @builtin(workgroup_id) workgroup: vec3<u32>, @builtin(num_workgroups) workgroups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let group = workgroup.x + workgroups.x * workgroup.y + params.workgroup_first;
    let item = group * WORKGROUP_SIZE + lane;
    if (group >= params.workgroups || item >= params.items) { return; }
    let slots = slots_of(item / VALUE_VECS);
    let d = item % VALUE_VECS * 4u;
    let kv_head = slots.head / GROUP_SIZE;
    let weights = weights_row(slots.batch, slots.head, slots.token);
    var sum = vec4(0.0);
    for (var x = slots.first.x; x < slots.end.x; x++) {
        for (var y = slots.first.y; y < slots.end.y; y++) {
            let line = (x * WINDOW.y + y) * WINDOW.z;
            for (var z = slots.first.z; z < slots.end.z; z++) {
                let weight = weights_get(weights + line + z);
                sum = fma(vec4(weight), v_load4(v_row(slots.batch, kv_head, slot_token(slots, vec3(x, y, z))), d), sum);
            }
        }
    }
    out_store4(out_row(slots.batch, slots.head, slots.token), d, sum);
}
