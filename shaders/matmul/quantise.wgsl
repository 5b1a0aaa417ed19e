// Rounds rows to MXINT8: blocks of 32 numbers become signed bytes and a power of two. A lane has four numbers of a block, eight
// neighbouring lanes have all. Words of bytes come first, a row after the other, then the scales.

var<workgroup> wg_largest: array<u32, WORKGROUP_SIZE>;

@compute @workgroup_size(WORKGROUP_SIZE)
fn quantise_mxint8(
    @builtin(workgroup_id) workgroup: vec3<u32>, @builtin(num_workgroups) workgroups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let words = params.rows * (params.inner / 4u);
    let index = (workgroup.x + workgroup.y * workgroups.x) * WORKGROUP_SIZE + lane;
    let at = min(index, words - 1u);
    let row = at / (params.inner / 4u);
    let numbers = x_load4(params.x_first + (params.row_first + row) * params.x_stride, at % (params.inner / 4u) * 4u);
    // As integers magnitudes have the order of their numbers, NaN above all.
    let sizes = bitcast<vec4<u32>>(numbers) & vec4(0x7fffffffu);
    wg_largest[lane] = max(max(sizes.x, sizes.y), max(sizes.z, sizes.w));
    workgroupBarrier();
    var largest = 0u;
    for (var i = 0u; i < 8u; i++) { largest = max(largest, wg_largest[lane / 8u * 8u + i]); }
    if (index >= words) { return; }
    let exponent = clamp(largest >> 23u, 7u, 254u);
    let finite = largest < 0x7f800000u;
    let rounded = clamp(round(numbers * bitcast<f32>((260u - exponent) << 23u)), vec4(-127.0), vec4(127.0));
    bytes[index] = pack4xI8(vec4<i32>(select(vec4(0.0), rounded, finite)));
    if (index % 8u == 0u) { bytes[words + index / 8u] = select(0x7fc00000u, (exponent - 6u) << 23u, finite); }
}
