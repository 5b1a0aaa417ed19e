// The losses: experts · Σ_e fraction_e · mean probability_e, and the mean squared logsumexp of the logits. One workgroup.

var<workgroup> wg_sum: array<vec2<f32>, WORKGROUP_SIZE>;

@compute @workgroup_size(WORKGROUP_SIZE)
fn moe_losses(@builtin(local_invocation_index) lane: u32) {
    var sum = vec2(0.0);
    for (var token = lane; token < params.tokens; token += WORKGROUP_SIZE) {
        var lse = stats[2u * token + 1u];
        if (!is_nan(lse)) { lse = stats[2u * token] - log(lse); }
        sum.y = fma(lse, lse, sum.y);
    }
    if (params.tokens > 0u) {
        for (var e = lane; e < CHOICES; e += WORKGROUP_SIZE) { sum.x += stats[2u * params.tokens + e]; }
    }
    wg_sum[lane] = sum;
    workgroupBarrier(); // all lanes' shares are there
    if (lane == 0u) {
        for (var i = 1u; i < WORKGROUP_SIZE; i++) { sum += wg_sum[i]; }
        let tokens = max(f32(params.tokens), 1.0);
        balance_out(0u, sum.x / tokens / tokens * f32(CHOICES));
        z_out(0u, sum.y / tokens);
    }
}
