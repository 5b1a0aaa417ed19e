// A token's row of out: what all slots gave, weighted by the softmax over slots of its logits. A lane owns four dims of a token.

@compute @workgroup_size(WORKGROUP_SIZE)
fn moe_soft_combine(
    @builtin(workgroup_id) workgroup: vec3<u32>, @builtin(num_workgroups) workgroups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let index = (workgroup.x + workgroup.y * workgroups.x) * WORKGROUP_SIZE + lane;
    let token = index / DIM_VECS;
    let vec = index % DIM_VECS;
    if (token >= params.tokens) { return; }
    let most = stats[params.stats_first + 2u * token];
    let inverse = stats[params.stats_first + 2u * token + 1u];
    var sum = vec4(0.0);
    for (var slot = 0u; slot < params.slots; slot++) {
        let weight = exp(logits_get(token * params.slots + slot) - most) * inverse;
        sum = fma(given[slot * DIM_VECS + vec], vec4(weight), sum);
    }
    out_store4(params.out_first + token * params.out_stride, vec * 4u, sum + shared_part(token, vec));
}
