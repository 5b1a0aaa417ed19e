// Maximum of a line of logits and the inverse sum of its exponentials: over tokens for a slot, over slots for a token. A lane a line.
// Where one of them is NaN, or +inf, the sum is NaN. Of a line whose elements come in parts the next go on with what is there.

@compute @workgroup_size(WORKGROUP_SIZE)
fn moe_soft_stats(
    @builtin(workgroup_id) workgroup: vec3<u32>, @builtin(num_workgroups) workgroups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let line = params.line_first + (workgroup.x + workgroup.y * workgroups.x) * WORKGROUP_SIZE + lane;
    if (line >= params.line_end) { return; }
    let own = params.stats_first + 2u * line;
    let begins = params.first == 0u;
    var most = LOWEST;
    if (!begins) { most = stats[own]; }
    let before = most;
    for (var i = params.first; i < params.end; i++) {
        let at = line * params.line_stride + i * params.step;
        if (is_open(at) && is_finite(logits_get(at))) { most = max(most, logits_get(at)); }
    }
    var sum = 0.0;
    if (!begins) {
        let inverse = stats[own + 1u];
        if (is_nan(inverse)) { sum = inverse; } else if (inverse > 0.0) { sum = exp(before - most) / inverse; }
    }
    for (var i = params.first; i < params.end; i++) {
        let at = line * params.line_stride + i * params.step;
        if (is_open(at)) { sum += power(logits_get(at), most); }
    }
    if (!is_nan(sum)) { sum = select(1.0 / sum, 0.0, sum == 0.0); } // a line that is masked as a whole weighs nothing
    stats[own] = most;
    stats[own + 1u] = sum;
}
