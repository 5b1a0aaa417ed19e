// Copies a tensor into the buffer of packed extra inputs, a word an element: devices with few storage buffers bind that one.

@compute @workgroup_size(WORKGROUP_SIZE)
fn common_pack(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(num_workgroups) workgroups: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let i = (workgroup.x + workgroup.y * workgroups.x) * WORKGROUP_SIZE + lane;
    if (i < params.count) { inputs[params.inputs_first + i] = input_bits(i); }
}
