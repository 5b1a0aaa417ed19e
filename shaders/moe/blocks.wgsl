// Turns an expert's counts of all blocks into how many of its pairs lie in the blocks before. A workgroup an expert.

@compute @workgroup_size(WORKGROUP_SIZE)
fn moe_blocks(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let expert = workgroup.x;
    let first = params.table + expert * params.blocks;
    var before = 0u;
    for (var base = 0u; base < params.blocks; base += WORKGROUP_SIZE) {
        let block = base + lane;
        var count = 0u;
        if (block < params.blocks) { count = routing[first + block]; }
        let sum = running_sum(lane, count);
        if (block < params.blocks) { routing[first + block] = before + sum - count; }
        before += wg_scan[WORKGROUP_SIZE - 1u];
    }
    if (lane == 0u) { routing[params.counts + expert] = before; }
}
