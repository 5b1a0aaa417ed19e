// Neighborhood attention without tiles: an invocation owns a query and walks its window, key by key.

@group(0) @binding(0) var<storage, read> q: array<vec4<f32>>;
@group(0) @binding(1) var<storage, read> k: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read> v: array<vec4<f32>>;
@group(0) @binding(3) var<storage, read_write> out: array<vec4<f32>>;

@compute @workgroup_size(64)
fn neighborhood_naive(@builtin(global_invocation_id) id: vec3<u32>) {
    if (id.x >= HEIGHT * WIDTH * HEADS) { return; }
    let head = id.x % HEADS;
    let token = vec2(id.x / HEADS / WIDTH, id.x / HEADS % WIDTH);
    let extent = vec2(HEIGHT, WIDTH);
    let leader = min(token / STRIDE * STRIDE + STRIDE / 2u, extent - 1u);
    let first = min(max(leader, WINDOW / 2u) - WINDOW / 2u, extent - WINDOW);
    let row = id.x * VECS;
    var query: array<vec4<f32>, VECS>;
    var acc: array<vec4<f32>, VECS>;
    for (var d = 0u; d < VECS; d++) { query[d] = q[row + d]; }
    var m = -3.0e38;
    var l = 0.0;
    for (var y = first.x; y < first.x + WINDOW.x; y++) {
        for (var x = first.y; x < first.y + WINDOW.y; x++) {
            let key = ((y * WIDTH + x) * HEADS + head) * VECS;
            var score = 0.0;
            for (var d = 0u; d < VECS; d++) { score += dot(query[d], k[key + d]); }
            let highest = max(m, score * SCALE);
            let rescale = exp(m - highest);
            let weight = exp(score * SCALE - highest);
            m = highest;
            l = l * rescale + weight;
            for (var d = 0u; d < VECS; d++) { acc[d] = acc[d] * rescale + v[key + d] * weight; }
        }
    }
    for (var d = 0u; d < VECS; d++) { out[row + d] = acc[d] / l; }
}

// Reads q and writes out: what is left of attention without keys.
@compute @workgroup_size(64)
fn queries_copied(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    for (var i = 0u; i < VECS; i++) {
        let at = (workgroup.x * VECS + i) * 64u + lane;
        if (at < HEIGHT * WIDTH * HEADS * VECS) { out[at] = q[at]; }
    }
}
