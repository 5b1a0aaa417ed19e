// A copy of one storage buffer to another: what a device reads and writes at most.

@compute @workgroup_size(WORKGROUP_SIZE)
fn measure_copy(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let i = (group.y * groups.x + group.x) * WORKGROUP_SIZE + lane;
    if (i < params.vectors) {
        copied[i] = source[i];
    }
}
