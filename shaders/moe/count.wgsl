// How many pairs of each block go to each expert. A workgroup a block, a lane a pair.

var<workgroup> wg_counts: array<atomic<u32>, CHOICES>;

@compute @workgroup_size(WORKGROUP_SIZE)
fn moe_count(
    @builtin(workgroup_id) workgroup: vec3<u32>, @builtin(num_workgroups) workgroups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let block = workgroup.x + workgroup.y * workgroups.x;
    let pair = block * WORKGROUP_SIZE + lane;
    for (var e = lane; e < CHOICES; e += WORKGROUP_SIZE) { atomicStore(&wg_counts[e], 0u); }
    workgroupBarrier(); // the counters are 0
    if (pair < params.pairs) {
        let expert = routing[params.experts + pair];
        if (is_here(expert)) { atomicAdd(&wg_counts[expert], 1u); }
    }
    workgroupBarrier(); // all are counted
    if (block < params.blocks) {
        for (var e = lane; e < CHOICES; e += WORKGROUP_SIZE) {
            routing[params.table + e * params.blocks + block] = atomicLoad(&wg_counts[e]);
        }
    }
}
