// Expert choice: which tokens each expert took, and their weights. A lane a row; every expert has as many.

@compute @workgroup_size(WORKGROUP_SIZE)
fn moe_token_lists(
    @builtin(workgroup_id) workgroup: vec3<u32>, @builtin(num_workgroups) workgroups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let row = (workgroup.x + workgroup.y * workgroups.x) * WORKGROUP_SIZE + lane;
    if (row >= params.rows) { return; }
    let pair = routing[params.row_pairs + row];
    ids_out(row, pair / EXPERTS);
    weights_out(row, weights[pair]);
}
