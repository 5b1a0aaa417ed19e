// Gives every pair its row: rows of an expert keep the pairs' order. A workgroup a block, a lane a pair.

const NONE: u32 = 0xffffffffu;
var<workgroup> wg_experts: array<u32, WORKGROUP_SIZE>;

@compute @workgroup_size(WORKGROUP_SIZE)
fn moe_permute(
    @builtin(workgroup_id) workgroup: vec3<u32>, @builtin(num_workgroups) workgroups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let block = workgroup.x + workgroup.y * workgroups.x;
    let pair = block * WORKGROUP_SIZE + lane;
    var expert = NONE;
    if (pair < params.pairs) { expert = routing[params.experts + pair]; }
    wg_experts[lane] = expert;
    workgroupBarrier(); // the block's experts are there
    var rank = 0u;
    for (var i = 0u; i < WORKGROUP_SIZE; i++) { rank += select(0u, 1u, i < lane && wg_experts[i] == expert); }
    if (pair >= params.pairs) { return; }
    var row = NONE;
    if (expert < EXPERTS && is_here(expert)) {
        row = routing[params.offsets + expert] + routing[params.table + expert * params.blocks + block] + rank;
        routing[params.row_pairs + row] = pair;
        row_tokens_out(row, pair / TOP_K);
    }
    routing[params.pair_rows + pair] = row;
    pair_rows_out(pair, row);
    if (pair >= routing[params.offsets + EXPERTS]) { row_tokens_out(pair, NONE); } // no row is that far
}
