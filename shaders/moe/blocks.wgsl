// Turns an expert's counts of all blocks into how many of its pairs lie in the blocks before. A workgroup an expert.

fn sum_blocks(expert: u32, lane: u32) {
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
