// Gives every pair its row: rows of an expert keep the pairs' order. A workgroup a block, a lane a pair.

var<workgroup> wg_experts: array<vec4<u32>, WORKGROUP_SIZE / 4u>;

// The expert of a pair; NONE beyond the last.
fn expert_of(pair: u32) -> u32 {
    if (pair >= params.pair_end) { return NONE; }
    return routing[params.experts + pair];
}

// 1 for each of four pairs of the block that go to the expert.
fn same(i: u32, expert: u32) -> vec4<u32> { return select(vec4(0u), vec4(1u), wg_experts[i] == vec4(expert)); }

fn permute_block(block: u32, lane: u32) {
    let first = params.pair_first + block * WORKGROUP_SIZE;
    let pair = first + lane;
    let expert = expert_of(pair);
    if (lane < WORKGROUP_SIZE / 4u) {
        let at = first + 4u * lane;
        wg_experts[lane] = vec4(expert_of(at), expert_of(at + 1u), expert_of(at + 2u), expert_of(at + 3u));
    }
    workgroupBarrier(); // the block's experts are there
    if (pair >= params.pair_end) { return; }
    var row = NONE;
    if (expert < EXPERTS && is_here(expert)) {
        var ranks = select(vec4(0u), same(lane / 4u, expert), vec4(0u, 1u, 2u, 3u) < vec4(lane % 4u));
        for (var i = 0u; i < lane / 4u; i++) { ranks += same(i, expert); }
        row = routing[params.offsets + expert] + ranks.x + ranks.y + ranks.z + ranks.w;
        if (!ONE_BLOCK) { row += routing[params.table + expert * params.blocks + block]; }
        routing[params.row_pairs + row] = pair;
        row_tokens_out(row, pair / TOP_K);
    }
    routing[params.pair_rows + pair] = row;
    pair_rows_out(pair, row);
    if (pair >= routing[params.offsets + EXPERTS]) { row_tokens_out(pair, NONE); } // no row is that far
}
