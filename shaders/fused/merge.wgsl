// Merges partial results: out = sum of out_i * exp(lse_i - lse), or their plain sum where parts have no lse.
// A lane owns four dims of a row.

const NO_KEY: u32 = 0xff800000u; // the bits of minus infinity: a part without keys counts nothing
const INFINITE: u32 = 0x7f800000u; // the bits of infinity: such a part is as one whose lse is NaN
const QUIET: u32 = 0x00400000u; // makes NaN of them

@compute @workgroup_size(WORKGROUP_SIZE)
fn fused_merge(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(num_workgroups) workgroups: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let index = (workgroup.x + workgroup.y * workgroups.x) * WORKGROUP_SIZE + lane;
    let row = index / VALUE_VECS;
    let d = index % VALUE_VECS * 4u;
    if (row >= params.rows) { return; }
    var highest = LOWEST;
    if (!PLAIN_SUM) {
        for (var first = 0u; first < params.parts; first += PARTS_ASKED) {
            for (var i = 0u; i < PARTS_ASKED; i++) {
                let bits = part_lse(min(first + i, params.parts - 1u), row);
                if (bits != NO_KEY) { highest = max(highest, bitcast<f32>(bits)); }
            }
        }
    }
    // Parts weigh so little that together they weigh 1 at most: their sum does not outgrow f32 where the result does not.
    let share = select(params.part_share, 1.0, PLAIN_SUM);
    var sum = 0.0;
    var acc = vec4(0.0);
    // Memory is asked for several parts at once; the last one may come again and counts once.
    for (var first = 0u; first < params.parts; first += PARTS_ASKED) {
        for (var i = 0u; i < PARTS_ASKED; i++) {
            let part = min(first + i, params.parts - 1u);
            let value = outs_load4(params.outs_first + part * params.outs_part_stride + row * params.outs_row_stride, d);
            let bits = select(part_lse(part, row), 0u, PLAIN_SUM);
            if (part == first + i && bits != NO_KEY) {
                let lse = bitcast<f32>(bits | select(0u, QUIET, bits == INFINITE));
                let weight = select(nan_kept(exp(lse - highest), lse), 1.0, PLAIN_SUM);
                sum += weight;
                acc = fma(value, vec4(weight * share), acc);
            }
        }
    }
    let place = place_of(row % params.queries);
    let head = params.head_first + row / params.queries % params.heads;
    let batch = params.batch_first + row / params.queries / params.heads;
    if (HAS_OUT) {
        var scale = select(1.0 / sum, 1.0, PLAIN_SUM) / share;
        if (HAS_GATE) { scale *= head_gate(batch, head, place); }
        out_store4(out_row(batch, head, place), d, select(acc * scale, vec4(0.0), sum == 0.0 || scale == 0.0));
    }
    if (HAS_LSE && d == 0u) { lse_store(lse_row(batch, head, place), highest + nan_kept(log(sum), sum), sum == 0.0); }
}
