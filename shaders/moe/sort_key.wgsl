// Numbers as integers of the same order; NaN comes before every number, and 0 is left for what has no place at all.

const KEY_OF_NAN: u32 = 1u;

fn sort_key(value: f32) -> u32 {
    let bits = bitcast<u32>(value);
    if ((bits & 0x7fffffffu) > 0x7f800000u) { return KEY_OF_NAN; }
    if (bits == 0x80000000u) { return 0x80000000u; } // −0 is 0
    return select(bits | 0x80000000u, ~bits, bits >> 31u == 1u);
}

// The number of a key that is no NaN's.
fn number_of_key(key: u32) -> f32 {
    return bitcast<f32>(select(~key, key & 0x7fffffffu, key >> 31u == 1u));
}
