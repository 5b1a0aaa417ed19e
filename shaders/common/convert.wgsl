// f32 → f16 and bf16 bits, rounding to nearest even; pack2x16float leaves the rounding and what overflows to the driver.

fn to_f16(value: f32) -> u32 {
    let bits = bitcast<u32>(value);
    let sign = (bits >> 16u) & 0x8000u;
    let magnitude = bits & 0x7fffffffu;
    if (magnitude > 0x7f800000u) { return sign | 0x7e00u; }
    if (magnitude >= 0x477ff000u) { return sign | 0x7c00u; } // rounds past 65504
    if (magnitude < 0x38800000u) {
        // Subnormal: adding 0.5 leaves the value's multiples of 2^-24, rounded, in the sum's last bits.
        let sum = bitcast<u32>(bitcast<f32>(magnitude) + 0.5);
        return sign | (sum - 0x3f000000u);
    }
    let odd = (magnitude >> 13u) & 1u;
    return sign | ((magnitude + 0xc8000fffu + odd) >> 13u);
}

fn to_bf16(value: f32) -> u32 {
    let bits = bitcast<u32>(value);
    if ((bits & 0x7fffffffu) > 0x7f800000u) { return (bits >> 16u) | 0x40u; }
    return (bits + 0x7fffu + ((bits >> 16u) & 1u)) >> 16u;
}
