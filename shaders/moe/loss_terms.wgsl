// Load balancing: of each expert how many pairs chose it times the sum of its probabilities. A workgroup an expert.
// Tokens come in parts: probabilities add up, and the last part, when all are chosen, counts.

var<workgroup> wg_sum: array<f32, WORKGROUP_SIZE>;
var<workgroup> wg_count: array<u32, WORKGROUP_SIZE>;

@compute @workgroup_size(WORKGROUP_SIZE)
fn moe_loss_terms(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let expert = workgroup.x;
    let last = params.token_end == params.tokens;
    var sum = 0.0;
    for (var token = params.token_first + lane; token < params.token_end; token += WORKGROUP_SIZE) {
        let logit = logits_get(token * params.logits_stride + expert);
        if (!is_lowest(logit)) { sum += power(logit, stats[2u * token]) * stats[2u * token + 1u]; }
    }
    var count = 0u;
    for (var pair = lane; last && pair < params.pairs; pair += WORKGROUP_SIZE) {
        count += select(0u, 1u, routing[params.ids + pair] == expert);
    }
    wg_sum[lane] = sum;
    wg_count[lane] = count;
    workgroupBarrier(); // all lanes' shares are there
    if (lane == 0u) {
        for (var i = 1u; i < WORKGROUP_SIZE; i++) {
            sum += wg_sum[i];
            count += wg_count[i];
        }
        if (params.token_first > 0u) { sum += stats[2u * params.tokens + expert]; }
        stats[2u * params.tokens + expert] = select(sum, f32(count) * sum, last);
    }
}
