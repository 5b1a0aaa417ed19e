// f32 sums as the elements of out, of all splits of the inner dims in their order. A lane owns four columns of a row.

@compute @workgroup_size(WORKGROUP_SIZE)
fn matmul_round(
    @builtin(workgroup_id) workgroup: vec3<u32>, @builtin(num_workgroups) workgroups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let index = (workgroup.x + workgroup.y * workgroups.x) * WORKGROUP_SIZE + lane;
    let row = index / params.vectors;
    if (row >= params.rows) { return; }
    var sum = sums[index];
    for (var split = 1u; split < params.splits; split++) { sum += sums[index + split * params.rows * params.vectors]; }
    out_store4(params.out_first + row * params.out_stride, index % params.vectors * 4u, sum);
}
