// Twelve chains of multiply-adds in registers: what a device computes at most when nothing else holds it up.

@compute @workgroup_size(WORKGROUP_SIZE)
fn measure_multiply_add(@builtin(global_invocation_id) id: vec3<u32>) {
    let factor = vec4(params.factor);
    let addend = vec4(params.addend);
    var a = vec4(f32(id.x), 1.0, 2.0, 3.0);
    var b = a + vec4(4.0);
    var c = a + vec4(8.0);
    for (var i = 0u; i < params.loops; i++) {
        for (var unrolled = 0u; unrolled < UNROLLED; unrolled += 4u) {
            a = fma(a, factor, addend);
            b = fma(b, factor, addend);
            c = fma(c, factor, addend);
            a = fma(a, factor, addend);
            b = fma(b, factor, addend);
            c = fma(c, factor, addend);
            a = fma(a, factor, addend);
            b = fma(b, factor, addend);
            c = fma(c, factor, addend);
            a = fma(a, factor, addend);
            b = fma(b, factor, addend);
            c = fma(c, factor, addend);
        }
    }
    // Stored, so that no compiler drops the chains.
    let sum = a + b + c;
    result[id.x] = sum.x + sum.y + sum.z + sum.w;
}
