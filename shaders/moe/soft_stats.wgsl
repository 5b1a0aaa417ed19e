// Maximum of a line of logits and the inverse sum of its exponentials: over tokens for a slot, over slots for a token. A lane a line.
// Where one of them is NaN, or +inf, the sum is NaN.

@compute @workgroup_size(WORKGROUP_SIZE)
fn moe_soft_stats(
    @builtin(workgroup_id) workgroup: vec3<u32>, @builtin(num_workgroups) workgroups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let line = (workgroup.x + workgroup.y * workgroups.x) * WORKGROUP_SIZE + lane;
    if (line >= params.lines) { return; }
    let first = line * params.line_stride;
    var most = LOWEST;
    for (var i = 0u; i < params.length; i++) {
        let at = first + i * params.step;
        if (is_open(at) && is_finite(logits_get(at))) { most = max(most, logits_get(at)); }
    }
    var sum = 0.0;
    for (var i = 0u; i < params.length; i++) {
        let at = first + i * params.step;
        if (is_open(at)) { sum += power(logits_get(at), most); }
    }
    stats[params.stats_first + 2u * line] = most;
    if (!is_nan(sum)) { sum = select(1.0 / sum, 0.0, sum == 0.0); } // a line that is masked as a whole weighs nothing
    stats[params.stats_first + 2u * line + 1u] = sum;
}
