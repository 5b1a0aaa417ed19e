// A block of a row of bytes.
fn a_block(offset: u32, d: u32) -> Bytes {
    let at = offset + d;
    let scale = params.a_scales + at / 32u;
    return Bytes(a[at / 16u], a[at / 16u + 1u], bitcast<f32>(a[scale / 4u][scale % 4u]));
}
