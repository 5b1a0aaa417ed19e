// A token's row of out: its parts in ascending order, and what the shared expert gave. A lane owns four dims of a token. Which parts
// there are the fragment before says.

@compute @workgroup_size(WORKGROUP_SIZE)
fn moe_combine(
    @builtin(workgroup_id) workgroup: vec3<u32>, @builtin(num_workgroups) workgroups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let index = (params.place_first + workgroup.x + workgroup.y * workgroups.x) * WORKGROUP_SIZE + lane;
    let token = params.token_first + index / DIM_VECS;
    let vec = index % DIM_VECS;
    if (token >= params.tokens) { return; }
    var sum = vec4(0.0);
    for (var i = 0u; i < PARTS; i++) {
        let part = part_of(token, i);
        if (part.row == OWN) {
            sum = fma(own_load4(token, vec), vec4(part.weight), sum);
        } else if (part.row != NONE) {
            sum = fma(given[part.row * DIM_VECS + vec], vec4(part.weight), sum);
        }
    }
    out_store4(params.out_first + token * params.out_stride, vec * 4u, sum + shared_part(token, vec));
}
