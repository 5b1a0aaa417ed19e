// Routing that is not ours to choose: the caller's ids and weights, or the slots of a soft router in their order. A lane a pair.

@compute @workgroup_size(WORKGROUP_SIZE)
fn moe_given(
    @builtin(workgroup_id) workgroup: vec3<u32>, @builtin(num_workgroups) workgroups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let pair = (workgroup.x + workgroup.y * workgroups.x) * WORKGROUP_SIZE + lane;
    if (pair >= params.pairs) { return; }
    var expert = pair / SLOTS;
    var weight = 1.0;
    if (EXTERNAL) {
        let id = ids_get(pair / TOP_K * params.ids_in_stride + pair % TOP_K);
        let chosen = id >= 0 && id < i32(CHOICES) && pair % TOP_K < top_k_get(pair / TOP_K);
        expert = select(NONE, u32(id), chosen);
        weight = weights_get(pair / TOP_K * params.weights_in_stride + pair % TOP_K);
    }
    routing[params.ids + pair] = expert;
    if (CAPACITY) { routing[params.experts + pair] = expert; }
    weights[pair] = weight;
}
