// An entry point that makes a call.
@compute @workgroup_size(WORKGROUP_SIZE)
fn NAME(
    @builtin(workgroup_id) workgroup: vec3<u32>, @builtin(num_workgroups) workgroups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let index = workgroup.x + workgroup.y * workgroups.x;
    CALL
}
