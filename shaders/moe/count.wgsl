// How many pairs of each block go to each expert. A workgroup a block, a lane a pair. A single block's counts are those of all.

var<workgroup> wg_counts: array<atomic<u32>, CHOICES>;

fn count_block(block: u32, lane: u32) {
    let pair = params.pair_first + block * WORKGROUP_SIZE + lane;
    for (var e = lane; e < CHOICES; e += WORKGROUP_SIZE) { atomicStore(&wg_counts[e], 0u); }
    workgroupBarrier(); // the counters are 0
    if (pair < params.pair_end) {
        let expert = routing[params.experts + pair];
        if (is_here(expert)) { atomicAdd(&wg_counts[expert], 1u); }
    }
    workgroupBarrier(); // all are counted
    if (block < params.blocks) {
        let first = select(params.table + block, params.counts, ONE_BLOCK);
        let stride = select(params.blocks, 1u, ONE_BLOCK);
        for (var e = lane; e < CHOICES; e += WORKGROUP_SIZE) { routing[first + e * stride] = atomicLoad(&wg_counts[e]); }
    }
}
