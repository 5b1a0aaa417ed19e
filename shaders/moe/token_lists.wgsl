// Expert choice: which tokens each expert took, and their weights. A lane an entry. Those of experts that are not here, and those
// that an expert found no token for, have none.

@compute @workgroup_size(WORKGROUP_SIZE)
fn moe_token_lists(
    @builtin(workgroup_id) workgroup: vec3<u32>, @builtin(num_workgroups) workgroups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let entry = (workgroup.x + workgroup.y * workgroups.x) * WORKGROUP_SIZE + lane;
    if (entry >= params.entries) { return; }
    let expert = entry / params.capacity;
    let row = routing[params.offsets + expert] + entry % params.capacity;
    if (row >= routing[params.offsets + expert + 1u]) {
        ids_out(entry, NONE);
        weights_out(entry, 0.0);
        return;
    }
    let pair = routing[params.row_pairs + row];
    ids_out(entry, pair / CHOICES);
    weights_out(entry, weights[pair]);
}
