// A slot's input: the tokens, weighted by the softmax over tokens of its logits; of the slots here. A lane
// owns four dims of a slot. Tokens behind the first add to what is there.

@compute @workgroup_size(WORKGROUP_SIZE)
fn moe_soft_slots(
    @builtin(workgroup_id) workgroup: vec3<u32>, @builtin(num_workgroups) workgroups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let index = (params.place_first + workgroup.x + workgroup.y * workgroups.x) * WORKGROUP_SIZE + lane;
    let own = index / DIM_VECS;
    let slot = params.slot_first + own;
    let vec = index % DIM_VECS;
    if (own >= params.local_slots) { return; }
    let most = stats[2u * slot];
    let inverse = stats[2u * slot + 1u];
    var sum = vec4(0.0);
    if (params.token_first > 0u) { sum = slots[own * DIM_VECS + vec]; }
    for (var token = params.token_first; token < params.tokens; token++) {
        let at = token * params.slots + slot;
        if (is_open(at)) {
            let weight = power(logits_get(at), most) * inverse;
            sum = fma(x_load4(params.x_first + token * params.x_stride, vec * 4u), vec4(weight), sum);
        }
    }
    slots[own * DIM_VECS + vec] = sum;
}
