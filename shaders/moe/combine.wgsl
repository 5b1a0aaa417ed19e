// A token's row of out: what its experts gave, in ascending slot order, and the shared expert's. A lane owns four dims of a token.

const NONE: u32 = 0xffffffffu;

@compute @workgroup_size(WORKGROUP_SIZE)
fn moe_combine(
    @builtin(workgroup_id) workgroup: vec3<u32>, @builtin(num_workgroups) workgroups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let index = (workgroup.x + workgroup.y * workgroups.x) * WORKGROUP_SIZE + lane;
    let token = index / DIM_VECS;
    let vec = index % DIM_VECS;
    if (token >= params.tokens) { return; }
    var sum = vec4(0.0);
    for (var slot = 0u; slot < TOP_K; slot++) {
        let pair = token * TOP_K + slot;
        let row = routing[params.pair_rows + pair];
        if (row != NONE) {
            let weight = select(weights[pair], 1.0, WEIGHT_ON_INPUT);
            sum = fma(given[row * DIM_VECS + vec], vec4(weight), sum);
        }
    }
    out_store4(params.out_first + token * params.out_stride, vec * 4u, sum + shared_part(token, vec));
}
